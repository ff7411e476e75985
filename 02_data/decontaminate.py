"""Remove documents that share long word sequences with the evaluation sets.

    seen = evaluation_ngrams(["the question and its answer ..."])
    contaminated("a page that quotes the question ...", seen)   -> number of shared 13-grams

A model that trained on the exam has not learned the subject. 13 words is GPT-3's choice: shorter
sequences collide by chance. Texts are compared after `normalise_text`, so case and punctuation hide
nothing; a paraphrase does hide.
"""

import json
from pathlib import Path

import numpy as np

from artifacts import BadInput, shown
from shingles import normalise_text, shingle_batch

NGRAM = 13


def evaluation_ngrams(texts: list[str], n: int = NGRAM) -> np.ndarray:
    """The sorted distinct hashes of all n-word sequences of the evaluation texts.

    A text of fewer than n words gives none: one short answer would condemn half the crawl.
    """
    # words as shingles see them: "e-mail" is two
    long = [text for text in texts if len(normalise_text(text).split()) >= n]
    return np.unique(shingle_batch(long, n)[0])


def contaminated(text: str, seen: np.ndarray, n: int = NGRAM) -> int:
    """How many n-word sequences of `text` (repeats included) are in `seen` (sorted)."""
    if not len(seen):
        return 0
    hashes, _ = shingle_batch([text], n)
    # sorted lookup: where would it be inserted, and is it there already?
    place = np.minimum(np.searchsorted(seen, hashes), len(seen) - 1)
    return int((seen[place] == hashes).sum())


def load_evaluation(paths: list[Path]) -> list[str]:
    """Texts of evaluation files: each line of a .jsonl (all its strings joined), .csv or .txt."""
    texts = []
    for path in map(Path, paths):
        files = sorted(f for f in path.rglob("*") if f.suffix in (".jsonl", ".csv", ".txt")) \
            if path.is_dir() else [path]
        for file in files:
            try:
                lines = file.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise BadInput(f"{shown(file)} cannot be read as evaluation text ({error})")
            texts += [_strings(line) for line in lines] if file.suffix == ".jsonl" else lines
    return texts


def _strings(line: str) -> str:
    """All strings inside one JSON value, joined by spaces; the line itself if it is not JSON."""
    try:
        stack, found = [json.loads(line)], []
    except ValueError:
        return line
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict):
            stack += reversed(list(value.values()))
        elif isinstance(value, list):
            stack += reversed(value)
    return " ".join(found)
