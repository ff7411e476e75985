"""Checkpoints that are whole or absent, and are never half-loaded.

    save_checkpoint("base.pt", model=model, stage="base", tokenizer_sha256=digest, step=100)
    model, checkpoint = load_model("base.pt")

A checkpoint is one file of tensors and plain values, written under a temporary name and renamed,
so that a kill during the save leaves the old one. It is read with `weights_only=True`: a file
from a stranger can hold wrong numbers, but cannot run code.
"""

import errno
import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from artifacts import BadInput, need, shown, whole
from gpt import GPT, GPTConfig

FORMAT = 1
KEYS = {"format", "stage", "config", "model", "tokenizer_sha256", "step", "extra"}


def plain(value: Any, place: str) -> Any:
    """`value` as what a checkpoint can hold and give back: None, bool, int, float, str, bytes,
    tensors, and lists, tuples, sets and dicts of these.

    numpy's scalars become Python's, its arrays tensors, a Path its text. TypeError names the
    `place` of anything else: torch would write it, and nothing could ever read the file again.
    """
    if isinstance(value, (np.generic, np.ndarray)) and value.dtype.kind in "biuf":
        if value.dtype.kind == "f" and value.dtype.itemsize > 8:    # longdouble: torch has none
            value = value.astype(np.float64)
        native = value.astype(value.dtype.newbyteorder("="))
        return native.item() if isinstance(value, np.generic) else torch.as_tensor(native)
    if isinstance(value, Tensor):
        return value.data if isinstance(value, torch.nn.Parameter) else value
    if value is None or isinstance(value, (bool, torch.dtype)):
        return value
    for kind in (int, float, str, bytes):           # also those who inherit from one: an IntEnum
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {plain(key, place): plain(v, f"{place}[{key!r}]") for key, v in value.items()}
    for kind in (list, tuple, set):
        if isinstance(value, kind):
            return kind(plain(v, f"{place}[{i}]") for i, v in enumerate(value))
    raise TypeError(f"{place} is a {type(value).__name__}, which a checkpoint cannot hold: give "
                    "plain values, lists, dicts or tensors")


def save_checkpoint(path: Path | str, *, model: torch.nn.Module, stage: str = "base",
                    tokenizer_sha256: str = "", step: int = 0, optimizer: dict | None = None,
                    rng: dict | None = None, extra: dict | None = None) -> Path:
    """Write everything that is needed to use `model` again, whole or not at all.

    The model's state is saved under plain names (a compiled or DDP-wrapped model's prefixes are
    removed), beside its GPTConfig `.config` (a module without one: an empty config). `optimizer`
    and `rng` are state dicts for resuming, left out when None. `extra` is a dict of plain values
    or tensors (see `plain`; TypeError for another). Returns the path.
    """
    # torch.compile and DDP each put a word in front of every name; a checkpoint knows neither
    state = {name.replace("_orig_mod.", "").removeprefix("module."): value
             for name, value in model.state_dict().items()}
    config = getattr(getattr(model, "module", model), "config", None)
    content = {"format": FORMAT, "stage": stage, "config": asdict(config) if config else {},
               "tokenizer_sha256": tokenizer_sha256, "step": step, "extra": extra or {}}
    content |= {"optimizer": optimizer} if optimizer is not None else {}
    content |= {"rng": rng} if rng is not None else {}
    content = {key: plain(value, key) for key, value in content.items()} | {"model": state}
    # a plain torch.save to the final name, killed, left a broken file 9 times out of 10
    with whole(path, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as why:         # how torch's writer puts it when the disk is full
            raise OSError(errno.EIO, "could not be written, is the disk full? "
                          f"({str(why).splitlines()[0]})") from why
    return Path(path)


def load_checkpoint(path: Path | str, map_location: str = "cpu") -> dict[str, Any]:
    """The content of a checkpoint: format, stage, config, model, tokenizer_sha256, step, extra
    and, if they were saved, optimizer and rng. BadInput if missing, damaged or of another kind."""
    path = need(path, "04_model_pretrain/pretrain.py")
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError, OSError, KeyError) as why:
        reason = str(why).splitlines()[0][:120] if str(why) else type(why).__name__
        raise BadInput(f"{shown(path)} is not a readable checkpoint ({reason}): delete it and "
                       "train again, or give another one") from why
    if not isinstance(content, dict) or not KEYS <= content.keys():
        raise BadInput(f"{shown(path)} is not a checkpoint of this repository: give one that "
                       "pretrain.py or chapter 5 has written")
    if content["format"] != FORMAT:
        raise BadInput(f"{shown(path)} has checkpoint format {content['format']}, this code reads "
                       f"{FORMAT}: train again")
    return content


def restore(model: torch.nn.Module, state: dict, path: Path | str = "checkpoint") -> None:
    """Copy `state` into `model`, all of it or nothing: BadInput names the first tensor that is
    missing, left over, or of another shape."""
    own = model.state_dict()
    for name in sorted(own.keys() | state.keys()):
        if name not in own or name not in state:
            side = "lacks" if name not in state else "has the unknown"
            raise BadInput(f"{shown(path)} {side} tensor {name}: it is of another model shape")
        if own[name].shape != state[name].shape:
            raise BadInput(f"{shown(path)}: {name} is {tuple(state[name].shape)}, the model has "
                           f"{tuple(own[name].shape)}: it is of another model shape")
    model.load_state_dict(state)


class _NoNumbers(TorchFunctionMode):
    """Leaves out the filling of new tensors: 1.5 s for 134 million numbers, and 3 s on "meta",
    where it imports torch's compiler."""
    FILLERS = {"normal_", "uniform_", "kaiming_uniform_"}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ in self.FILLERS:
            return (*args, *(kwargs or {}).values())[0]
        return func(*args, **(kwargs or {}))


def empty_model(config: GPTConfig) -> GPT:
    """A GPT whose tensors have shapes but neither memory nor numbers: `load_state_dict(state,
    assign=True)` gives it some."""
    with torch.device("meta"), _NoNumbers():
        return GPT(config)


def load_model(path: Path | str, device: str = "cpu") -> tuple[GPT, dict]:
    """The GPT of a checkpoint, in eval mode on `device`, and the checkpoint's whole content."""
    content = load_checkpoint(path, map_location=device)
    try:
        model = GPT(GPTConfig(**content["config"]))
    except (TypeError, ValueError) as why:
        raise BadInput(f"{shown(path)} has a config that this code does not know ({why})") from why
    # chapter 5 adds a reward head: its tensors are not the GPT's
    state = {name: value for name, value in content["model"].items()
             if not name.startswith("reward_head.")}
    restore(model, state, path)
    return model.to(device).eval(), content


def file_digest(path: Path | str) -> str:
    """The SHA-256 of a file: what tells one tokenizer.json from another."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def check_tokenizer(checkpoint: dict, tokenizer_path: Path | str, path: Path | str) -> None:
    """BadInput if the checkpoint in `path` was trained with another tokenizer than this file:
    its ids would mean other words, and the text would be nonsense without any error."""
    if checkpoint["tokenizer_sha256"] not in ("", file_digest(tokenizer_path)):
        raise BadInput(f"{shown(path)} was trained with another tokenizer than "
                       f"{shown(tokenizer_path)}: give the right --tokenizer, or train again")
