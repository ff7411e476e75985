"""machine.py and ranks.py: another kernel, another number of processes, the same numbers."""

import multiprocessing
import os
import socket

import pytest
import torch

from gpt import GPT, GPTConfig, causal_attention
from machine import can_compile, fitted, fused_attention
from ranks import join
from training_loop import Recipe, make_optimizers, training_steps

torch.set_num_threads(1)
CONFIG = GPTConfig(vocab_size=40, sequence_length=16, layers=2, width=32, heads=2)


@pytest.mark.parametrize("T, T_total", [(6, 6), (1, 6), (3, 6)])
def test_the_fused_kernel_equals_the_five_plain_lines(T, T_total):
    torch.manual_seed(0)
    q, (k, v) = torch.randn(2, 3, T, 8), torch.randn(2, 2, 3, T_total, 8)
    mask = torch.rand(2, 1, T, T_total) > 0.3
    mask[..., 0] = True                     # every query sees something
    for which in (None, mask):
        gap = (fused_attention(q, k, v, which) - causal_attention(q, k, v, which)).abs().max()
        assert gap < 1e-5, f"{T} queries on {T_total} keys, mask {which is not None}: {gap:.1e}"


def test_no_compiler_no_compiling(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    model, cpu = GPT(CONFIG), torch.device("cpu")
    assert not can_compile(cpu) and can_compile(torch.device("cuda"))
    assert fitted(model, cpu, compiling=True) is model and "slower" in capsys.readouterr().out


def uneven(step: int, rank: int, world: int):
    """Rows that count up; every other one, so all of one rank's, has only five targets."""
    start = torch.randint(0, 40, (16, 1), generator=torch.Generator().manual_seed(step))
    rows = (start + torch.arange(17)) % 40
    ids, targets = rows[:, :-1], rows[:, 1:].clone()
    targets[1::2, 5:] = -100
    return ids[rank::world], targets[rank::world]


def losses_of(rank: int, world: int, port: int, queue) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port))
    torch.manual_seed(0)
    model, ranks = GPT(CONFIG), join("cpu", seconds=20)
    optimizers = make_optimizers(model, Recipe())
    records = training_steps(ranks.wrap(model), optimizers,
                             lambda step: uneven(step, rank, world), 4, Recipe(), accumulate=2,
                             average=ranks.average if world > 1 else None)
    queue.put((rank, [r["loss"] for r in records]))
    ranks.leave()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its ranks by fork")
def test_two_ranks_train_as_one_even_with_unlike_numbers_of_targets():
    fork, found = multiprocessing.get_context("fork"), {}
    for world in (1, 2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        queue = fork.Queue()
        children = [fork.Process(target=losses_of, args=(rank, world, port, queue))
                    for rank in range(world)]
        for child in children:
            child.start()
        found[world] = dict(queue.get(timeout=60) for _ in children)
        for child in children:
            child.join(20)
    assert found[2][0] == found[2][1], "ranks report different losses for one update"
    assert found[2][0] == pytest.approx(found[1][0], abs=1e-3), \
        "a rank with fewer targets should weigh less: the mean is over tokens, not over ranks"


def test_auto_takes_a_gpu_only_if_there_is_one_for_each_process(monkeypatch):
    from ranks import device_named
    for gpus, processes, expected in ((0, 1, "cpu"), (1, 1, "cuda"), (1, 2, "cpu"), (2, 2, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert device_named("auto").type == expected, f"{gpus} GPUs, {processes} processes"
