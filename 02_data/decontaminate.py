"""Remove documents that share long word sequences with the evaluation sets.

    seen = evaluation_ngrams(["the question and its answer ..."])
    contaminated("a page that quotes the question ...", seen)   -> number of shared 13-grams

A model that trained on the exam has not learned the subject. 13 words is GPT-3's choice: shorter
sequences collide by chance. Texts are compared after `normalise_text`, so case and punctuation hide
nothing; a paraphrase does hide.
"""

import csv
import io
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
    """How many n-word sequences of `text` (repeats included) are in `seen`, of evaluation_ngrams.

    Both are hashed by `shingle_batch`. An empty `seen` holds nothing.
    """
    if not len(seen):
        return 0
    hashes, _ = shingle_batch([text], n)
    # sorted lookup: where would it be inserted, and is it there already?
    place = np.minimum(np.searchsorted(seen, hashes), len(seen) - 1)
    return int((seen[place] == hashes).sum())


def load_evaluation(paths: list[Path]) -> list[str]:
    """Texts of evaluation files: one for each line of .jsonl or .txt, row of .csv, item of .json.

    All strings of a line, row or item are joined: a question, its options, its answer. A row of a
    .csv may span lines, as in MMLU. A folder stands for all such files in it.
    """
    texts = []
    for path in map(Path, paths):
        files = sorted(f for f in path.rglob("*") if f.suffix in _READERS) \
            if path.is_dir() else [path]
        if not files:
            raise BadInput(f"{shown(path)} holds no {' or '.join(_READERS)} file")
        for file in files:
            try:
                text = file.read_text(encoding="utf-8-sig")
                texts += _READERS.get(file.suffix, str.splitlines)(text)
            except (OSError, UnicodeDecodeError, csv.Error) as error:
                raise BadInput(f"{shown(file)} cannot be read as evaluation text ({error})")
    return texts


def _lines(text: str) -> list[str]:
    """The lines of a jsonl file, the strings of each joined (U+2028 is no end of a line here)."""
    return [_strings(line) for line in text.split("\n") if line.strip()]


def _rows(text: str) -> list[str]:
    """The rows of a CSV file, the fields of each joined."""
    return [" ".join(row) for row in csv.reader(io.StringIO(text, newline=""))]


def _items(text: str) -> list[str]:
    """The items of a JSON list, the strings of each joined; any other JSON is one item."""
    try:
        value = json.loads(text)
    except ValueError:
        return _lines(text)
    return [_strings(json.dumps(item)) for item in (value if isinstance(value, list) else [value])]


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


_READERS = {".jsonl": _lines, ".csv": _rows, ".json": _items, ".txt": str.splitlines}
