"""decontaminate.py, shards.py, parts.py: shared n-grams, splits without twins, token files."""

import gzip
import json
import random

import numpy as np
import pytest

import decontaminate as dc
import parts
import shards
from artifacts import BadInput
from bpe import Tokenizer

EXAM = "the quick brown fox jumps over the lazy dog and then it sleeps until the late morning"
OTHER = "one small step for a man is one giant leap for all of us who came after him in time"


@pytest.mark.exercise("2.30")
def test_shared_sequences_are_counted():
    seen = dc.evaluation_ngrams([EXAM, "too short to condemn anybody"])
    assert len(seen) == 17 - 13 + 1, "17 words have five sequences of 13; the short text has none"
    assert dc.contaminated(f"Before it. {EXAM.upper()}! After it.", seen) == 5, \
        "case and punctuation hide nothing"
    assert dc.contaminated(f"{OTHER} {EXAM}", seen) == 5
    assert dc.contaminated(" ".join(EXAM.split()[:13]) + " ends here", seen) == 1
    assert dc.contaminated(" ".join(EXAM.split()[:12]) + " ends here", seen) == 0, \
        "12 shared words are not 13"
    assert dc.contaminated(OTHER, seen) == 0


@pytest.mark.exercise("2.30")
def test_every_place_in_the_sorted_list_is_found():
    texts = [" ".join(f"w{random.Random(i).random()}" for _ in range(13)) for i in range(1)]
    words = [f"x{i}" for i in range(400)]
    seen = dc.evaluation_ngrams([" ".join(words)])
    assert dc.contaminated(" ".join(words), seen) == len(seen) == 388, \
        "the first and the last of the sorted hashes are found as well"
    assert dc.contaminated(" ".join(words * 2), seen) == 2 * 388, "repeats count"
    assert dc.contaminated(texts[0], seen) == 0


@pytest.mark.exercise("2.30")
def test_nothing_to_compare_is_no_contamination():
    assert dc.contaminated(EXAM, dc.evaluation_ngrams([])) == 0
    assert dc.contaminated("", dc.evaluation_ngrams([EXAM])) == 0


def test_evaluation_files_of_four_kinds(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"q": "why", "choices": ["x", "y"]}) + "\n")
    (tmp_path / "b.csv").write_text('"what is\nthis, then",A,B\nand that,C,D\n')
    (tmp_path / "c.json").write_text(json.dumps([{"instruction": "do"}, {"instruction": "undo"}]))
    (tmp_path / "d.txt").write_text("\ufeffone\ntwo\n", encoding="utf-8")
    assert dc.load_evaluation([tmp_path]) == [
        "why x y", "what is\nthis, then A B", "and that C D", "do", "undo", "one", "two"], \
        "a quoted field may span lines: its 13-grams must not be cut there"
    with pytest.raises(BadInput, match="holds no"):
        (tmp_path / "empty").mkdir()
        dc.load_evaluation([tmp_path / "empty"])


def documents(count=400):
    rng = random.Random(1)
    return ([rng.randrange(300) for _ in range(count)],
            [f"p{rng.randrange(40)}" for _ in range(count)],
            [rng.randrange(50, 500) for _ in range(count)])


@pytest.mark.exercise("2.31")
def test_no_cluster_is_torn_apart_and_some_packages_are_held_out():
    clusters, packages, sizes = documents()
    packages = [f"p{c % 40}" for c in clusters]      # a cluster lies in one package
    splits = shards.assign_splits(clusters, packages, sizes, share=0.2)
    of = {}
    for c, s in zip(clusters, splits):
        assert of.setdefault(c, s) == s, f"cluster {c} is in train and in val: a twin leaks"
    whole = {p for p in packages if all(s == "val" for q, s in zip(packages, splits) if q == p)}
    assert whole, "some whole packages are in val"
    size = sum(b for b, p in zip(sizes, packages) if p in whole) / sum(sizes)
    assert size <= 0.1, f"whole packages take half of the share of 20 %, not {size:.1%}"
    mixed = {p for p, s in zip(packages, splits) if s == "val"} - whole
    assert mixed, "and some single clusters of other packages"


@pytest.mark.exercise("2.31")
@pytest.mark.parametrize("share", [0.02, 0.04, 0.3])
def test_the_share_is_of_bytes_and_never_exceeded(share):
    clusters, packages, sizes = documents()
    splits = shards.assign_splits(clusters, packages, sizes, share)
    got = sum(b for b, s in zip(sizes, splits) if s == "val") / sum(sizes)
    assert share * 0.8 <= got <= share, f"asked for {share:.0%} of the bytes, got {got:.1%}"


