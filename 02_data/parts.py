"""Moving pages through the pipeline: part files between passes, and work for every core.

The records of a source (sources.py) are worked off in parts of a few hundred; each part becomes one
file under the work folder, written whole. So a killed run goes on with the first missing part, any
number of processes gives the same bytes, several machines can share one folder, and memory holds a
few parts, never the crawl.
"""

import collections
import gzip
import hashlib
import itertools
import json
import multiprocessing
import signal
import sys
import time
from pathlib import Path
from typing import Callable, Iterable, Iterator

from artifacts import BadInput, whole

RECORDS_PER_PART = 256


def bounded_map(function: Callable, tasks: Iterable, workers: int,
                initializer: Callable | None = None, initargs: tuple = ()) -> Iterator:
    """`map(function, tasks)` on `workers` processes, in order, with few tasks in flight.

    multiprocessing's own imap reads all tasks at once and would hold the crawl in memory.
    """
    if workers <= 1:
        if initializer:
            initializer(*initargs)
        yield from map(function, tasks)
        return
    # spawn works alike on every system, and no lock is copied half-held
    with multiprocessing.get_context("spawn").Pool(
            workers, _start_worker, (initializer, initargs)) as pool:
        waiting: collections.deque = collections.deque()
        for task in tasks:
            waiting.append(pool.apply_async(function, (task,)))
            if len(waiting) >= 3 * workers:
                yield waiting.popleft().get()
        while waiting:
            yield waiting.popleft().get()


def _start_worker(initializer: Callable | None, initargs: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)      # Ctrl-C is for the parent, which ends us
    if initializer:
        initializer(*initargs)


def batched(items: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` items, the last one shorter: batched("abc", 2) -> ["a", "b"], ["c"]."""
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


def write_pages(path: Path, pages: Iterable[dict]) -> Path:
    """Write pages as gzipped jsonl, whole, and the same bytes each time (no date in the header)."""
    with whole(path, "wb") as raw:
        with gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as file:
            for page in pages:
                line = json.dumps(page, ensure_ascii=False)
                file.write(line.encode("utf-8", "replace") + b"\n")
    return path


def read_pages(path: Path) -> Iterator[dict]:
    """The pages of a gzipped jsonl file, in order."""
    with gzip.open(path, "rb") as file:
        for line in file:
            yield json.loads(line)


def wait_for(done: Callable[[], bool], what: str, hours: float = 24) -> None:
    """Wait until `done()`: how one process learns of others. After a minute, say for what.

    Ranks may start, and end a pass, hours apart; a day without one is an error.
    """
    began, pause, told = time.monotonic(), 0.1, False
    while not done():
        waited = time.monotonic() - began
        if waited > 3600 * hours:
            raise BadInput(f"gave up after {hours:g} hours of waiting for {what}: is every rank "
                           "running?")
        if waited > 60 and not told:
            print(f"waiting for {what}", file=sys.stderr)
            told = True
        time.sleep(pause)
        pause = min(2 * pause, 5)


def finish(work: Path, rank: int, world: int, stage: str) -> None:
    """Say that this process is through with a pass; rank 0 waits for the others."""
    (work / f"{stage}.{rank}-of-{world}").touch()
    if rank == 0:
        others = [work / f"{stage}.{r}-of-{world}" for r in range(world)]
        wait_for(lambda: all(path.exists() for path in others), f"the other ranks' {stage}")


def decide(work: Path, rank: int, stage: str, decision: Callable[[], None]) -> None:
    """Let rank 0 take a decision over all parts, once; the others wait for it."""
    done = work / f"decided.{stage}"
    if rank == 0 and not done.exists():
        decision()
        done.touch()
    wait_for(done.exists, f"rank 0 to decide what is {stage}")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
