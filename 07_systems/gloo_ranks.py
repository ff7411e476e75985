"""Several ranks on one machine: start processes that talk by gloo, collect what each returns.

    losses = run_ranks(train, 2, settings)      # calls train(rank, settings) in two processes

This is how every method of this chapter is tried on a laptop; real runs are started by torchrun.
Processes are forked where that is safe (0.05 s a group), else spawned (2 s a process).
But: one machine, CPU tensors. NCCL refuses two ranks on one GPU.
"""

import contextlib
import datetime
import multiprocessing
import pickle
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ranks import leave_group


class RankFailed(RuntimeError):
    """A rank raised, died, or did not end in time; the message says which, and how."""


def _rank_main(function, rank, ranks, rendezvous, timeout, answer, args) -> None:
    # A forked child that inherits a pool of threads hangs in its first big product: the pool's
    # threads were not forked with it. One thread needs no pool.
    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank,
                                world_size=ranks, timeout=datetime.timedelta(seconds=timeout))
        result = ("ok", function(rank, *args))
    except BaseException:                       # SystemExit too: the parent must learn of it
        result = ("error", traceback.format_exc())
    with contextlib.suppress(BrokenPipeError):
        answer.send_bytes(pickle.dumps(result))
    answer.close()
    if result[0] == "ok":
        # A rank that needed no other must not hang up while a slow one is still dialling.
        with contextlib.suppress(RuntimeError):
            dist.barrier()
        leave_group()
    sys.exit(result[0] != "ok")


def start_method() -> str:
    """"fork" where it is safe: on Linux, before CUDA was touched; else "spawn"."""
    return "fork" if sys.platform == "linux" and not torch.cuda.is_initialized() else "spawn"


def run_ranks(function: Callable, ranks: int, *args: Any, timeout: float = 60) -> list:
    """Call `function(rank, *args)` in `ranks` processes of one gloo group; their results in order.

    No rank outlives the call. If one raises, dies or does not answer within `timeout` seconds,
    the others are ended and RankFailed carries its traceback. `function` and results must be
    picklable where processes are spawned (macOS, Windows, after CUDA).
    """
    context = multiprocessing.get_context(start_method())
    with tempfile.TemporaryDirectory() as folder:
        pipes, processes = [], []
        for rank in range(ranks):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_rank_main, daemon=True, args=(
                function, rank, ranks, Path(folder) / "rendezvous", timeout, theirs, args))
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        try:
            return _collect(pipes, timeout)
        finally:
            for process in processes:
                process.join(2 if sys.exc_info()[0] is None else 0)
                if process.is_alive():
                    process.kill()
                    process.join()


def _collect(pipes: list, timeout: float) -> list:
    results, failed, end = {}, {}, time.monotonic() + timeout
    while len(results) + len(failed) < len(pipes):
        open_pipes = [p for rank, p in enumerate(pipes) if rank not in {*results, *failed}]
        ready = wait(open_pipes, max(0, end - time.monotonic()))
        if not ready:
            break
        for pipe in ready:
            rank = pipes.index(pipe)
            try:
                state, answer = pickle.loads(pipe.recv_bytes())
            except EOFError:
                state, answer = "error", "died without a word"
            (results if state == "ok" else failed)[rank] = answer
        if failed:      # the others fail of it: a second, so that the cause is among what is told
            end = min(end, time.monotonic() + 1)
    if failed:
        raise RankFailed("\n".join(f"rank {rank} failed: {why}"
                                   for rank, why in sorted(failed.items())))
    if missing := sorted(set(range(len(pipes))) - results.keys()):
        raise RankFailed(f"ranks {missing} gave no answer in {timeout} s")
    return [results[rank] for rank in range(len(pipes))]
