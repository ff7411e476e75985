"""Measure this chapter's kernels on one GPU: speed beside pinned baselines, and memory.

    python 07_systems/gpu_benchmark.py                  # all tables; made for under ten minutes
    python 07_systems/gpu_benchmark.py --table attention rows
    python 07_systems/gpu_benchmark.py --tune           # other tiles for attention
    python 07_systems/gpu_benchmark.py --show           # what was measured, as the lesson's tables
    python 07_systems/gpu_benchmark.py --dry            # every line, tiny, on a CPU: no numbers

Writes one raw JSON per table, with the hardware and the versions, to 07_systems/measured/, each as
soon as it is done. Random inputs; medians of three repeats, with their spread; the ceilings (a
matrix product, a copy) and the rivals are measured in the same call. `check` comes first: what the
interpreter cannot prove, races, shows as bits that change from run to run. But: one GPU.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from artifacts import CommandLine, BadInput, command, read_json, shown, write_json
from flash_attention import attention_kernels, flash_attention, naive_attention
from fused_kernels import cross_entropy_, fused_swiglu, linear_cross_entropy, rms_norm
from gpt import swiglu
from hardware import hardware
from training_speed import TRAINING_TABLES

MEASURED = Path(__file__).resolve().parent / "measured"
# (batch, heads, head size, length): the shape, the class record's, and a curve over length.
SHAPES = [(2, 16, 128, 8192), (1, 16, 64, 16384),
          *((16384 // T, 16, 128, T) for T in (1024, 2048, 4096, 16384))]
# What `check` compares with fp64: batch, heads, key heads, queries, keys, head size, causal.
CHECKED = [(2, 4, 2, 300, 300, 64, True), (1, 2, 2, 129, 333, 128, True),
           (1, 2, 1, 257, 190, 80, False)]
RIVALS = {"FlashAttention-2": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION}
# Tiles that compile for sm_90 without a spill, as attention_kernels.TILES: the shipped ones first.
CANDIDATES = {
    ("forward", 64): [(128, 64, 8, 3, None), (128, 128, 8, 2, None), (64, 64, 4, 3, None),
                      (128, 64, 4, 3, None), (64, 128, 4, 2, None)],
    ("forward", 128): [(128, 64, 8, 2, 128), (128, 64, 8, 3, None), (128, 128, 8, 2, None),
                       (64, 64, 4, 2, None), (64, 128, 4, 2, None)],
    ("dq", 64): [(128, 64, 8, 3, None), (128, 128, 8, 2, None), (64, 64, 4, 3, None),
                 (64, 128, 4, 2, None)],
    ("dq", 128): [(64, 64, 4, 2, None), (128, 64, 8, 2, None), (128, 32, 8, 2, 128)],
    ("dkdv", 64): [(64, 64, 4, 3, None), (64, 64, 4, 2, None), (64, 128, 8, 3, None),
                   (32, 128, 8, 3, None)],
    ("dkdv", 128): [(64, 64, 4, 2, None), (64, 128, 8, 2, None), (32, 128, 8, 2, None),
                    (32, 64, 4, 3, None)]}


def milliseconds(run: Callable, dry: bool = False, repeats: int = 3, budget: float = 0.25) -> dict:
    """Median time of `run()` in ms over three repeats of `budget` seconds each, and their spread.

    On the GPU by its own clock, with the L2 cache overwritten before each call: the first touch
    of the inputs belongs to the work."""
    if dry:
        start = time.perf_counter()
        run()
        return {"ms": (time.perf_counter() - start) * 1e3, "spread": [0, 0]}
    flush = torch.empty(256 * 2**20, dtype=torch.int8, device="cuda")
    for _ in range(3):                          # compiles, picks algorithms, warms up
        run()
    medians, count = [], 3
    for repeat in range(repeats + 1):           # the first only finds out how many calls fit
        pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)]
        for start, end in pairs:
            flush.zero_()
            start.record()
            run()
            end.record()
        torch.cuda.synchronize()
        medians.append(statistics.median(start.elapsed_time(end) for start, end in pairs))
        count = max(5, min(100, int(budget * 1e3 / medians[0])))
    return {"ms": statistics.median(medians[1:]), "spread": [min(medians[1:]), max(medians[1:])]}


def randn(*shape: int, dtype: torch.dtype = torch.bfloat16, device: str = "cuda") -> Tensor:
    """Random numbers to be trained on; zeros would make any GPU look faster than it is."""
    return torch.randn(shape, device=device, dtype=torch.float32).to(dtype).requires_grad_()


def ceilings(device: str, dry: bool) -> dict:
    """What this GPU reaches at best, now: a bf16 matrix product, and a copy (read and write)."""
    n = 64 if dry else 8192
    a, b = (randn(n, n, device=device).detach() for _ in range(2))
    x = torch.empty((2**10 if dry else 2**30) // 2, dtype=torch.bfloat16, device=device)
    y = torch.empty_like(x)
    return {"matmul_tflops": 2 * n**3 / milliseconds(lambda: a @ b, dry)["ms"] / 1e9,
            "copy_tb_s": 2 * x.nbytes / milliseconds(lambda: y.copy_(x), dry)["ms"] / 1e9}


def check_table(device: str, dry: bool) -> dict:
    """Errors against fp64 by dtype and shape, forward and backward; do 20 runs give equal bits?"""
    rows = []
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for B, H, heads, T, S, D, causal in CHECKED[:1 if dry else 3]:
            T, S = (40, 40) if dry else (T, S)
            q, k, v = (randn(B, h, n, D, dtype=dtype, device=device)
                       for h, n in ((H, T), (heads, S), (heads, S)))
            d_o = torch.randn(q.shape, device=device).to(dtype)
            wide = [t.detach().double().requires_grad_() for t in (q, k, v)]
            exact = naive_attention(wide[0], *(t.repeat_interleave(H // heads, 1)
                                               for t in wide[1:]), causal=causal)
            want = [exact, *torch.autograd.grad(exact, wide, d_o.double())]
            runs = []
            for _ in range(2 if dry else 20):
                o = flash_attention(q, k, v, causal)
                runs.append([o.detach(), *torch.autograd.grad(o, (q, k, v), d_o)])
            errors = [((a.double() - b).abs().max() / b.abs().max()).item()
                      for a, b in zip(runs[0], want)]
            same = all(torch.equal(a, b) for run in runs for a, b in zip(run, runs[0]))
            rows.append({"dtype": str(dtype)[6:], "shape": [B, H, heads, T, S, D],
                         "causal": causal, "same_bits": same,
                         "errors": dict(zip(("o", "dq", "dk", "dv"), errors))})
    allowed = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 3e-2}
    right = all(row["same_bits"] and max(row["errors"].values()) < allowed[row["dtype"]]
                for row in rows)
    return {"rows": rows, "right": right}


def attend_by(backend: SDPBackend | None, dry: bool) -> Callable:
    """Causal attention by our kernels (None), or by one backend of torch, pinned."""
    if backend is None:
        return flash_attention

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH if dry else backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return attend


def attention_table(device: str, dry: bool) -> dict:
    """Forward, backward and both, causal, bf16: TFLOP/s (causal counts half, backward 2.5 times
    forward) of our kernels and of torch's FlashAttention-2 and cuDNN."""
    rows = []
    for B, H, D, T in SHAPES[:2] if dry else SHAPES:
        B, H, T = (1, 1, 64) if dry else (B, H, T)
        q, k, v = (randn(B, H, T, D, device=device) for _ in range(3))
        d_o, flops = torch.randn_like(q), 2 * B * H * T * T * D
        row = {"batch": B, "heads": H, "head": D, "length": T}
        for name, backend in {"ours": None, **RIVALS}.items():
            attend = attend_by(backend, dry)
            try:
                o = attend(q, k, v)
                with torch.no_grad():
                    forward = milliseconds(lambda: attend(q, k, v), dry)
                backward = milliseconds(lambda: torch.autograd.grad(o, (q, k, v), d_o,
                                                                    retain_graph=True), dry)
                both = milliseconds(lambda: torch.autograd.grad(attend(q, k, v), (q, k, v), d_o),
                                    dry)
            except RuntimeError as why:         # a backend that this machine does not have
                row[name] = {"error": str(why).splitlines()[0][:100]}
                continue
            row[name] = {"forward": forward, "backward": backward, "both": both,
                         "forward_tflops": flops / forward["ms"] / 1e9,
                         "backward_tflops": 2.5 * flops / backward["ms"] / 1e9}
        if not dry:
            row["rung 4"] = rung_4(q, k, v, flops)
        rows.append(row)
    return {"ceilings": ceilings(device, dry), "rows": rows}


