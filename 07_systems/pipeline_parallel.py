"""Pipeline parallel: every rank has some layers; micro-batches follow each other through them.

    print(draw(one_f_one_b(stages=4, micros=8)))        # who works when, and the bubble
    python 07_systems/pipeline_parallel.py              # both schedules as text
    stage = PipelineStage(GPT(config)); loss = stage.step(ids, targets, one_f_one_b(2, 4))

A schedule is plain data: for each stage, the order of its forward (F) and backward (B) passes.
GPipe does all F, then all B, and keeps m micro-batches alive; 1F1B starts B as early as it can
and keeps at most p - stage. Both idle for (p-1)/(m+p-1) of the time. But: no interleaved stages,
no zero-bubble split of B. Real runs: torch.distributed.pipelining.

Letters: p stages, m micro-batches. Source: Huang et al. 2019 (GPipe); Narayanan et al. 2021.
"""

import copy

import torch
import torch.distributed as dist
from torch import Tensor, nn

from artifacts import BadInput, CommandLine, command, within
from collectives import receive, send
from gpt import GPT
from target_range import check_targets, check_tokens

Schedule = list[list[tuple[str, int]]]      # per stage: ("F" or "B", micro-batch), in order


def gpipe(stages: int, micros: int) -> Schedule:
    """All forward passes in order, then all backward passes, last micro-batch first.

    gpipe(2, 2) gives both stages [("F", 0), ("F", 1), ("B", 1), ("B", 0)].
    Source: Huang et al. 2019, figure 2.
    """
    # Nothing is thrown away before the last forward: every stage keeps all m activations.
    forward = [("F", micro) for micro in range(micros)]
    # The last one in is the first one out: its activations are the freshest.
    backward = [("B", micro) for micro in reversed(range(micros))]
    return [forward + backward for _ in range(stages)]


def one_f_one_b(stages: int, micros: int) -> Schedule:
    """One forward, one backward: stage s starts with p - 1 - s forwards, then alternates.

    one_f_one_b(2, 2): stage 0 F0 F1 B0 B1, stage 1 F0 B0 F1 B1. Backward in the order of
    forward. With few micro-batches the warm-up is at most m.
    Source: Narayanan et al. 2021, figure 4.
    """
    schedule = []
    for stage in range(stages):
        # Fill the pipe: as many forwards as there are stages behind this one.
        warmup = min(stages - 1 - stage, micros)
        order = [("F", micro) for micro in range(warmup)]
        # The steady state: each new forward is paid for with a backward that frees memory.
        for micro in range(warmup, micros):
            order += [("F", micro), ("B", micro - warmup)]
        # Drain the pipe.
        order += [("B", micro) for micro in range(micros - warmup, micros)]
        schedule.append(order)
    return schedule


def live_micros(order: list[tuple[str, int]]) -> int:
    """The most micro-batches whose activations one stage holds at once, by its order of passes.

    F keeps one more, B frees one: F F B B holds 2, F B F B holds 1.
    """
    live = most = 0
    for action, _ in order:
        # Forward keeps activations until the same micro-batch's backward.
        live += 1 if action == "F" else -1
        # What counts is the fullest moment, not what is left at the end.
        most = max(most, live)
    return most


def simulate(schedule: Schedule, backward: int = 2) -> list[list[tuple[int, str, int]]]:
    """When every pass starts if F takes one tick and B takes `backward`: per stage a list of
    (start, action, micro). ValueError for a schedule that would wait for ever."""
    ended: dict[tuple[str, int, int], int] = {}         # (action, stage, micro) -> tick
    starts: list[list] = [[] for _ in schedule]
    clock = [0] * len(schedule)
    while any(len(done) < len(order) for done, order in zip(starts, schedule)):
        moved = False
        for stage, order in enumerate(schedule):
            if len(starts[stage]) == len(order):
                continue
            action, micro = order[len(starts[stage])]
            needs = [("F", stage - 1, micro)] if action == "F" else [
                ("F", stage, micro), ("B", stage + 1, micro)]
            needs = [n for n in needs if 0 <= n[1] < len(schedule)]
            if not all(n in ended for n in needs):
                continue
            start = max([clock[stage], *(ended[n] for n in needs)])
            clock[stage] = start + (1 if action == "F" else backward)
            ended[action, stage, micro] = clock[stage]
            starts[stage].append((start, action, micro))
            moved = True
        if not moved:
            raise ValueError("the schedule waits for ever: a pass stands before what it needs")
    return starts


def bubble(schedule: Schedule, backward: int = 2) -> float:
    """The share of all ranks' time that is idle: (p-1)/(m+p-1) for GPipe and 1F1B."""
    starts = simulate(schedule, backward)
    length = {"F": 1, "B": backward}
    end = max(start + length[action] for row in starts for start, action, _ in row)
    work = sum(length[action] for row in starts for _, action, _ in row)
    return 1 - work / (end * len(schedule))


def draw(schedule: Schedule, backward: int = 2) -> str:
    """The schedule as text: a row for each stage, a column for each tick."""
    lines = []
    # As wide as the largest number and its b.
    wide = 1 + len(str(max((micro for order in schedule for _, micro in order), default=0)))
    for stage, row in enumerate(simulate(schedule, backward)):
        cells: list[str] = []
        for start, action, micro in row:
            cells += [".".rjust(wide)] * (start - len(cells))
            cells += [str(micro).rjust(wide)] if action == "F" else [
                f"b{micro}".rjust(wide)] * backward
        lines.append(f"stage {stage} |{''.join(cells)}  live {live_micros(schedule[stage])}")
    return "\n".join(lines + [f"bubble {bubble(schedule, backward):.1%} (3: forward of "
                              "micro-batch 3, b3: its backward, .: idle)"])


