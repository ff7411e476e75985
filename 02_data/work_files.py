"""The files that the passes of build_corpus hand each other, each with a name and one purpose.

    out/02_data/work/
        started                 which inputs, settings and code this work belongs to
        pages/00003-00012.*     pass 1: source 3, its part 12 of a few hundred records
        unique/00003-00012.*    pass 2: the same part without copies
        final/00003-00012.*     pass 3: the same part, scored
            .jsonl.gz           the pages that are left, one a line
            .npz                arrays of keys (pages, unique): all that rank 0 needs of a part
            .json               what each step counted; written last: a part with it is finished
        copies.npy  entries.npy near.npy         decisions of rank 0: a byte for each page or entry
        profile.npy quality.npz evaluation.npy   what pass 3 judges by
        decided.unique  decided.scored           a decision is taken
        pages.0-of-4 ...                         rank 0 of 4 is through with this pass

Part names sort in input order, whoever made them and when. Arrays of pages/*.npz: url, text,
length, address, specific (one a page, see `page_keys`), entries with entry_counts, band0 ... band13
(MinHash); of unique/*.npz: owner and number (page and place of each long entry), text, length,
band0 ... band13.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from artifacts import whole

STAGES = ("pages", "unique", "final")


@dataclass(frozen=True)
class WorkFiles:
    """Named paths below one work folder; nothing is read before it is asked for."""
    folder: Path

    def texts(self, stage: str, part: str) -> Path:
        """The pages of a part after a pass, .jsonl.gz."""
        return self.folder / stage / f"{part}.jsonl.gz"

    def keys(self, stage: str, part: str) -> Path:
        """The arrays of a part, .npz."""
        return self.folder / stage / f"{part}.npz"

    def counts(self, stage: str, part: str) -> Path:
        """The counters of a part, .json; a part that has them is finished."""
        return self.folder / stage / f"{part}.json"

    def parts(self, stage: str) -> list[str]:
        """The names of all finished parts of a pass, in input order."""
        return sorted(path.name.removesuffix(".json")
                      for path in (self.folder / stage).glob("*.json"))

    def counted(self, stage: str, part: str) -> dict:
        """What the steps of a pass counted in one part."""
        return json.loads(self.counts(stage, part).read_text(encoding="utf-8"))

    def decision(self, name: str) -> Path:
        """The file of a decision: copies, entries, near, profile, evaluation (.npy) or quality."""
        return self.folder / f"{name}.{'npz' if name == 'quality' else 'npy'}"


def part_name(source: int, part: int) -> str:
    """The name that puts part files in input order: part_name(3, 12) = "00003-00012"."""
    return f"{source:05d}-{part:05d}"


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write named arrays whole; the same bytes each time."""
    with whole(path, "wb") as file:
        np.savez(file, **arrays)
