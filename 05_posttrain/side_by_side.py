"""Pieces of work that do not need each other, on all cores: one process each, results in order.

    rows = side_by_side(judge_one, [(name, path) for ...], workers=args.workers)

`work` is a function of a module, its items and results plain values or numpy arrays (they travel
between processes). With one worker everything happens in this process: the results are the same,
because every piece draws from its own seed.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Callable, Iterable

import torch
from tqdm import tqdm


def usable_cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_thread() -> None:
    """A worker's first act: with one thread each, the workers do not get into each other's way."""
    torch.set_num_threads(1)


def side_by_side(work: Callable, items: Iterable[tuple], workers: int, desc: str = "") -> list:
    """[work(*item) for item in items], in order, `workers` of them at a time."""
    items = list(items)
    if workers < 2 or len(items) < 2:
        return [work(*item) for item in tqdm(items, desc=desc)]
    # spawn: a fork of a process in which torch has threads can hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(items)), context, initializer=one_thread) as pool:
        return list(tqdm(pool.map(work, *zip(*items)), desc=desc, total=len(items)))
