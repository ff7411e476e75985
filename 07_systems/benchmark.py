"""Measure the systems of this chapter: memory, precision, attention, parallel methods, experts.

    python 07_systems/benchmark.py                      # every table, about a minute
    python 07_systems/benchmark.py --table zero         # one of them
    python 07_systems/benchmark.py --quick

Reads nothing, writes out/07_systems/<table>.json and .png, and records the claims of the article
about systems. Every JSON carries the hardware and the versions. But: all of this runs on a CPU;
the speed of kernels is gpu_benchmark.py's, and what it has left in 07_systems/measured/ is read
here for the claims. Multi-GPU speed is never claimed from one machine.
"""

import time
from pathlib import Path

import torch

from artifacts import CommandLine, Job, command, out, record_claim, shown, write_json
from equality import DATA_PARALLEL, MODEL_PARALLEL, TINY, compare
from flash_attention import TiledAttention, attention_kernels, flash_attention, naive_attention
from gpt import GPT, GPTConfig
from gpu_benchmark import MEASURED, recorded
from hardware import hardware
from memory import (activation_bytes, bytes_by_kind, measured_bytes, plan_memory, saved_bytes,
                    training_bytes)
from moe_experiment import moe_against_dense
from precision import precision_rows
from systems_figures import FIGURES

RUN = "python 07_systems/benchmark.py --table "


def memory_table(quick: bool) -> dict:
    """The accountant against real storages, for several sizes of a GPT trained one step."""
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
    real = recorded("seven_b")
    record_claim("naive-112gb", measured="bytes per parameter of GPTs in fp32 AdamW training, "
                 "from their storages, and the same account for 7 billion parameters",
                 value={"bytes_per_parameter": per_parameter, "7B_GB": seven["fp32"] / 1e9}
                 | ({"measured_7B": real["bytes_per_parameter"]} if real else {}),
                 expected="112 GB for 7B, 16 bytes per parameter",
                 verdict="holds" if exact and per_parameter == 16 else "does not hold here",
                 command=RUN + "memory",
                 details={"rows": rows, "real_7B": real, "limit": "activations come on top" + (
                     "" if real else "; a real 7B step needs one large GPU, and was not run")})
    llama = GPTConfig(vocab_size=32_000, layers=32, width=4096, heads=32, sequence_length=2048,
                      mlp="swiglu", mlp_width=11_008, qk_norm=False, mix_previous=False)
    activations = {f"{precision}, {'fused' if fused else 'T x T scores'}": activation_bytes(
        llama, 1, precision, fused) for precision in ("fp32", "bf16") for fused in (False, True)}
    return {"rows": rows, "seven_billion": seven, "exact": exact,
            "activations_of_one_2k_sequence_of_a_7B": activations,
            "gpus_of_80_gb_for_7B": plan_memory(7e9, 80e9)}


def precision_table(quick: bool) -> dict:
    """Each way to use fewer bits: bytes by kind, time of a step, loss on the same batches."""
    size = dict(layers=1, width=128) if quick else dict(layers=2, width=256)
    config = GPTConfig(vocab_size=512, heads=4, sequence_length=64 if quick else 128, **size)
    rows = precision_rows(3 if quick else 6, config, rows=4)
    by_way = {row["way"]: row for row in rows}
    full, auto, pure = (by_way[way] for way in ("fp32", "bf16 autocast", "pure bf16"))
    speed = full["seconds_per_step"] / auto["seconds_per_step"]
    halves = {kind: pure["bytes"][kind] / full["bytes"][kind] for kind in full["bytes"]}
    state = sum(auto["bytes"][kind] for kind in ("weights", "gradients", "optimizer")) / sum(
        full["bytes"][kind] for kind in ("weights", "gradients", "optimizer"))
    activations = auto["bytes"]["activations"] / full["bytes"]["activations"]
    # Halving everything needs pure bf16; with fp32 weights the state stays, activations shrink.
    verdict = ("holds" if speed > 1.1 and state <= 0.55 and activations <= 0.55 else
               "holds in part" if speed > 1.1 or activations < 0.95 else "does not hold here")
    record_claim("bf16", measured="a GPT trained in bf16 autocast and in pure bf16, against fp32: "
                 "speed, and bytes by kind",
                 value={"speed": speed, "activations": activations, "state": state,
                        "pure_bf16": halves},
                 expected="half the memory, and faster", verdict=verdict,
                 command=RUN + "precision",
                 details={"rows": rows, "why": "with fp32 master weights the state stays at 16 "
                          "bytes per parameter; only pure bf16 halves it, and loses small updates"})
    return {"rows": rows, "speed_of_bf16": speed}