def rung_4(q: Tensor, k: Tensor, v: Tensor, flops: float) -> dict:
    """The warp-specialised forward: its greatest distance from rung 3, and its speed."""
    try:
        from specialised_attention import launch
        with torch.no_grad():
            gap = (launch(q, k, v, True)[0].float() - flash_attention(q, k, v).float()).abs().max()
            forward = milliseconds(lambda: launch(q, k, v, True), False)
    except (ImportError, AttributeError, RuntimeError, ValueError) as why:  # an older Triton
        return {"error": str(why).splitlines()[0][:100]}
    return {"forward": forward, "forward_tflops": flops / forward["ms"] / 1e9,
            "distance_from_rung_3": gap.item()}


def rows_table(device: str, dry: bool) -> dict:
    """Kernels that memory limits: TB/s by the least bytes that must move, beside torch.compile."""
    n, C, V = (8, 64, 64) if dry else (16384, 4096, 50304)
    x, w, dy = randn(n, C, device=device), randn(C, device=device), randn(n, C, device=device)
    gate, up, logits = (randn(n, c, device=device) for c in (C, C, V))
    targets, one = torch.randint(V, (n,), device=device), 2 * n * C    # bytes of an (n, C) tensor
    scratch = logits.detach().clone()
    build = (lambda f: f) if dry else torch.compile
    norm, gated, loss = (build(f) for f in (
        lambda x, w: F.rms_norm(x, w.shape, w, 1e-6), swiglu,
        lambda z, t: F.cross_entropy(z.float(), t)))
    rows = []
    for name, bytes_, ours, theirs in [
            ("RMSNorm forward", 2 * one, lambda: rms_norm(x, w), lambda: norm(x, w)),
            ("RMSNorm backward", 3 * one, backward_of(lambda: rms_norm(x, w), (x, w), dy),
             backward_of(lambda: norm(x, w), (x, w), dy)),
            ("SwiGLU forward", 3 * one, lambda: fused_swiglu(gate, up), lambda: gated(gate, up)),
            ("SwiGLU backward", 5 * one,
             backward_of(lambda: fused_swiglu(gate, up), (gate, up), dy),
             backward_of(lambda: gated(gate, up), (gate, up), dy)),
            ("cross-entropy with gradient", 2 * 2 * n * V, lambda: cross_entropy_(scratch, targets),
             lambda: torch.autograd.grad(loss(logits, targets), logits))]:
        row = {"kernel": name, "bytes": bytes_}
        for who, run in (("ours", ours), ("torch.compile", theirs)):
            timed = milliseconds(run, dry)
            row[who] = {**timed, "tb_s": bytes_ / timed["ms"] / 1e9}
        rows.append(row)
    return {"ceilings": ceilings(device, dry), "rows": rows}


