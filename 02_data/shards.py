"""Documents to token shards: flat files of token ids, documents divided by <|endoftext|>.

    train.bin, val.bin     little-endian uint16 (uint32 beyond 65,536 tokens), nothing else
    index.json             where each document starts, its length, bytes, domain, id

A reader maps the file into memory (np.memmap) and slices. Splits go by the hash of the near-copy
cluster, not of the document, so that no twin of a validation page is in train; and a few whole
packages (or sites) are held out as well, so that later chapters can ask about things never seen.
"""

import contextlib
from pathlib import Path
from typing import Iterable

import numpy as np

from artifacts import BadInput, need, shown, whole, write_json
from bpe import Tokenizer
from dedup import digest64
from parts import batched, bounded_map, file_sha256
from sources import END_OF_TEXT

_tokenizer: list[Tokenizer] = []      # one per worker process, loaded once


def assign_splits(clusters: list[int], packages: list[str], sizes: list[int], share: float = 0.04,
                  seed: int = 0) -> list[str]:
    """"train" or "val" for each document, about `share` of all bytes in val.

    Half of the share is whole packages, taken in the order of a hash of the seed and their names:
    what fits, exactly too, is held out, what does not is passed over, and the next may still fit.
    Then whole clusters, likewise, up to all of the share. Documents of one cluster are always
    together, the share is never exceeded, another seed holds out others, and the answer does not
    depend on the order of documents.
    """
    # who is in whom, and how large: a cluster goes as a whole
    budget = share * sum(sizes)
    groups_of_package: dict[str, set[int]] = {}
    size_of: dict[int, int] = {}
    for c, p, s in zip(clusters, packages, sizes):
        groups_of_package.setdefault(p, set()).add(c)
        size_of[c] = size_of.get(c, 0) + s
    held: set[int] = set()
    # first whole packages up to half the budget, then single clusters up to all of it, both in the
    # order of a digest: what fits is held out, what does not is passed over
    names = sorted(groups_of_package, key=lambda p: (digest64(f"{seed} package {p}"), p))
    for limit, groups in ((budget / 2, [groups_of_package[p] for p in names]),
                          (budget, [{c} for c in sorted(
                              size_of, key=lambda c: (digest64(f"{seed} cluster {c}"), c))])):
        used = sum(size_of[c] for c in held)
        for group in groups:
            extra = sum(size_of[c] for c in group - held)
            if used + extra <= limit:
                held |= group
                used += extra
    return ["val" if c in held else "train" for c in clusters]


def load_tokenizer(path: Path | str) -> Tokenizer:
    """The tokenizer in a file; BadInput if it is missing or cannot divide documents."""
    tokenizer = Tokenizer.load(need(path, "01_tokenizer/train_tokenizer.py"))
    if END_OF_TEXT not in tokenizer.special_tokens:
        raise BadInput(f"{shown(path)} has no special token {END_OF_TEXT} to divide documents: "
                       "train it with python 01_tokenizer/train_tokenizer.py")
    return tokenizer


def _start(path: str) -> None:
    _tokenizer[:] = [Tokenizer.load(path)]


def _encode(texts: list[str]) -> list[np.ndarray]:
    return [_tokenizer[0].encode_to_numpy(text) for text in texts]


def write_shards(documents: Iterable[dict], tokenizer_path: Path, folder: Path, workers: int = 1,
                 progress=None) -> dict:
    """Tokenise documents ({"id", "text", "domain", "split"}) into `folder`; returns the splits.

    {"train": {"tokens", "bytes", "documents": {"start", "length", "bytes", "domain", "id"}},
    "val": ...}: `length` counts the <|endoftext|> after the document, `domain` holds names. The
    files appear whole, and their bytes do not depend on `workers`.
    """
    tokenizer = Tokenizer.load(tokenizer_path)
    dtype = dtype_for(tokenizer.vocab_size)
    end = np.array([tokenizer.special_tokens[END_OF_TEXT]], dtype)
    splits = {name: {"tokens": 0, "bytes": 0, "documents": {
        key: [] for key in ("start", "length", "bytes", "domain", "id")}}
        for name in ("train", "val")}
    waiting: list[dict] = []      # what the workers are busy with, in order

    def texts():
        for batch in batched(documents, 16):
            waiting.extend({k: d[k] for k in ("id", "domain", "split")} | {
                "bytes": len(d["text"].encode("utf-8", "surrogatepass"))} for d in batch)
            yield [d["text"] for d in batch]

    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(whole(Path(folder) / f"{name}.bin", "wb"))
                 for name in splits}
        for encoded in bounded_map(_encode, texts(), workers, _start, (str(tokenizer_path),)):
            for ids in encoded:
                document = waiting.pop(0)
                split = splits[document["split"]]
                files[document["split"]].write(ids.astype(dtype).tobytes())
                files[document["split"]].write(end.tobytes())
                rows = split["documents"]
                rows["start"].append(split["tokens"])
                rows["length"].append(len(ids) + 1)
                for key in ("bytes", "domain", "id"):
                    rows[key].append(document[key])
                split["tokens"] += len(ids) + 1
                split["bytes"] += document["bytes"]
                if progress is not None:
                    progress.update(document["bytes"])
    return splits


def dtype_for(vocab_size: int) -> str:
    """The smallest little-endian unsigned type for the ids: "<u2" up to 65,536 tokens, or "<u4"."""
    return "<u2" if vocab_size <= 2**16 else "<u4"


def write_index(folder: Path, splits: dict, tokenizer_path: Path, corpus_path: Path,
                mixture: dict[str, float]) -> dict:
    """Write index.json beside the shards; domains become numbers into "domains". Returns it."""
    tokenizer = Tokenizer.load(tokenizer_path)
    domains = sorted(mixture)
    number = {name: i for i, name in enumerate(domains)}
    for split in splits.values():
        rows = split["documents"]
        rows["domain"] = [number[name] for name in rows["domain"]]
    index = {
        "format": 1,
        "tokenizer_sha256": file_sha256(tokenizer_path),
        "corpus_sha256": file_sha256(corpus_path),
        "vocab_size": tokenizer.vocab_size,
        "dtype": {"<u2": "uint16", "<u4": "uint32"}[dtype_for(tokenizer.vocab_size)],
        "eot": tokenizer.special_tokens[END_OF_TEXT],
        "domains": domains, "mixture": mixture, "splits": splits}
    write_json(Path(folder) / "index.json", index)
    return index
