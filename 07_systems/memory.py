"""Where the memory of training goes: an accountant, checked to the byte against real storages.

    python 07_systems/memory.py                         # the 7B of the article, and a plan
    python 07_systems/memory.py --parameters 70e9 --gpu-gb 80

Weights, gradients and optimizer states follow from the number of parameters alone: 16 bytes each
with fp32 AdamW, so 7 billion need 112 GB before the first activation. Activations depend on the
batch; `activation_bytes` counts what autograd really keeps, on a model that allocates nothing.
But: no allocator fragmentation, no communication buffers, no temporaries inside an operation.
Takes a second, reads nothing, prints only. GB here is 10^9 bytes.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from artifacts import CommandLine, BadInput, command, within
from gpt import GPT, GPTConfig

# Bytes per parameter of (weights, gradients, optimizer).
KINDS = ("weights", "gradients", "optimizer")
PRECISIONS = {
    "fp32": (4, 4, 8),          # AdamW keeps two fp32 numbers, m and v
    "autocast": (4, 4, 8),      # as fp32; the 16-bit copies of weights live for one product
    "mixed": (2, 2, 12),        # 16-bit weights and gradients; fp32 master copy, m and v (K = 12)
    "bf16": (2, 2, 4),          # everything in 16 bits: small updates round to nothing
}


def bytes_by_kind(parameters: int, precision: str = "fp32", zero_stage: int = 0,
                  ranks: int = 1) -> dict[str, int]:
    """Bytes on ONE rank as {"weights", "gradients", "optimizer"}; see `training_bytes`."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    if parameters < 0:
        raise ValueError(f"{parameters} parameters: a number of them is not below zero")
    if zero_stage not in (0, 1, 2, 3) or ranks < 1:
        raise ValueError(f"ZeRO stage {zero_stage} on {ranks} ranks: stages are 0 to 3, ranks >= 1")
    # A rank's share is rounded up: the last rank's is padded, so that all pieces are equal.
    share = -(-int(parameters) // ranks)
    weights, gradients, optimizer = PRECISIONS[precision]
    # Each stage shards one kind more: 1 the optimizer, 2 the gradients too, 3 the weights too.
    return {"weights": weights * (share if zero_stage >= 3 else int(parameters)),
            "gradients": gradients * (share if zero_stage >= 2 else int(parameters)),
            "optimizer": optimizer * (share if zero_stage >= 1 else int(parameters))}


def training_bytes(parameters: int, precision: str = "fp32", zero_stage: int = 0,
                   ranks: int = 1) -> int:
    """Bytes that ONE rank needs for weights, gradients and AdamW's states, no activations.

    `precision` "fp32", "autocast" (fp32 state), "mixed" (16-bit weights, fp32 master), "bf16"
    (pure). `zero_stage` 0 (every rank holds everything) to 3. A share of a sharded kind is
    ceil(parameters / ranks). training_bytes(7_000_000_000) is 112_000_000_000; with "mixed" the
    same, with ZeRO-1 on 64 ranks 4 + 12/64 bytes each. ValueError for an unknown precision or
    stage, or no ranks. Source: Rajbhandari et al. 2020 (ZeRO), section 3 and figure 1.
    """
    return sum(bytes_by_kind(parameters, precision, zero_stage, ranks).values())


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of memory behind `tensors`, each storage counted once: views share theirs, tied
    weights are one. Two views of one tensor of 10 floats are 40 bytes."""
    # A view's own size says nothing: its storage may be larger, or shared with another.
    storages = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
    # Each storage once, by its identity; its own size, whatever part of it is shown.
    return sum(storages.values())


def measured_bytes(parameters: Iterable[nn.Parameter], optimizers: Iterable = ()) -> dict[str, int]:
    """What training really holds now, by kind, from storages: the accountant's witness.

    A step counter of one number per parameter is left out: it does not grow with the model.
    """
    parameters = list(parameters)
    states = [value for optimizer in optimizers for state in optimizer.state.values()
              for value in state.values() if torch.is_tensor(value) and value.dim() > 0]
    return {"weights": storage_bytes(parameters),
            "gradients": storage_bytes(p.grad for p in parameters if p.grad is not None),
            "optimizer": storage_bytes(states)}


def saved_bytes(model: nn.Module, *inputs: Tensor) -> int:
    """Bytes that autograd keeps between `model(*inputs)` and backward: the activations.

    Every saved storage once; parameters, buffers and the inputs are not activations.
    """
    known = {t.untyped_storage()._cdata for t in [*model.parameters(), *model.buffers(), *inputs]}
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            kept[storage._cdata] = storage      # held, so that no id is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = model(*inputs)
    del result
    return sum(storage.nbytes() for storage in kept.values())


def activation_bytes(config: GPTConfig, batch: int, precision: str = "fp32",
                     fused: bool = True) -> int:
    """Activations of one forward pass of `batch` sequences, exact, without running the model.

    The forward pass runs on torch's "meta" device, where tensors have shapes but no memory, so a
    model of any size can be asked. `precision` "fp32" or "bf16" (the whole model in 16 bits);
    `fused`: attention keeps one number per row, not chapter 4's T x T scores.
    """
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    with torch.device("meta"):
        model = GPT(config).to(dtype)
        ids = torch.zeros(batch, config.sequence_length, dtype=torch.long)
        for block in model.blocks if fused else ():
            block.attention.attend = fused_attention_shape
        return saved_bytes(model, ids, ids)


class _FusedShape(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v):
        o, lse = torch.empty_like(q), q.new_empty(q.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, o, lse)
        return o


def fused_attention_shape(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """A stand-in that keeps what a fused attention keeps (q, k, v, o, one number per row), and
    computes nothing: for counting on the meta device."""
    return _FusedShape.apply(q, k, v)


def plan_memory(parameters: int, gpu_bytes: float, precision: str = "autocast",
                activations: float = 0, most_ranks: int = 4096) -> dict[int, int | None]:
    """The fewest GPUs of `gpu_bytes` on which training fits, for each ZeRO stage 0 to 3.

    `activations` are the bytes of one rank's own micro-batch, which no stage shards. None where
    it never fits: ZeRO-1 of 70B keeps 560 GB of weights and gradients on every card.
    plan_memory(7e9, 80e9) is {0: None, 1: 3, 2: 2, 3: 2}.
    """
    def fits(stage: int, ranks: int) -> bool:
        return training_bytes(int(parameters), precision, stage, ranks) + activations <= gpu_bytes

    answer = {}
    for stage in range(4):
        # Without sharding, a second card does not help the first: only one rank count to ask.
        counts = range(1, most_ranks + 1) if stage else (1,)
        answer[stage] = next((ranks for ranks in counts if fits(stage, ranks)), None)
    return answer


def main() -> None:
    """Print the account of one model size, and on how many GPUs it fits."""
    parser = CommandLine(__doc__)
    parser.add_argument("--parameters", type=float, default=7e9, help="number of parameters")
    parser.add_argument("--gpu-gb", type=float, default=80, help="memory of one GPU, 10^9 bytes")
    parser.add_argument("--activations-gb", type=within(low=0), default=0,
                        help="of one rank's batch")
    args = parser.parse_args()
    if args.parameters < 1 or args.gpu_gb <= 0:
        raise BadInput("--parameters and --gpu-gb must be positive, as in --parameters 7e9")
    print(f"{args.parameters:,.0f} parameters, GB by kind ({', '.join(KINDS)})")
    for precision in PRECISIONS:
        kinds = bytes_by_kind(args.parameters, precision)
        print(f"  {precision:9s}" + "".join(f"{kinds[kind] / 1e9:9.1f}" for kind in KINDS)
              + f"   in all {sum(kinds.values()) / 1e9:,.1f} GB")
    plan = plan_memory(args.parameters, args.gpu_gb * 1e9, "autocast", args.activations_gb * 1e9)
    for stage, ranks in plan.items():
        name = f"ZeRO-{stage}" if stage else "alone or plain data parallel"
        print(f"  {name}: " + (f"fits from {ranks} GPUs of {args.gpu_gb:g} GB on" if ranks else
                               f"does not fit on GPUs of {args.gpu_gb:g} GB, however many"))


if __name__ == "__main__":
    command(main)