def backward_of(forward: Callable, inputs: tuple, dy: Tensor) -> Callable:
    """Only the backward pass of `forward`, again and again on one graph."""
    y = forward()
    return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def loss_table(device: str, dry: bool) -> dict:
    """The head and its loss, forward and backward: peak memory and time, chunked against whole."""
    n, C, V, chunk = (64, 16, 96, 16) if dry else (65536, 768, 50304, 8192)
    hidden, weight = randn(n, C, device=device), randn(V, C, device=device)
    targets = torch.randint(V, (n,), device=device)
    whole = lambda h, w: F.cross_entropy((h @ w.T).float(), targets)        # noqa: E731
    rows = []
    for name, loss in [("ours, chunked", lambda h, w: linear_cross_entropy(h, w, targets, chunk)),
                       ("torch", whole), ("torch.compile", whole if dry else torch.compile(whole))]:
        run = lambda: torch.autograd.grad(loss(hidden, weight), (hidden, weight))   # noqa: E731
        timed = milliseconds(run, dry)
        rows.append({"way": name, **timed, "peak_bytes": peak_bytes(run, dry)})
    return {"rows": rows, "tokens": n, "width": C, "vocabulary": V, "chunk": chunk}


def peak_bytes(run: Callable, dry: bool) -> int:
    """Bytes that the GPU holds at most during `run()`, besides what it held before."""
    if dry:
        return 0 * len([run()])
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() - before


