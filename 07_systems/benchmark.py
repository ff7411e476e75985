"""Measure the systems of this chapter: memory, attention, data parallel and ZeRO.

    python 07_systems/benchmark.py                      # every table, about a minute
    python 07_systems/benchmark.py --table zero         # one of them
    python 07_systems/benchmark.py --quick

Reads nothing, writes out/07_systems/<table>.json and .png, and records the claims of the article
about systems. Every JSON carries the hardware and the versions. But: without a GPU there is no
speed of kernels here, and the tables say so; multi-GPU speed is never claimed from one machine.
"""

import argparse
import platform
import time
from pathlib import Path

import torch

from artifacts import command, is_current, mark_made, out, record_claim, write_json
from equality import DATA_PARALLEL, compare
from flash_attention import TiledAttention, attention_kernels, flash_attention, naive_attention
from gpt import GPT, GPTConfig
from memory import bytes_by_kind, measured_bytes, plan_memory, saved_bytes, training_bytes


def machine() -> dict:
    """What the numbers were measured on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"gpu": gpu, "cpu": platform.processor() or platform.machine(),
            "python": platform.python_version(), "torch": torch.__version__,
            "threads": torch.get_num_threads()}


def memory_table(quick: bool) -> dict:
    """The accountant against real storages, for three sizes of a GPT trained one step."""
    rows = []
    for width in (64, 128) if quick else (64, 128, 256):
        model = GPT(GPTConfig(vocab_size=1024, layers=2, width=width, heads=4, sequence_length=64))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        ids = torch.zeros(4, 64, dtype=torch.long)
        activations = saved_bytes(model, ids, ids)
        model(ids, ids)[1].backward()
        optimizer.step()
        parameters = sum(p.numel() for p in model.parameters())
        rows.append({"parameters": parameters, "activations": activations,
                     "measured": measured_bytes(model.parameters(), [optimizer]),
                     "predicted": bytes_by_kind(parameters, "fp32")})
    exact = all(row["measured"] == row["predicted"] for row in rows)
    seven = {name: training_bytes(7_000_000_000, name)
             for name in ("fp32", "autocast", "mixed", "bf16")}
    per_parameter = sum(rows[-1]["measured"].values()) / rows[-1]["parameters"]
    record_claim("naive-112gb", measured="bytes per parameter of a GPT in fp32 AdamW training, "
                 "from storages, and the same account for 7 billion parameters",
                 value={"bytes_per_parameter": per_parameter, "7B_GB": seven["fp32"] / 1e9},
                 expected="112 GB for 7B, 16 bytes per parameter",
                 verdict="holds" if exact and per_parameter == 16 else "does not hold here",
                 command="python 07_systems/benchmark.py --table memory",
                 details={"activations": "extra, see the memory table", "rows": rows,
                          "limit": "a real 7B step needs one large GPU; none was at hand"
                          if not torch.cuda.is_available() else ""})
    return {"rows": rows, "seven_billion": seven, "exact": exact,
            "gpus_of_80_gb_for_7B": plan_memory(7e9, 80e9)}


def attention_table(quick: bool) -> dict:
    """What each rung of the attention ladder keeps for backward, by length; and that the kernel,
    interpreted, agrees with the naive formula in fp64."""
    rows = []
    for T in (128, 256, 512) if quick else (128, 256, 512, 1024, 2048):
        q, k, v = torch.randn(3, 1, 2, T, 32, generator=torch.Generator().manual_seed(T))
        row = {"T": T}
        for name, attend in (("naive", naive_attention), ("tiled", TiledAttention.apply)):
            module = _Attend(q, attend)
            row[f"{name}_bytes"] = saved_bytes(module, k, v)
            start = time.process_time()
            module(k, v).sum().backward()
            row[f"{name}_cpu_seconds"] = time.process_time() - start
        rows.append(row)
    return {"rows": rows, "kernel_relative_error": kernel_error(), "gpu": []}


class _Attend(torch.nn.Module):
    def __init__(self, q, attend):
        super().__init__()
        self.q, self.attend = torch.nn.Parameter(q), attend

    def forward(self, k, v):
        return self.attend(self.q, k, v, True)


def kernel_error() -> float | None:
    """The largest relative error of the Triton kernel's output and gradients against fp64."""
    if attention_kernels is None:
        return None
    generator = torch.Generator().manual_seed(0)
    fp32 = [torch.randn(1, 2, 100, 64, generator=generator).requires_grad_() for _ in range(3)]
    fp64 = [t.detach().double().requires_grad_() for t in fp32]
    ours, exact = flash_attention(*fp32), naive_attention(*fp64)
    pairs = zip([ours, *torch.autograd.grad(ours.sum(), fp32)],
                [exact, *torch.autograd.grad(exact.sum(), fp64)])
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


def zero_table(quick: bool) -> dict:
    """Data parallel and ZeRO on gloo ranks: equality with one process, bytes held, bytes sent."""
    rows = [compare(method, ranks, steps=3 if quick else 5)
            for ranks in ((2,) if quick else (2, 4)) for method in DATA_PARALLEL]
    for row in rows:
        stage = int(row["method"][-1]) if row["method"].startswith("zero") else 0
        predicted = bytes_by_kind(row["parameters"], "fp32", stage, row["ranks"])
        row |= {"stage": stage, "predicted": predicted,
                "predicted_sent": (3 if stage == 3 else 2) * 4 * row["parameters"]
                * (row["ranks"] - 1) / row["ranks"]}
    exact = all(row["held"] == row["predicted"] and row["sent"] == row["predicted_sent"]
                for row in rows)
    equal = all(row["loss_gap"] <= 1e-6 and row["weight_gap"] <= 1e-5 for row in rows)
    record_claim("zero-saves", measured="bytes of weights, gradients and optimizer per rank, and "
                 "bytes sent per step, of a GPT under ZeRO 1, 2, 3 on gloo ranks",
                 value={f"zero{r['stage']} on {r['ranks']}": sum(r["held"].values())
                        / r["parameters"] for r in rows if r["stage"]},
                 expected="8 + 8/N, 4 + 12/N, 16/N bytes per parameter in fp32, same training",
                 verdict="holds" if exact and equal else "does not hold here",
                 command="python 07_systems/benchmark.py --table zero",
                 details={"rows": rows, "limit": "bytes are exact; the speed of several GPUs "
                          "cannot be measured on one machine"})
    return {"rows": rows, "exact": exact, "equal": equal}


TABLES = {"memory": memory_table, "attention": attention_table, "zero": zero_table}


def main() -> None:
    """Measure the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", choices=["all", *TABLES], default="all")
    parser.add_argument("--out", type=Path, default=out("07_systems"), help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="small sizes, under 25 s")
    parser.add_argument("--fresh", action="store_true", help="measure again even if up to date")
    args = parser.parse_args()
    torch.manual_seed(0)
    for name in TABLES if args.table == "all" else [args.table]:
        target = args.out / f"{name}.json"
        if not args.fresh and is_current(target, [], {"quick": args.quick}):
            print(f"{name} is up to date (--fresh makes it again)")
            continue
        start = time.process_time()
        result = TABLES[name](args.quick)
        write_json(target, {"machine": machine(), "quick": args.quick, **result})
        mark_made(target, [], {"quick": args.quick})
        print(f"{name}: {time.process_time() - start:.1f} CPU-s -> {target}")


if __name__ == "__main__":
    command(main)