class _Received(nn.Module):
    """Stands in for the embedding on later stages: gives what the stage before has sent."""

    def __init__(self) -> None:
        super().__init__()
        self.activation: Tensor | None = None

    def forward(self, ids: Tensor) -> Tensor:
        return self.activation


def cut_stage(model: GPT, stage: int, stages: int) -> GPT:
    """The layers of one stage, as a GPT of its own: a copy; the given model stays as it is.

    Layers are dealt out evenly, the first stages take the rest; the embedding is on the first
    stage, the final norm and the head on the last.
    """
    if model.config.tied:
        raise ValueError("tied embeddings live on the first and on the last stage: untie them")
    if not 1 <= stages <= model.config.layers:
        raise ValueError(f"{model.config.layers} layers do not split into {stages} stages")
    part, layers = copy.deepcopy(model), model.config.layers
    size, rest = divmod(layers, stages)
    first = stage * size + min(stage, rest)
    part.layer_numbers = list(range(first, first + size + (stage < rest)))
    part.blocks = nn.ModuleList(part.blocks[i] for i in part.layer_numbers)
    if stage > 0:
        part.embedding, part.previous_share = _Received(), None
        part.ngram_embedding = part.position_embedding = None
    if stage < stages - 1:
        part.final_norm = part.lm_head = nn.Identity()
    return part


class PipelineStage(nn.Module):
    """One rank's layers, and the passes of a schedule over them."""

    def __init__(self, model: GPT, group=None) -> None:
        super().__init__()
        self.group, self.stage = group, dist.get_rank(group)
        self.stages, self.width = dist.get_world_size(group), model.config.width
        self.part = cut_stage(model, self.stage, self.stages)
        self.first, self.last = self.stage == 0, self.stage == self.stages - 1
        self.dtype, self.vocab_size = next(model.parameters()).dtype, model.config.vocab_size

    def step(self, ids: Tensor, targets: Tensor, schedule: Schedule) -> Tensor:
        """Forward and backward of one batch (the same on every rank), split by rows into the
        schedule's micro-batches; gradients are those of the mean loss over targets that are not
        -100. Gives the mean loss on the last stage, zero elsewhere; `self.most_live` counts the
        micro-batches really held."""
        # On every rank, not on the last alone: the others would wait for it.
        check_targets(targets, self.vocab_size)
        check_tokens(ids, self.vocab_size)
        order = schedule[self.stage]
        micros, counted = len(order) // 2, (targets != -100).sum().clamp(min=1)
        ids, targets = ids.chunk(micros), targets.chunk(micros)
        if len(ids) != micros or len({len(part) for part in ids}) > 1:
            raise ValueError(f"the batch does not split into {micros} equal micro-batches")
        kept, sending, total = {}, [], torch.zeros(
            (), dtype=torch.promote_types(self.dtype, torch.float32), device=ids[0].device)
        self.most_live = 0
        for action, micro in order:
            if action == "F":
                kept[micro] = self.forward_pass(ids[micro], targets[micro], counted, sending)
                total += kept[micro][1].detach() if self.last else 0
                self.most_live = max(self.most_live, len(kept))
            else:
                self.backward_pass(*kept.pop(micro), sending)
        for handle, _ in sending:
            handle.wait()
        return total

    def forward_pass(self, ids: Tensor, targets: Tensor, counted: Tensor, sending: list
                     ) -> tuple:
        """Receive (unless first), compute, send (unless last); gives (input, output)."""
        x = None
        if not self.first:
            x = torch.empty(*ids.shape, self.width, device=ids.device, dtype=self.dtype)
            receive(x, self.stage - 1, self.group)
            self.part.embedding.activation = x.requires_grad_()
        # What travels has the weights' type, whatever autocast computed in.
        y = self.part.hidden(ids).to(self.dtype)
        if self.last:
            logits = self.part.head(y).flatten(0, 1)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            total = nn.functional.cross_entropy(logits, targets.flatten(), reduction="sum")
            return x, total / counted       # of the whole batch: micro-batches simply add up
        # Started, not awaited: the next micro-batch need not wait for the next stage. The list
        # keeps the tensor alive until it is sent.
        sending.append((send(y.detach(), self.stage + 1, self.group), y))
        return x, y

    def backward_pass(self, x: Tensor | None, y: Tensor, sending: list) -> None:
        """Receive the output's gradient (unless last), go backward, send the input's."""
        gradient = None if self.last else receive(torch.empty_like(y), self.stage + 1, self.group)
        if y.requires_grad:         # not so on a first stage that is frozen
            y.backward(gradient)
        if not self.first:
            sending.append((send(x.grad, self.stage - 1, self.group), x.grad))

    def full_names(self) -> dict[str, nn.Parameter]:
        """This stage's parameters by the names they have in the whole model."""
        def whole(name: str) -> str:
            head, _, rest = name.partition(".")
            if head != "blocks":
                return name
            number, _, rest = rest.partition(".")
            return f"blocks.{self.part.layer_numbers[int(number)]}.{rest}"
        return {whole(name): p for name, p in self.part.named_parameters()}


def main() -> None:
    """Print both schedules."""
    parser = CommandLine(__doc__)
    parser.add_argument("--stages", type=within(int, low=1), default=4, help="devices in a row")
    parser.add_argument("--micros", type=int, default=8, help="micro-batches")
    args = parser.parse_args()
    if args.stages < 1 or args.micros < 1:
        raise BadInput("--stages and --micros must be at least 1")
    for name, make in (("GPipe", gpipe), ("1F1B", one_f_one_b)):
        print(f"{name}\n{draw(make(args.stages, args.micros))}\n")


if __name__ == "__main__":
    command(main)
