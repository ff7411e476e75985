"""The proof of this chapter: one tiny GPT, trained by every method, against one process.

    report = compare("zero2", ranks=2)      # {"loss_gap": ..., "weight_gap": ..., "sent": ...}
    python 07_systems/equality.py           # the table for all methods, about 20 s

The same seed, the same batches, fp32, AdamW: whatever the method splits, after five steps the
loss must agree to 1e-6 and every weight to 1e-5 with a single process that splits nothing. But:
equality says nothing about speed, and two ranks on one machine say nothing about a network.
"""


import torch
import torch.distributed as dist
from torch import Tensor

from artifacts import CommandLine, command, within
from collectives import all_gather, record, sent_bytes
from ddp import DDP, BucketedDDP, average_flat, average_naive, shard_of
from gpt import GPT, GPTConfig
from memory import measured_bytes
from moe import ExpertParallelMoE, use_moe
from pipeline_parallel import PipelineStage, gpipe, one_f_one_b
from gloo_ranks import run_ranks
from tensor_parallel import TensorParallelGPT
from zero import FSDP, ShardedOptimizer

TINY = GPTConfig(vocab_size=64, layers=2, width=32, heads=4, sequence_length=16, mlp="swiglu",
                 mlp_width=64, mix_previous=False)
RATE = 1e-3
DATA_PARALLEL = ("naive", "flat", "ddp", "bucketed", "zero1", "zero2", "zero3")
MODEL_PARALLEL = ("tensor", "sequence", "gpipe", "1f1b", "ddp x tensor", "ddp x 1f1b")
MICROS = 4


def seed_model(config: GPTConfig = TINY, seed: int = 0) -> GPT:
    """The same GPT on every rank. No matrix is left at zero: zeros would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    model = GPT(config)
    with torch.no_grad():
        for p in model.parameters():
            mean = 1.0 if p.dim() == 1 else 0.0
            p.copy_(mean + torch.randn(p.shape, generator=generator) * 0.1)
    return model


def seed_batch(step: int, config: GPTConfig = TINY, rows: int = 8) -> tuple[Tensor, Tensor]:
    """Batch number `step`: ids and targets (rows, T), a function of the step alone."""
    generator = torch.Generator().manual_seed(1000 + step)
    ids = torch.randint(config.vocab_size, (rows, config.sequence_length + 1), generator=generator)
    return ids[:, :-1], ids[:, 1:]


def seed_experts(config: GPTConfig = TINY) -> GPT:
    """The same GPT with four experts in place of every MLP, two for each token."""
    torch.manual_seed(1)
    return use_moe(seed_model(config), experts=4, k=2)


def train_alone(steps: int = 5, config: GPTConfig = TINY, experts: bool = False
                ) -> tuple[list[float], dict]:
    """What one process gets: the loss of every step, and the weights afterwards."""
    model, losses = seed_experts(config) if experts else seed_model(config), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for step in range(steps):
        loss = model(*seed_batch(step, config))[1]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, {name: p.detach() for name, p in model.named_parameters()}


def train_data_parallel(rank: int, method: str, ranks: int, steps: int = 5,
                        config: GPTConfig = TINY) -> dict:
    """One rank's part of the same training by a method of DATA_PARALLEL: losses (mean over
    ranks), whole weights, bytes by kind while training, and the last step's collectives."""
    model = seed_model(config)
    wrapped = {"ddp": DDP, "bucketed": lambda m: BucketedDDP(m, 0.02), "zero3": FSDP}.get(
        method, lambda m: m)(model)
    if method in ("zero1", "zero2"):
        optimizer = ShardedOptimizer(model.parameters(), torch.optim.AdamW, lr=RATE)
        if method == "zero2":
            optimizer.shard_gradients_early()
        inner, everything = optimizer.inner, [*model.parameters(), *optimizer.pieces.values()]
    else:
        inner = optimizer = torch.optim.AdamW(wrapped.parameters(), lr=RATE)
        everything = list(wrapped.parameters())
    losses = []
    for step in range(steps):
        ids, targets = (shard_of(t, rank, ranks) for t in seed_batch(step, config))
        with record() as calls:
            loss = wrapped(ids, targets)[1]
            loss.backward()
            gradients = measured_bytes(everything)["gradients"]     # the most of this step
            if method in ("naive", "flat"):
                (average_naive if method == "naive" else average_flat)(model.parameters())
            elif method == "zero1":
                optimizer.reduce_gradients()
            elif isinstance(wrapped, (BucketedDDP, FSDP)):
                wrapped.finish_gradient_synchronization()
            optimizer.step()
        held = {**measured_bytes(wrapped.parameters(), [inner]), "gradients": gradients}
        optimizer.zero_grad()
        losses.append(mean_over_ranks(loss))
    weights = wrapped.gather_full_params() if method == "zero3" else dict(model.named_parameters())
    return {"losses": losses, "weights": {n: p.detach() for n, p in weights.items()},
            "held": held, "calls": calls}


