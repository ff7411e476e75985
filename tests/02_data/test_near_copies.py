"""near_copies.py: what files and batches give is what one process gives in memory."""

import random

import numpy as np
import pytest

import minhash
import near_copies as nc
from parts import write_pages

WORDS = [f"word{i}" for i in range(800)]


def texts_with_copies(count=60):
    """Texts of which each third one has a near copy, some a chain of three."""
    rng, texts = random.Random(4), []
    for i in range(count):
        words = rng.choices(WORDS, k=90)
        texts.append(" ".join(words))
        for j in range(i % 3):
            words = words.copy()
            words[rng.randrange(90)] = f"new{i}x{j}"
            texts.append(" ".join(words))
    rng.shuffle(texts)
    return texts


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The texts as three part files with their band keys: (texts, arrays, pages)."""
    folder, texts = tmp_path_factory.mktemp("parts"), texts_with_copies()
    arrays, pages = [], []
    for k, part in enumerate((texts[:50], texts[50:51], texts[51:])):
        pages.append(write_pages(folder / f"{k}.jsonl.gz", [{"text": t} for t in part]))
        arrays.append(folder / f"{k}.npz")
        np.savez(arrays[-1], **nc.band_columns(part))
    return texts, arrays, pages


def survivors_of(texts, clusters):
    return sorted(i for c in clusters for i in c if i != minhash.survivor(c, texts))


@pytest.mark.parametrize("most", [1, 7, 20_000])
def test_files_and_batches_change_nothing(parts, monkeypatch, most):
    texts, arrays, pages = parts
    monkeypatch.setattr(nc.batches_of, "__defaults__", (most,))
    expected = survivors_of(texts, minhash.near_duplicates(texts))
    got = nc.near_pages(np.arange(len(texts)), arrays, pages, 0.8)
    assert len(expected) > 40 and sorted(got) == expected, \
        f"batches of {most} texts gave other copies than one process with all texts in memory"


def test_only_pages_that_are_alive_take_part(parts):
    texts, arrays, pages = parts
    first = minhash.near_duplicates(texts)[0]
    alive = np.array([i for i in range(len(texts)) if i != first[0]])
    expected = survivors_of([t if i != first[0] else "" for i, t in enumerate(texts)],
                            minhash.near_duplicates([t if i != first[0] else ""
                                                     for i, t in enumerate(texts)]))
    assert sorted(nc.near_pages(alive, arrays, pages, 0.8)) == expected


def test_a_batch_never_tears_a_pair_apart_and_holds_little():
    groups = [[0, 1], [1, 2], [3, 4], [5, 6, 7], [2, 9], [8, 9]]
    batches = list(nc.batches_of(groups, 3))
    assert sorted(g for batch in batches for g in batch) == sorted(groups)
    held = [{i for g in batch for i in g} for batch in batches]
    assert held[0] == {0, 1, 2, 8, 9}, "0, 1, 2, 9 and 8 hang together"
    assert len(held) == 2 and held[1] == {3, 4, 5, 6, 7}, "two small groups share a batch"
    assert list(nc.batches_of([], 3)) == []


def test_entries_are_compared_where_they_stand(tmp_path):
    rng = random.Random(1)
    long = [" ".join(rng.choices(WORDS, k=60)) for _ in range(3)]
    near = long[1].replace("word", "Word", 1) + " end"
    pages = [write_pages(tmp_path / "0.jsonl.gz", [{"text": f"{long[0]}\n\n{long[1]}"},
                                                   {"text": f"short\n\n{near}\n\n{long[2]}"}])]
    entries = [long[0] + "\n\n", long[1], near + "\n\n", long[2]]
    np.savez(tmp_path / "0.npz", **nc.band_columns(entries))
    gone = nc.near_entries(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 2]), [tmp_path / "0.npz"],
                           pages, 0.8)
    assert gone.tolist() == [False, True, False, False], "the longer of the two near copies stays"
