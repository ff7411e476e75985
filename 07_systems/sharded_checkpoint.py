"""Checkpoints that any number of ranks writes together and any other number reads.

    save("out/run", 40, method.state(), {"log_bytes": 1234})        # on every rank
    step, state, notes = load("out/run", method.state())            # (0, None, {}) if there is none

torch.distributed.checkpoint writes a folder; it appears as `step-000040` only when every rank has
finished and the bytes are on the disk. A kill leaves a `.partial` folder, which nobody reads and
the next save removes. The newest whole one is kept, older ones are deleted after it is there.
"""

import json
import os
import shutil
from pathlib import Path

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from artifacts import BadInput, shown


def newest(folder: Path) -> Path | None:
    """The whole checkpoint with the most steps, or None."""
    found = {int(p.name[5:]): p for p in folder.glob("step-*") if p.name[5:].isdecimal()}
    # By number: as text, step-999999 is larger than step-1000000.
    return found[max(found)] if found else None


def last_line(why: BaseException) -> str:
    """What an error of many lines says in the end: torch puts a rank's own error there."""
    return str(why).strip().splitlines()[-1][:120] if str(why).strip() else repr(why)


def save(folder: Path, step: int, state: dict, notes: dict) -> Path:
    """Write `state` (nested dicts of tensors) of all ranks as one checkpoint; the new path.

    `notes` are plain values of the first rank. A collective: every rank must call it.
    """
    final = folder / f"step-{step:06d}"
    partial = final.with_suffix(".partial")
    if dist.get_rank() == 0:
        for old in folder.glob("*.partial"):
            shutil.rmtree(old)
        partial.mkdir(parents=True)
    dist.barrier()
    try:
        dcp.save(state, checkpoint_id=partial)
    except (OSError, CheckpointException) as why:       # the latter is no Exception in torch
        if dist.get_rank() == 0:
            shutil.rmtree(partial, ignore_errors=True)  # its bytes are the room for the next one
        raise BadInput(f"{shown(final)} cannot be written ({last_line(why)}); the older "
                       "checkpoint is kept: make room, and the same command goes on") from None
    dist.barrier()
    if dist.get_rank() == 0:
        with open(partial / "notes.json", "w", encoding="utf-8") as file:
            json.dump({"step": step, **notes}, file)
            file.flush()
            os.fsync(file.fileno())
        # Renamed last: until here the older checkpoint is the newest one.
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        for old in folder.glob("step-*"):
            if old != final:
                shutil.rmtree(old)
    dist.barrier()
    return final


def load(folder: Path, state: dict) -> tuple[int, dict | None, dict]:
    """The newest checkpoint: its step, its tensors in the shapes of `state`, and its notes.

    (0, None, {}) if there is none; BadInput if it is damaged or of another model.
    """
    path = newest(folder)
    if path is None:
        return 0, None, {}
    try:
        notes = json.loads((path / "notes.json").read_text(encoding="utf-8"))
        dcp.load(state, checkpoint_id=path)
    except (Exception, CheckpointException) as why:     # the latter is no Exception in torch
        raise BadInput(f"{shown(path)} cannot be loaded ({last_line(why)}): give the settings "
                       "it was made with, or start again with --fresh") from why
    return notes["step"], state, notes
