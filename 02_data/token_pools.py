"""Training sets to compare: documents as tokens, drawn up to a budget, and written as shards.

measure_filters.py fills one pool for each step of the pipeline; chapter 4 trains on the shards.
"""

from pathlib import Path

import numpy as np

from artifacts import whole, write_json
from bpe import Tokenizer
from parts import file_sha256
from shards import dtype_for
from sources import END_OF_TEXT


class TokenPool:
    """Documents of one stage as token ids; `draw` gives random documents up to a budget."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer, self.documents, self.sizes, self.size = tokenizer, [], [], 0

    def add(self, ids: np.ndarray, size: int) -> None:
        """Keep one document, given as tokens of so many bytes of text."""
        self.documents.append(ids)
        self.sizes.append(size)
        self.size += len(ids)

    def pick(self, budget: int, seed: int) -> list[int]:
        """Numbers of documents in random order, the first that hold `budget` tokens."""
        order = np.random.default_rng(seed).permutation(len(self.documents))
        sizes = np.cumsum([len(self.documents[i]) for i in order])
        return order[: int(np.searchsorted(sizes, budget)) + 1].tolist()

    def draw(self, budget: int, seed: int) -> np.ndarray:
        """Whole documents in random order, cut at `budget` tokens."""
        return np.concatenate([self.documents[i] for i in self.pick(budget, seed)])[:budget]


def save_steps(folder: Path, pools: dict[str, TokenPool], judge: TokenPool, most: int,
               tokenizer_path: Path) -> None:
    """Each stage as token shards that chapter 4 can train on: folder/<stage>/train.bin, val.bin.

    `most` tokens of a stage at most, in random documents; the judge is each one's val.
    """
    dtype = dtype_for(judge.tokenizer.vocab_size)
    for name, pool in pools.items():
        target, splits = folder / name.replace(" ", "_"), {}
        for split, part, chosen in (("train", pool, pool.pick(most, 0)),
                                    ("val", judge, range(len(judge.documents)))):
            lengths = [len(part.documents[i]) for i in chosen]
            with whole(target / f"{split}.bin", "wb") as file:
                for i in chosen:
                    file.write(part.documents[i].astype(dtype).tobytes())
            splits[split] = {"tokens": sum(lengths), "documents": {
                "start": np.cumsum([0] + lengths)[:-1].tolist(), "length": lengths,
                "bytes": [part.sizes[i] for i in chosen], "domain": [0] * len(lengths)}}
        write_json(target / "index.json", {
            "format": 1, "tokenizer_sha256": file_sha256(tokenizer_path), "corpus_sha256": "",
            "vocab_size": judge.tokenizer.vocab_size, "domains": [name], "mixture": {},
            "dtype": {"<u2": "uint16", "<u4": "uint32"}[dtype], "splits": splits,
            "eot": judge.tokenizer.special_tokens[END_OF_TEXT]})
