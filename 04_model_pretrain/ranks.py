"""Which of how many processes is this one? One by default; more under torchrun.

    torchrun --nproc-per-node 2 04_model_pretrain/pretrain.py

Plain data parallelism: every rank holds the whole model and takes its rows of each batch; torch's
DDP averages the gradients. Chapter 7 writes DDP out and goes on from there.
"""

import atexit
import datetime
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from artifacts import BadInput


@dataclass(frozen=True)
class Ranks:
    """This process among all: `rank` of `world`, computing on `device`."""
    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """True on the one rank that writes files and talks."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over all ranks; itself when alone."""
        if self.world == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids)

    def average(self, value: Tensor) -> Tensor:
        """The mean of `value` over all ranks; itself when alone."""
        if self.world > 1:
            dist.all_reduce(value)
            value = value / self.world
        return value

    def any(self, flag: bool) -> bool:
        """True if the flag is up on any rank, so that all of them stop at the same step."""
        return bool(self.average(torch.tensor(float(flag), device=self.device)) > 0)

    def leave(self) -> None:
        """Close the connections to the other ranks."""
        if self.world > 1:
            leave_group()


def leave_group() -> None:
    """Close the connections of the default group, in any order with the models that used it.

    torch's DDP holds the group too. If it lives longer than the group's Python object, then its
    end is the group's: that waits for gloo's thread without giving up Python's lock, and the
    thread may wait for just that lock to free the last tensor it sent. Both wait for ever (seen
    on a busy machine, rank 1 of 2). So one reference stays until the interpreter ends.
    """
    atexit.register(id, dist.group.WORLD)
    dist.destroy_process_group()


def device_named(name: str) -> torch.device:
    """The device of --device; BadInput if there is none of that name, or none in this machine.

    "auto" is a GPU if there is one for each process of this machine, and the CPU if not.
    """
    if name == "auto":
        each = torch.cuda.device_count() >= int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        name = "cuda" if torch.cuda.is_available() and each else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as why:
        raise BadInput(f"--device {name} is not known: auto, cpu or cuda") from why
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BadInput(f"--device {name}: PyTorch finds no GPU here; leave it out to use the CPU")
    return device


def join(device: str = "auto", seconds: int = 600) -> Ranks:
    """Take this process's place: RANK, LOCAL_RANK and WORLD_SIZE as torchrun sets them.

    Ranks on GPUs talk over NCCL, ranks on CPUs over gloo; a rank that hears nothing for `seconds`
    gives up, so that a dead partner ends the run instead of hanging it.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    place = device_named(device)
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(place)
    if world > 1:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo",
                                timeout=datetime.timedelta(seconds=seconds))
    return Ranks(rank, world, place)
