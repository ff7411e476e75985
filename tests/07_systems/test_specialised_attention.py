"""Rung 4 without its GPU: its own functions played by threads, and compiled ahead of time.

Every Gluon operation that the kernel uses is played in numpy: a warp group is a thread, a barrier
a lock with a count and a phase, a TMA copy another thread that comes late and leaves NaNs until
then, an asynchronous product is computed only when it is waited for. So a slot that is read before
it is full, freed before it is read, or a turn that both wait for shows as NaN or as a dead end.
"""

import importlib.util
import math
import random
import threading
import time
import types

import numpy as np
import pytest
import torch

import ahead_of_time
from tiled_attention import tiled_forward

LACKS = "no Triton here" if importlib.util.find_spec("triton") is None else (
    ahead_of_time.lacks_gluon())
pytestmark = pytest.mark.skipif(bool(LACKS), reason=LACKS)


class Values(np.ndarray):
    def to(self, dtype):
        return self


class Whole(int):
    def to(self, dtype):
        return self

    def __floordiv__(self, other):
        return Whole(int(self) // int(other))


def values(x):
    return np.asarray(x, dtype=np.float64).view(Values)


class Shared:
    """Shared memory, or a view of it; what nobody has written yet is NaN."""
    def __init__(self, array):
        self.array = array

    def index(self, i):
        return Shared(self.array[i])

    def reshape(self, shape):
        return Shared(self.array.reshape(shape))

    def permute(self, order):
        return Shared(self.array.transpose(order))

    def store(self, value):
        self.array[...] = value


class Barrier:
    """An mbarrier: a phase ends when `count` have arrived and all expected bytes are there."""
    def __init__(self, lock):
        self.lock, self.phase, self.bytes = lock, 0, 0

    def change(self, arrivals=0, expected=0):
        with self.lock:
            self.left, self.bytes = self.left - arrivals, self.bytes + expected
            assert self.left >= 0, "more arrivals than the barrier was made for"
            if self.left == 0 and self.bytes == 0:
                self.phase, self.left = self.phase + 1, self.count
                self.lock.notify_all()

    def wait(self, phase):
        with self.lock:
            assert self.lock.wait_for(lambda: self.phase & 1 != phase, timeout=20), "a dead end"


class Machine:
    """One GPU program at a time, with late copies."""
    def __init__(self, program, seed):
        self.program, self.random = program, random.Random(seed)
        self.lock, self.copies, self.failed = threading.Condition(), [], []
        lock = self.lock
        many = lambda batch: (types.SimpleNamespace(index=[Barrier(lock) for _ in range(batch)]
                                                    .__getitem__) if batch else Barrier(lock))
        self.names = {
            "mbarrier": types.SimpleNamespace(
                allocate_mbarrier=lambda batch=None: many(batch), init=self.init,
                expect=lambda bar, size: bar.change(1, size), wait=Barrier.wait,
                arrive=lambda bar: bar.change(1)),
            "tma": types.SimpleNamespace(async_load=self.load, async_store=self.store,
                                         store_wait=lambda n: None),
            "warpgroup_mma": self.product, "fence_async_shared": lambda: None,
            "warpgroup_mma_wait": lambda n, deps: tuple(values(d()) for d in deps),
            "ROWS": 64, "STAGES": 2, "gl": self.language(), "tl": types.SimpleNamespace(
                maximum=np.maximum, exp2=np.exp2, minimum=min, where=np.where,
                max=lambda x, axis: x.max(axis), sum=lambda x, axis: x.sum(axis))}

    def language(self):
        nothing = lambda *args: None
        return types.SimpleNamespace(
            program_id=lambda axis: Whole(self.program), cdiv=lambda a, b: -(-a // b),
            arange=lambda a, b, layout: np.arange(a, b).view(Values), static_range=range,
            zeros=lambda shape, *_: values(np.zeros(shape)), float32=None, int64=None,
            full=lambda shape, value, *_: values(np.full(shape, value)),
            where=lambda c, a, b: values(np.where(c, a, b)), convert_layout=lambda x, _: x,
            log2=np.log2, SliceLayout=nothing, NVMMADistributedLayout=nothing,
            DotOperandLayout=nothing, warp_specialize=self.side_by_side, store=self.write,
            allocate_shared_memory=lambda dtype, shape, _: Shared(np.full(shape, np.nan)))

    def init(self, bar, count):
        bar.count = bar.left = count

    def product(self, a, b, acc, use_acc=True, is_async=False):
        """Computed when it is waited for: whoever frees its operands before that is caught."""
        array = lambda x: x.array if isinstance(x, Shared) else x
        later = lambda: array(a) @ array(b) + (acc if use_acc else 0)
        return later if is_async else values(later())

    def load(self, tile, at, bar, into):
        """A late copy: rubbish at once, the tile and the barrier's bytes after a moment."""
        into.array[...] = np.nan

        def copy():
            time.sleep(self.random.random() * 0.003)
            into.array[...] = 0                             # TMA fills with zeros outside
            rows = tile.array[at[0], at[1]:at[1] + into.array.shape[-2]]
            into.array[0, :len(rows)] = rows
            try:
                bar.change(expected=-tile.nbytes_per_cta)
            except AssertionError as why:
                self.failed.append(why)
        self.copies.append(threading.Thread(target=copy))
        self.copies[-1].start()

    def store(self, tile, at, source):
        room = tile.array[at[0], at[1]:at[1] + source.array.shape[-2]]
        room[...] = source.array[0, :len(room)]

    def write(self, pointer, value, mask):
        pointer.array[pointer.offset[mask]] = value[mask]

    def side_by_side(self, parts, warps, registers):
        assert len(parts) == len(warps) + 1 == 3, "two consumers and a producer"

        def run(part, arguments):
            try:
                part(*arguments)
            except BaseException as why:                    # shown by the test's own thread
                self.failed.append(why)
        threads = [threading.Thread(target=run, args=part) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for copy in self.copies:
            copy.join()
        if self.failed:
            raise self.failed[0]


class Pointer:
    """LSE: adding numbers to it gives where to write."""
    def __init__(self, array, offset=0):
        self.array, self.offset = array, offset

    def __add__(self, more):
        return Pointer(self.array, self.offset + np.asarray(more))


def tile_of(array, rows):
    return types.SimpleNamespace(array=array, nbytes_per_cta=rows * array.shape[-1] * 2,
                                 dtype=None, layout=None)


def play(q, k, v, causal, N, seed=0):
    """The kernel over all its programs; o and LSE."""
    import attention_kernels
    import specialised_attention as rung_4
    (H, T, D), (heads, S) = q.shape, k.shape[:2]
    o, lse = np.full_like(q, np.nan), np.full(H * T, np.nan)
    for program in range(-(-T // 128) * H):
        machine = Machine(program, seed + program)
        for module, names in ((attention_kernels, ("seen_by", "softmax_step", "tiles_of")),
                              (rung_4, ("produce", "take_turn", "exponentials", "consume",
                                        "specialised_kernel"))):
            for name in names:
                plain = getattr(module, name).fn
                machine.names[name] = types.FunctionType(plain.__code__, machine.names)
        machine.names["specialised_kernel"](
            tile_of(q, 64), tile_of(k, N), tile_of(v, N), tile_of(o, 64), Pointer(lse), H,
            H // heads, T, S, math.log2(math.e) / math.sqrt(D), causal, D, N)
    return o, lse.reshape(H, T)


@pytest.mark.parametrize("H, heads, T, S, causal", [
    (1, 1, 128, 128, True), (2, 1, 256, 256, True), (1, 1, 200, 330, True), (1, 1, 70, 500, False),
    (2, 2, 300, 300, True), (1, 1, 1, 260, True)])
def test_its_schedule_played_by_threads_equals_exact_attention(H, heads, T, S, causal):
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((h, n, 64)) for h, n in ((H, T), (heads, S), (heads, S)))
    q[:, 0] *= 30                                           # scores that overflow without a maximum
    got, lse = play(q, k, v, causal, N=64)
    wide = [torch.tensor(np.repeat(x, H // x.shape[0], axis=0)) for x in (q, k, v)]
    want, want_lse = tiled_forward(*wide, causal)
    assert np.abs(got - want.numpy()).max() < 1e-12, "attention of the played kernel"
    assert np.abs(lse - want_lse.numpy()).max() < 1e-10, "its log-sum-exp"


@pytest.mark.parametrize("change, why", [
    (("mbarrier.wait(k_full.index(slot), j // STAGES & 1)", "pass"), "reads K before it is there"),
    (("mbarrier.wait(k_free.index(slot), phase ^ 1)", "pass"), "overwrites K that is still read"),
    (("mbarrier.arrive(turn.index(1 - me))\n        # The", "pass\n        # The"), "keeps the turn"),
    (("acc *= gl.convert_layout(shrink", "acc * gl.convert_layout(shrink"), "forgets to shrink")])
def test_a_schedule_with_a_mistake_is_caught(change, why, monkeypatch):
    import inspect

    import specialised_attention as rung_4
    for name in ("produce", "consume"):
        source = inspect.getsource(getattr(rung_4, name).fn)
        source = source[source.index("def "):]
        if change[0] in source:
            scope = {"gl": types.SimpleNamespace(constexpr=int)}
            exec(source.replace(change[0], change[1], 1), scope)
            monkeypatch.setattr(rung_4, name, types.SimpleNamespace(fn=scope[name]))
            break
    else:
        raise AssertionError(f"the mistake does not fit into the kernel any more: {change[0]}")
    rng = np.random.default_rng(1)
    q, k, v = (rng.standard_normal((1, n, 64)) for n in (128, 512, 512))
    monkeypatch.setattr(threading.Condition, "wait_for", short_wait(threading.Condition.wait_for))
    want = tiled_forward(*(torch.tensor(x) for x in (q, k, v)), False)[0].numpy()

    def goes_wrong(seed):
        try:
            got, _ = play(q, k, v, False, N=64, seed=seed)
            return not np.abs(got - want).max() < 1e-6
        except AssertionError:
            return True
    # A race may be won now and then, on a busy machine more often: not five times.
    assert any(map(goes_wrong, range(5))), f"a kernel that {why} passes"


def short_wait(original):
    return lambda self, predicate, timeout=None: original(self, predicate, min(timeout, 2))


@pytest.mark.parametrize("head", [64, 128])
def test_compiled_for_hopper_it_has_three_parts_and_nothing_spills(head):
    row, = ahead_of_time.in_a_child(f"t.compile_rung_4({head})")
    assert row["threads"] == 384, f"two groups of 128 threads and a producer's: {row}"
    assert row["stack"] == 0, f"registers are spilled to memory: {row}"
    assert row["shared"] <= ahead_of_time.SHARED_MEMORY, f"does not fit on a processor: {row}"
    assert row["wgmma"] == 2 * 4 * (head // 16 + 128 // 16) / 2 and row["tma"] >= 6, row
    assert row["parts"][0] >= 240 and row["parts"][-1] == 24, (
        f"consumers get the registers, the producer gives its own away: {row}")
    assert row["waits"] >= 12 and row["arrivals"] >= 12, f"barriers between the parts: {row}"