@pytest.mark.exercise("2.31")
def test_splits_do_not_depend_on_order_but_on_the_seed():
    clusters, packages, sizes = documents()
    first = dict(zip(clusters, shards.assign_splits(clusters, packages, sizes, 0.2)))
    order = random.Random(3).sample(range(len(sizes)), len(sizes))
    pick = [[x[i] for i in order] for x in (clusters, packages, sizes)]
    assert dict(zip(pick[0], shards.assign_splits(*pick, 0.2))) == first
    other = shards.assign_splits(clusters, packages, sizes, 0.2, seed=1)
    assert dict(zip(clusters, other)) != first
    one = {tuple(shards.assign_splits(range(20), ["p"] * 20, [10] * 20, 0.1, seed))
           for seed in range(5)}
    assert len(one) > 1, "another seed holds out other clusters"
    whole = [{i // 2 for i in range(0, 40, 2) if splits[i] == splits[i + 1] == "val"}
             for splits in (shards.assign_splits(range(40), [f"p{i // 2}" for i in range(40)],
                                                 [10] * 40, 0.2, seed) for seed in range(5))]
    assert not set.intersection(*whole), "another seed holds out other packages"
    assert "val" not in shards.assign_splits([1, 2], ["a", "b"], [10, 10], 0.04), \
        "a group that is larger than the budget stays in train"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    specials = ["<|endoftext|>"]
    vocab = {i: bytes([i]) for i in range(256)} | {256: b"th", 257: b"<|endoftext|>"}
    Tokenizer(vocab, [(b"t", b"h")], specials).save(path)
    return path


def pages(count=50):
    return [{"id": i, "text": f"the document {i} \u00e9 <|endoftext|>", "domain": "ab"[i % 2],
             "split": "val" if i % 10 == 0 else "train"} for i in range(count)]


def test_shards_decode_to_the_documents_with_ends_between(tmp_path, tokenizer):
    splits = shards.write_shards(pages(), tokenizer, tmp_path)
    t = Tokenizer.load(tokenizer)
    end = t.special_tokens["<|endoftext|>"]
    ids = np.fromfile(tmp_path / "train.bin", "<u2")
    rows = splits["train"]["documents"]
    assert splits["train"]["tokens"] == len(ids) == sum(rows["length"])
    columns = (rows[key] for key in ("start", "length", "bytes", "id"))
    for start, length, size, number in zip(*columns):
        text = t.decode(ids[start:start + length - 1].tolist())
        assert text == pages()[number]["text"] and len(text.encode()) == size
        assert ids[start + length - 1] == end
    assert (ids == end).sum() == len(rows["id"]), \
        "<|endoftext|> written inside a document is text, not a document end"
    corpus = tmp_path / "corpus.jsonl.gz"
    parts.write_pages(corpus, pages())
    index = shards.write_index(tmp_path, splits, tokenizer, corpus, {"a": 0.5, "b": 0.5})
    assert index["dtype"] == "uint16" and index["domains"] == ["a", "b"] and index["eot"] == end
    assert set(index["splits"]["train"]["documents"]["domain"]) == {0, 1}


def test_shards_are_the_same_bytes_for_any_number_of_workers(tmp_path, tokenizer):
    made = []
    for workers in (1, 2):
        shards.write_shards(pages(), tokenizer, tmp_path / str(workers), workers)
        made.append([(tmp_path / str(workers) / f"{n}.bin").read_bytes() for n in ("train", "val")])
    assert made[0] == made[1]


def test_dtype_by_vocabulary():
    assert [shards.dtype_for(n) for n in (4096, 65536, 65537)] == ["<u2", "<u2", "<u4"]


def test_a_tokenizer_that_cannot_divide_documents_is_refused_at_once(tmp_path):
    Tokenizer({i: bytes([i]) for i in range(256)}, [], []).save(tmp_path / "t.json")
    with pytest.raises(BadInput, match="no special token <.endoftext.> to divide documents"):
        shards.load_tokenizer(tmp_path / "t.json")


def test_pages_files_have_the_same_bytes_each_time(tmp_path):
    one = parts.write_pages(tmp_path / "1.gz", [{"a": "\u00e9"}]).read_bytes()
    assert one == parts.write_pages(tmp_path / "2.gz", [{"a": "\u00e9"}]).read_bytes()
    assert list(parts.read_pages(tmp_path / "1.gz")) == [{"a": "\u00e9"}]


def test_bounded_map_keeps_order_and_reads_little_ahead():
    taken = []

    def tasks():
        for i in range(40):
            taken.append(i)
            yield i

    results = parts.bounded_map(abs, tasks(), workers=2)
    assert next(results) == 0 and len(taken) < 20, f"{len(taken)} tasks taken for one result"
    assert list(results) == list(range(1, 40))
