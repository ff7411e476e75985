"""How fast does this machine train a model, whatever else it is doing in that minute?

    trial = Trial(config, threads=2, precision="fp32")
    in_turns([trial, other], rounds=4)
    trial.speed(rows=16)                    # tokens per second, if nothing else runs

The clock of the wall also counts what other programs do: on a busy machine it made the plan a
third as wide. This one is `thread_time`: seconds in which the training thread itself worked. It
takes its part of every product, so with two threads it works half as long. Candidates are
measured in turns and the median counts: a slow minute meets all of them.
But: a processor that others heat or whose cache they fill does work more slowly, by a few percent.
"""

import statistics
import time

import torch

from gpt import GPT, GPTConfig
from head_loss import training_loss
from machine import fitted
from model_shapes import PART, parts_of
from optimizers import clip_gradients
from training_loop import Recipe, autocast, make_optimizers

CPU = torch.device("cpu")


class Trial:
    """One way to train: a model of `config` with so many threads, in this precision, compiled or
    not. `parts`, `updates` and `walls` are seconds of each turn, without the first."""

    def __init__(self, config: GPTConfig, threads: int, precision: str, compiled: bool = False,
                 device: torch.device = CPU) -> None:
        self.config, self.threads, self.precision = config, threads, precision
        self.compiled, self.device = compiled, device
        self.parts: list[float] = []
        self.updates: list[float] = []
        self.walls: list[float] = []
        self.preparation = 0.0          # seconds of the wall that the first turn takes
        self.module = None

    def prepare(self) -> None:
        """Make the model, and pay for what only the first turn pays: memory, compiling."""
        torch.manual_seed(0)
        self.model = GPT(self.config).to(self.device)
        self.module = fitted(self.model, self.device, self.compiled)
        self.optimizers = make_optimizers(self.model, Recipe(), self.precision)
        T = self.config.sequence_length
        shape = (max(1, PART // T) if self.device == CPU else 16, T)
        self.ids = torch.randint(self.config.vocab_size, shape, device=self.device)
        began = time.perf_counter()
        self.turn()
        self.preparation = time.perf_counter() - began
        for kept in (self.parts, self.updates, self.walls):
            kept.clear()

    def clock(self) -> float:
        """Seconds of work so far: of this thread, or of the GPU that it waits for."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.thread_time()

    def turn(self) -> None:
        """Forward and backward of one part of a batch, then one update, both timed."""
        if self.module is None:
            self.prepare()
        torch.set_num_threads(self.threads)
        wall, began = time.perf_counter(), self.clock()
        with autocast(self.device, self.precision):
            loss = training_loss(self.module, self.ids, self.ids)
        loss.backward()
        middle = self.clock()
        clip_gradients(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.parts.append(middle - began)
        self.updates.append(self.clock() - middle)
        self.walls.append(time.perf_counter() - wall)

    def speed(self, rows: int) -> float:
        """Training tokens per second in batches of `rows`, by the medians of all turns."""
        T = self.config.sequence_length
        parts = parts_of(rows, T) if self.device == CPU else rows / len(self.ids)
        seconds = parts * statistics.median(self.parts) + statistics.median(self.updates)
        return rows * T / seconds

    def record(self) -> dict:
        """What was measured, as plain values for plan.json."""
        def ms(values): return [round(1e3 * v, 1) for v in values]
        return {"width": self.config.width, "threads": self.threads, "precision": self.precision,
                "compile": self.compiled, "part_ms": ms(self.parts), "update_ms": ms(self.updates),
                "wall_ms": ms(self.walls), "preparation_s": round(self.preparation, 1)}


def in_turns(trials: list[Trial], rounds: int) -> None:
    """`rounds` more turns for each trial, one after the other."""
    for _ in range(rounds):
        for trial in trials:
            trial.turn()


def promising(trials: list[Trial], rows: int, factor: float = 2.0) -> list[Trial]:
    """Those that after one turn are within `factor` of the fastest: the others cannot win, and
    where a processor only imitates 16 bits, one of their turns lasts seconds."""
    in_turns(trials, 1)
    best = max(trial.speed(rows) for trial in trials)
    return [trial for trial in trials if trial.speed(rows) * factor >= best]