def train_model_parallel(rank: int, method: str, ranks: int, steps: int = 5,
                         config: GPTConfig = TINY) -> dict:
    """One rank's part by a method of MODEL_PARALLEL; as `train_data_parallel`. "ddp x ..." mixes:
    two neighbours share one copy of the model, and the copies share the batch."""
    mixed = method.startswith("ddp x ")
    model_group, data_group, copies = None, None, 1
    if mixed:       # ranks 0 1 | 2 3 hold a copy each; 0 2 | 1 3 hold the same part of it
        copies = ranks // 2
        groups = [dist.new_group([2 * c, 2 * c + 1]) for c in range(copies)]
        model_group = groups[rank // 2]
        groups = [dist.new_group(list(range(part, ranks, 2))) for part in (0, 1)]
        data_group = groups[rank % 2]
    kind = method.removeprefix("ddp x ")
    model = seed_model(config)
    if kind in ("tensor", "sequence"):
        parallel = TensorParallelGPT(model, model_group, sequence=kind == "sequence")
    else:
        parallel = PipelineStage(model, model_group)
        schedule = (gpipe if kind == "gpipe" else one_f_one_b)(parallel.stages, MICROS)
    optimizer, losses = torch.optim.AdamW(parallel.parameters(), lr=RATE), []
    for step in range(steps):
        ids, targets = (shard_of(t, rank // 2 if mixed else 0, copies)
                        for t in seed_batch(step, config))
        with record() as calls:
            if isinstance(parallel, PipelineStage):
                loss = parallel.step(ids, targets, schedule) * parallel.stages
            else:
                loss = parallel(ids, targets)[1]
                loss.backward()
                parallel.finish_gradient_synchronization()
            if mixed:
                average_flat(parallel.parameters(), data_group)
            optimizer.step()
        optimizer.zero_grad()
        losses.append(mean_over_ranks(loss))
    held = measured_bytes(parallel.parameters(), [optimizer])
    if isinstance(parallel, PipelineStage):
        weights = {name: p.detach() for name, p in parallel.full_names().items()}
        return {"losses": losses, "weights": weights, "held": held, "calls": calls,
                "live": parallel.most_live}
    return {"losses": losses, "weights": parallel.gather_full_params(), "held": held,
            "calls": calls}


def train_experts(rank: int, ranks: int, steps: int = 5, config: GPTConfig = TINY) -> dict:
    """One rank's part with the experts spread over the ranks, each with its rows of the batch."""
    model = seed_experts(config)
    for block in model.blocks:
        block.mlp = ExpertParallelMoE(block.mlp)
    layers = [block.mlp for block in model.blocks]
    spread = {id(p) for layer in layers for p in (layer.up, layer.down, layer.router.weight)}
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=RATE), []
    for step in range(steps):
        ids, targets = (shard_of(t, rank, ranks) for t in seed_batch(step, config))
        with record() as calls:
            loss = model(ids, targets)[1]
            loss.backward()
            average_flat(p for p in model.parameters() if id(p) not in spread)
            for layer in layers:
                layer.finish_gradient_synchronization()
            optimizer.step()
        optimizer.zero_grad()
        losses.append(mean_over_ranks(loss))
    weights = {name: all_gather(p.detach()) if name.endswith(("mlp.up", "mlp.down"))
               else p.detach() for name, p in model.named_parameters()}
    return {"losses": losses, "weights": weights, "calls": calls}


def mean_over_ranks(loss: Tensor) -> float:
    """The loss of the whole batch: the mean of the ranks' means over equal parts."""
    total = loss.detach().clone()
    dist.all_reduce(total)          # not through our verbs: the recorder counts training only
    return total.item() / dist.get_world_size()


def gaps(results: list[dict], losses: list[float], weights: dict[str, Tensor]) -> dict:
    """The largest difference of any loss and of any weight, on any rank, from one process's."""
    return {"loss_gap": max(abs(a - b) for r in results for a, b in zip(r["losses"], losses)),
            "weight_gap": max((r["weights"][name] - whole).abs().max().item()
                              for r in results for name, whole in weights.items()
                              if name in r["weights"])}


def compare(method: str, ranks: int = 2, steps: int = 5, config: GPTConfig = TINY) -> dict:
    """Train by `method` on `ranks` processes and say how far that is from one process."""
    train = train_data_parallel if method in DATA_PARALLEL else train_model_parallel
    results = run_ranks(train, ranks, method, ranks, steps, config)
    calls, elements = results[0]["calls"], sum(p.numel() for p in seed_model(config).parameters())
    held = [sum(r["held"].values()) for r in results]
    return {"method": method, "ranks": ranks, **gaps(results, *train_alone(steps, config)),
            "calls": len(calls), "sent": sent_bytes(calls), "parameters": elements,
            "held": results[0]["held"], "held_most": max(held), "held_least": min(held),
            "by_payload": [{"payload": c.payload, "sent": c.sent} for c in calls]}


def main() -> None:
    """Print the table of all methods."""
    parser = CommandLine(__doc__)
    parser.add_argument("--ranks", type=within(int, low=1, high=64), default=2, help="processes")
    parser.add_argument("--steps", type=within(int, low=1), default=5)
    args = parser.parse_args()
    print(f"{'method':14s}{'loss gap':>12s}{'weight gap':>12s}{'calls':>8s}{'bytes sent':>12s}")
    for method in DATA_PARALLEL + MODEL_PARALLEL:
        row = compare(method, 2 * args.ranks if " x " in method else args.ranks, args.steps)
        print(f"{method:14s}{row['loss_gap']:12.1e}{row['weight_gap']:12.1e}{row['calls']:8d}"
              f"{row['sent']:12,.0f}")


if __name__ == "__main__":
    command(main)
