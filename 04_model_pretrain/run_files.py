"""What a run leaves while it goes: a log and samples that can be cut back, and one checkpoint.

A run that is killed has written log lines after its last checkpoint. On resuming, the log is cut
back to the length it had at the checkpoint, and the steps after it are made again: the same
numbers, byte for byte. So no clock time is ever written into the log.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from artifacts import shown
from checkpoint import load_checkpoint, restore, save_checkpoint
from gpt import GPT
from training_loop import SpikeGuard


class Journal:
    """A file of JSON lines that grows, and can be cut back to an earlier length in bytes."""

    def __init__(self, path: Path, keep: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(path, "r+b" if path.exists() else "w+b")
        # a file shorter than it was at the checkpoint was lost: what is left is kept
        self.file.truncate(min(keep, os.fstat(self.file.fileno()).st_size))
        self.file.seek(0, os.SEEK_END)

    def write(self, record: dict) -> None:
        """Add one record as one line, visible at once to whoever watches the file."""
        self.file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self.file.flush()

    def length(self) -> int:
        """Bytes so far, safely on the disk."""
        os.fsync(self.file.fileno())
        return self.file.tell()


def differences(old: dict, new: dict, place: str = "") -> str:
    """What differs between two runs' settings, as "rows 16, now 8; recipe.warmup 0, now 0.1"."""
    found = []
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found.append(differences(a, b, f"{place}{name}."))
        elif a != b:
            short = [value if len(str(value)) < 40 else "another" for value in (a, b)]
            found.append(f"{place}{name} {short[0]}, now {short[1]}")
    return "; ".join(filter(None, found))


@dataclass
class RunState:
    """What changes while training, and where it is kept."""
    path: Path                          # the checkpoint
    settings: dict                      # plain values; a checkpoint of other settings is not ours
    step: int = 0
    seconds: float = 0.0                # spent training, over all sittings
    aside: Path | None = None           # where a checkpoint of other settings goes before ours

    def resume(self, model: GPT, optimizers: list[torch.optim.Optimizer], guard: SpikeGuard
               ) -> dict[str, int]:
        """Take up the checkpoint if there is one of these settings; gives the journals' lengths.

        Everything is restored that the next update depends on: weights, optimizer state, step and
        the guard's memory. Batches need nothing: they follow from the step.
        """
        if not self.path.exists():
            return {}
        content = load_checkpoint(self.path)
        kept = content["extra"]
        if (old := kept.get("settings")) != self.settings:
            self.aside = self.path.with_name("run.other.pt")
            if os.environ.get("RANK", "0") == "0":
                print(f"{shown(self.path)} stopped at step {content['step']} of a run with other "
                      f"settings ({differences(old or {}, self.settings)}): it will be kept as "
                      f"{shown(self.aside)}; this run begins anew", flush=True)
            return {}
        restore(model, content["model"], self.path)
        for optimizer, state in zip(optimizers, content["optimizer"]["states"]):
            optimizer.load_state_dict(state)
        guard.losses, guard.caught = kept["guard_losses"], kept["guard_caught"]
        self.step, self.seconds = content["step"], kept["seconds"]
        return kept["lengths"]

    def save(self, model: GPT, optimizers: list[torch.optim.Optimizer], guard: SpikeGuard,
             journals: dict[str, Journal]) -> None:
        """Write the checkpoint of this moment, whole or not at all."""
        if self.aside is not None:
            os.replace(self.path, self.aside)
            self.aside = None
        lengths = {name: journal.length() for name, journal in journals.items()}
        save_checkpoint(
            self.path, model=model, stage="pretraining", step=self.step,
            tokenizer_sha256=self.settings["tokenizer_sha256"],
            optimizer={"states": [o.state_dict() for o in optimizers]},
            extra=dict(settings=self.settings, guard_losses=guard.losses,
                       guard_caught=guard.caught, seconds=self.seconds, lengths=lengths))
