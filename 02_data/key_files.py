"""More keys than memory: rows go to files by the first bits of their key, so that equal keys meet.

    with KeyFiles(folder, rows_in_all) as files:
        files.add(rows)                  # a structured array with a field "key"
        for rows in files: ...           # each key's rows together, at most about ROWS at a time

This is the shuffle of MapReduce (Dean and Ghemawat 2004) on one disk. A decision about all pages of
a crawl (which are copies of which?) then takes the memory of one file, whatever the crawl's size.
As keys are hashes, the files are equally long; only one key with a million rows makes one longer.
"""

import contextlib
import shutil
from pathlib import Path
from typing import Iterator

import numpy as np

ROWS = 1 << 19          # rows in memory at a time: 20 MB of 40 bytes


class KeyFiles:
    """Rows by the first bits of their key (uint64), in memory if there are at most ROWS in all."""

    def __init__(self, folder: Path, total: int, rows: int = 0):
        self.folder, self.bits = folder, 0
        while total > (rows or ROWS) << self.bits and self.bits < 10:
            self.bits += 1
        self.held: list[np.ndarray] = []
        self.dtype: np.dtype | None = None
        self.files = contextlib.ExitStack()
        self.open: list = []

    def __enter__(self) -> "KeyFiles":
        if self.bits:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self.open = [self.files.enter_context(open(self.folder / f"{i:04d}", "wb"))
                         for i in range(1 << self.bits)]
        return self

    def __exit__(self, *error) -> None:
        self.files.close()
        if self.bits:
            shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, rows: np.ndarray) -> None:
        """Append rows, each to the file of its key."""
        self.dtype = rows.dtype
        if not self.bits:
            self.held.append(rows)
            return
        place = rows["key"] >> np.uint64(64 - self.bits)
        rows = rows[np.argsort(place, kind="stable")]
        ends = np.cumsum(np.bincount(place.astype(np.int64), minlength=1 << self.bits))
        for file, part in zip(self.open, np.split(rows, ends[:-1])):
            file.write(part.tobytes())

    def __iter__(self) -> Iterator[np.ndarray]:
        """The rows file by file, in the order in which they were added."""
        if self.dtype is None:
            return
        if not self.bits:
            yield np.concatenate(self.held)
            return
        for file in self.open:
            file.flush()
            yield np.fromfile(file.name, self.dtype)