def tune_table(device: str, dry: bool) -> dict:
    """Every tile of CANDIDATES at its issue shape, causal; the times, the best ones first."""
    rows, shipped = [], {which: dict(sizes) for which, sizes in attention_kernels.TILES.items()}
    for (which, D), tiles in CANDIDATES.items():
        B, H, T = (1, 1, 64) if dry else next((b, h, t) for b, h, d, t in SHAPES if d == D)
        q, k, v, d_o = (randn(B, H, T, D, device=device).detach() for _ in range(4))
        o, lse = attention_kernels.launch_forward(*(t.float() if dry else t for t in (q, k, v)),
                                                  True)
        found = []
        for tile in tiles[:1] if dry else tiles:
            attention_kernels.TILES[which][D] = tile
            inputs = [t.float() if dry else t for t in (q, k, v)]
            run = ((lambda: attention_kernels.launch_forward(*inputs, True)) if which == "forward"
                   else lambda: attention_kernels.launch_backward(*inputs, o, lse, d_o.to(o.dtype),
                                                                  True))
            try:
                found.append({"kernel": which, "head": D, "tile": tile, **milliseconds(run, dry)})
            except Exception as why:            # a tile that this Triton cannot compile
                found.append({"kernel": which, "head": D, "tile": tile, "ms": float("inf"),
                              "error": str(why).splitlines()[0][:100]})
        attention_kernels.TILES[which][D] = shipped[which][D]
        rows += sorted(found, key=lambda row: row["ms"])
    return {"rows": rows}


TABLES = {"check": check_table, "attention": attention_table, "rows": rows_table,
          "loss": loss_table, **TRAINING_TABLES, "tune": tune_table}


def recorded(table: str) -> dict | None:
    """A table that was measured on a GPU and kept in 07_systems/measured/, or None."""
    path = MEASURED / f"{table}.json"
    return read_json(path, "07_systems/gpu_benchmark.py") if path.exists() else None


def main() -> None:
    """Measure the tables asked for, or show those that were."""
    parser = CommandLine(__doc__)
    parser.add_argument("--table", nargs="+", choices=list(TABLES), metavar="NAME",
                        default=[name for name in TABLES if name != "tune"], help=", ".join(TABLES))
    parser.add_argument("--tune", action="store_true", help="the same as --table tune")
    parser.add_argument("--out", type=Path, default=MEASURED, help="folder for the JSON files")
    parser.add_argument("--dry", action="store_true", help="every line once, tiny, on a CPU")
    parser.add_argument("--show", action="store_true", help="print what was measured")
    args = parser.parse_args()
    if args.show:
        from gpu_tables import show
        return show({name: recorded(name) for name in TABLES})
    if not args.dry and (not torch.cuda.is_available() or attention_kernels is None):
        raise BadInput("no GPU with Triton here: nothing can be measured (--dry tries every line "
                       "on a CPU, --show prints what was measured elsewhere)")
    folder = Path(tempfile.mkdtemp()) if args.dry else args.out
    for name in ["tune"] if args.tune else args.table:
        start = time.monotonic()
        torch.manual_seed(0)
        try:
            result = TABLES[name]("cpu" if args.dry else "cuda", args.dry)
        except torch.OutOfMemoryError as why:       # the others need not suffer
            print(f"{name:10s} does not fit on this GPU: {str(why).splitlines()[0][:100]}")
            torch.cuda.empty_cache()
            continue
        target = write_json(folder / f"{name}.json", {"machine": hardware(), **result})
        if not args.dry:
            torch.cuda.empty_cache()
        print(f"{name:10s} {time.monotonic() - start:6.1f} s -> {shown(target)}", flush=True)
        if name == "check" and not result["right"]:
            raise BadInput(f"the kernels are wrong on this machine: see {shown(target)}")
    if args.dry:
        print("dry run: every line works, and nothing was measured")


if __name__ == "__main__":
    command(main)