def attention_table(quick: bool) -> dict:
    """What each rung of the attention ladder keeps for backward, by length; and that the kernel,
    interpreted, agrees with the naive formula in fp64."""
    rows = []
    for T in (128, 256, 512) if quick else (128, 256, 512, 1024, 2048):
        q, k, v = torch.randn(3, 1, 2, T, 32, generator=torch.Generator().manual_seed(T))
        row, tiles = {"T": T}, -(-T // 64)
        for name, attend in (("naive", naive_attention), ("tiled", TiledAttention.apply)):
            row[f"{name}_bytes"] = saved_bytes(_Attend(q, attend), k, v)
        row |= {"tiles_naive": tiles ** 2, "tiles_causal": tiles * (tiles + 1) // 2}
        rows.append(row)
    error, last, gpu = kernel_error(), rows[-1], recorded("lengths")
    ratios = {row["length"]: row["ratio"] for row in (gpu or {"rows": []})["rows"]
              if row["ratio"] and not row["compiled"]}
    verdict = ("not measurable at this scale" if not ratios else
               "holds" if ratios.get(1024, 0) >= 1.7 else
               "holds in part" if max(ratios.values()) >= 1.7 else "does not hold here")
    record_claim("flash-1.7", measured="bytes kept for backward and tiles computed by fused "
                 f"attention against naive at T = {last['T']}, and the kernel's relative error",
                 value={"bytes_saved": last["naive_bytes"] / last["tiled_bytes"],
                        "tiles_saved": last["tiles_naive"] / last["tiles_causal"],
                        "kernel_error": error, **{f"step time ratio at T = {T}": ratio
                                                  for T, ratio in ratios.items()}},
                 expected="1.7x end to end: GPT-2 at T = 1k on A100s, against Megatron-LM (Dao et "
                          "al. 2022)", verdict=verdict, command=RUN + "attention",
                 details={"rows": rows, "gpu": gpu, "limit": "a speed of kernels needs a GPU; here "
                          "bytes and tiles are counted, and the kernel is run by Triton's "
                          "interpreter" if not gpu else "chapter 4's attention is the baseline"})
    return {"rows": rows, "kernel_relative_error": error, "gpu": recorded("attention")}


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
        del row["by_payload"]
        predicted = bytes_by_kind(row["parameters"], "fp32", stage, row["ranks"])
        row |= {"stage": stage, "predicted": predicted,
                "predicted_sent": (3 if stage == 3 else 2) * 4 * row["parameters"]
                * (row["ranks"] - 1) / row["ranks"]}
    exact = all(row["held"] == row["predicted"] and row["sent"] == row["predicted_sent"]
                for row in rows)
    equal = all(row["loss_gap"] <= 1e-6 and row["weight_gap"] <= 1e-5 for row in rows)
    record_claim("zero-saves", measured="bytes of weights, gradients and optimizer per rank, and "
                 "bytes sent per step, of a GPT under ZeRO 1, 2, 3 on gloo ranks",
                 value={f"ZeRO-{r['stage']} on {r['ranks']} ranks, bytes per parameter":
                        sum(r["held"].values()) / r["parameters"] for r in rows if r["stage"]},
                 expected="8 + 8/N, 4 + 12/N, 16/N bytes per parameter in fp32, same training",
                 verdict="holds" if exact and equal else "does not hold here",
                 command=RUN + "zero",
                 details={"rows": rows, "limit": "bytes are exact; the speed of several GPUs "
                          "cannot be measured on one machine"})
    return {"rows": rows, "exact": exact, "equal": equal}


def parallel_table(quick: bool) -> dict:
    """Models split by matrix, by sequence and by layer: equality, traffic, bubble."""
    methods = ("tensor", "1f1b") if quick else MODEL_PARALLEL
    rows = [compare(method, 4 if " x " in method else 2, steps=3 if quick else 5)
            for method in methods]
    activation = 8 * TINY.sequence_length * TINY.width * 4
    equal = all(row["loss_gap"] <= 1e-6 and row["weight_gap"] <= 1e-5 for row in rows)
    # (4 L + 2) all-reduces of (B, T, C), 2 (N-1)/N of it each; a pipeline sends it once each way.
    formula = {"tensor": (4 * TINY.layers + 2) * activation, "1f1b": activation,
               "gpipe": activation}
    for row in rows:
        row["formula_sent"] = formula.get(row["method"])
        row["activation_sent"] = sum(c["sent"] for c in row.pop("by_payload")
                                     if c["payload"] == activation or "pipe" in row["method"]
                                     or row["method"] == "1f1b")
    exact = all(row["activation_sent"] == row["formula_sent"] for row in rows
                if row["formula_sent"])
    record_claim("model-parallel", measured="a GPT split by matrix and by layer over gloo ranks: "
                 "distance from one process, and bytes of activations sent",
                 value={row["method"]: {"weight_gap": row["weight_gap"], "sent": row["sent"]}
                        for row in rows},
                 expected="the same training; 4 all-reduces a layer, or each boundary twice",
                 verdict="holds" if equal and exact else
                         "holds in part" if equal else "does not hold here",
                 command=RUN + "parallel", details={"rows": rows, "limit": "traffic and equality "
                                                    "only: speed needs several GPUs"})
    return {"rows": rows, "equal": equal, "exact": exact}


def moe_table(quick: bool) -> dict:
    """Eight experts, two a token, against one MLP: parameters, FLOPs, loss, time."""
    result = moe_against_dense(steps=20 if quick else 120, seeds=1 if quick else 3)
    more, flops, losses = (result[k] for k in ("parameters_ratio", "flops_ratio", "losses"))

    def better_than(rival: str) -> bool:        # on every seed: the spread is part of the answer
        return all(ours < theirs for ours, theirs in zip(losses["moe"], losses[rival]))
    record_claim("moe", measured="an MLP against eight half-width experts, two for each token, in "
                 "a small GPT on the same text: parameters, counted FLOPs, held-out nats per byte",
                 value={"parameters_ratio": more, "flops_ratio": flops, **result["mean_loss"]},
                 interval=(min(losses["moe"]), max(losses["moe"])),
                 expected="more parameters for the same FLOPs, and a better loss for them",
                 verdict="does not hold here" if more < 2 or flops > 1.1 else
                         "holds" if better_than("dense") and better_than("dense_at_equal_time")
                         else "holds in part",
                 command=RUN + "moe", details=result | {"limit": "a loop over experts on a CPU; "
                                                        "short runs of one size"})
    return result


TABLES = {"memory": memory_table, "precision": precision_table, "attention": attention_table,
          "zero": zero_table, "parallel": parallel_table, "moe": moe_table}


def main() -> None:
    """Measure the tables asked for."""
    parser = CommandLine(__doc__)
    parser.add_argument("--table", choices=["all", *TABLES], default="all",
                        help="which measurement")
    parser.add_argument("--out", type=Path, default=out("07_systems"), help="folder for results")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="small sizes, under 25 s")
    parser.add_argument("--fresh", action="store_true", help="measure again even if up to date")
    args = parser.parse_args()
    torch.set_num_threads(1)                # ratios of CPU seconds, on any machine alike
    settings = {"quick": args.quick, "seed": args.seed}
    for name in TABLES if args.table == "all" else [args.table]:
        target = args.out / f"{name}.json"
        job = Job(__file__, settings, reads=[MEASURED], writes=[
            target, target.with_suffix(".png")])
        if job.up_to_date():
            continue
        torch.manual_seed(args.seed)
        start = time.process_time()
        result = TABLES[name](args.quick)
        write_json(target, {"machine": hardware(), **settings, **result})
        FIGURES[name](result, target.with_suffix(".png"))
        job.done()
        print(f"{name:10s} {time.process_time() - start:5.1f} CPU-s -> {shown(target)}, .png")


if __name__ == "__main__":
    command(main)
