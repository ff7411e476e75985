"""near_copies.py: what files and batches give is what one process gives in memory."""

import random

import numpy as np
import pytest

import key_files
import minhash
import near_copies as nc
from dedup import digest64
from parts import write_pages
from work_files import WorkFiles, part_name

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


def facts(texts):
    return {"length": np.array([len(t) for t in texts]),
            "text": np.array([digest64(t) for t in texts], np.uint64)}


def write_part(work, part, texts):
    write_pages(work.texts("pages", part), [{"text": t} for t in texts])
    np.savez(work.keys("pages", part), **nc.band_columns(texts), **facts(texts))
    work.counts("pages", part).write_text("{}")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The texts as three part files with their band keys: (texts, work files)."""
    work, texts = WorkFiles(tmp_path_factory.mktemp("work")), texts_with_copies()
    for k, part in enumerate((texts[:50], texts[50:51], texts[51:])):
        write_part(work, part_name(k, 0), part)
    return texts, work


def survivors_of(texts, clusters):
    length, text = facts(texts).values()
    return sorted(i for c in clusters for i in c if i != minhash.survivor(c, length, text))


@pytest.mark.parametrize("most, rows", [(20_000, 1 << 19), (2, 1 << 19), (7, 16), (20_000, 4)])
def test_files_and_batches_change_nothing(work, monkeypatch, most, rows):
    texts, files = work
    monkeypatch.setattr(nc.batches_of, "__defaults__", (most,))
    monkeypatch.setattr(key_files, "ROWS", rows)
    expected = survivors_of(texts, minhash.near_duplicates(texts))
    got = nc.near_pages(files, np.ones(len(texts), bool), 0.8)
    assert len(expected) > 40 and sorted(got) == expected, \
        f"batches of {most} texts and {rows} rows gave other copies than one process in memory"
    assert not (files.folder / "met").exists(), "the key files are deleted"


def test_only_pages_that_are_alive_take_part(work):
    texts, files = work
    first = minhash.near_duplicates(texts)[0]
    alive = np.arange(len(texts)) != first[0]
    rest = [t if i != first[0] else "" for i, t in enumerate(texts)]
    assert sorted(nc.near_pages(files, alive, 0.8)) == survivors_of(
        rest, minhash.near_duplicates(rest))


def test_a_batch_holds_little_and_loses_no_group():
    groups = [[0, 1], [1, 2], [3, 4], [5, 6, 7], [8, 9]]
    batches = list(nc.batches_of(groups, 4))
    assert [g for batch in batches for g in batch] == groups
    assert all(len({i for g in batch for i in g}) <= 4 for batch in batches)
    pieces = [g for batch in nc.batches_of([list(range(10))], 4) for g in batch]
    assert {i for g in pieces for i in g} == set(range(10)) and all(0 in g for g in pieces), \
        "a group too large for a batch is cut in pieces that have its first member in common"
    assert list(nc.batches_of([], 3)) == []


def test_links_know_only_what_was_joined():
    links = nc.Links()
    for i, j in ((10**9, 5), (7, 10**9), (3, 4)):
        links.union(i, j)
    assert links.clusters() == [[3, 4], [5, 7, 10**9]] and len(links.parent) < 8


def test_equal_keys_meet_in_one_file(tmp_path):
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**63, 300, dtype=np.uint64) * np.uint64(2)
    rows = np.zeros(900, nc.MEETING)
    rows["key"], rows["number"] = np.tile(keys, 3), np.arange(900)
    with key_files.KeyFiles(tmp_path / "k", 900, rows=100) as files:
        for part in np.split(rows, 9):
            files.add(part)
        got = list(files)
    assert len(got) == 16 and max(map(len, got)) < 200, "no file holds a third of the rows"
    assert sorted(np.concatenate(got)["number"]) == list(range(900))
    places = [set(part["key"].tolist()) for part in got]
    assert sum(map(len, places)) == 300, "a key is in one file only"


def test_entries_are_compared_where_they_stand(tmp_path):
    rng, work = random.Random(1), WorkFiles(tmp_path)
    long = [" ".join(rng.choices(WORDS, k=60)) for _ in range(3)]
    near = long[1].replace("word", "Word", 1) + " end"
    write_pages(work.texts("unique", "0"), [{"text": f"{long[0]}\n\n{long[1]}"},
                                            {"text": f"short\n\n{near}\n\n{long[2]}"}])
    entries = [long[0] + "\n\n", long[1], near + "\n\n", long[2]]
    np.savez(work.keys("unique", "0"), **nc.band_columns(entries), **facts(entries),
             owner=np.array([0, 0, 1, 1]), number=np.array([0, 1, 1, 2]))
    work.counts("unique", "0").write_text("{}")
    assert nc.near_entries(work, 4, 0.8) == [1], "the longer of the two near copies stays"
