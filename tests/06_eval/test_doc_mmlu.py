"""DocMMLU: in MMLU's layout, from held-out text only, with fair places and honest wrong options."""

import csv
import gzip
import json
import random
from collections import Counter

import pytest

from artifacts import BadInput
from doc_entries import Entry
from doc_mmlu import (SCENARIOS, Fact, ask, build_doc_mmlu, build_scenario, distractors,
                      held_out_facts, place_answers, split_questions)
from mmlu import Question, load_mmlu

NOUNS = ("arrays", "files", "colours", "graphs", "dates", "threads", "matrices", "fonts", "trees",
         "paths", "tokens", "sockets", "windows", "polynomials", "signals", "records")
VERBS = ("Return", "Compute", "Remove", "Compare", "Open", "Merge", "Print", "Sort")


def document(package, module, split, count=16, start=0):
    entries = [f"do_{package}_{i}(first_{i}, second_{i}=None)\n    {VERBS[(i + start) % 8]} the "
               f"{NOUNS[i % 16]} of {package} number {i + start} in one step.\n"
               for i in range(start, start + count)]
    return {"id": 0, "url": f"https://{package}.pydoc.example/{package}.{module}.html",
            "text": "\n".join(entries), "package": package, "split": split, "domain": "code"}


def corpus(folder, documents):
    path = folder / "corpus.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(d) + "\n" for d in documents)
    return path


def facts(*documents):
    return held_out_facts(iter(documents))


def test_only_held_out_documents_become_facts():
    found, leaked = facts(document("alpha", "one", "train"), document("beta", "one", "val"))
    assert len(found) == 16 and {f.entry.package for f in found} == {"beta"} and leaked == 0


def test_a_line_that_was_trained_on_leaks():
    copy = document("alpha", "one", "val")
    found, leaked = facts(copy | {"split": "train"}, copy)
    assert not found and leaked == 16, "an inherited docstring may have been learned by heart"


def test_distractors():
    rng = random.Random(0)
    got = distractors("abc", ["abc", "abd", "abe", "abf", "a much longer option"], rng)
    assert sorted(got) == ["abd", "abe", "abf"], (
        f"three different ones of similar length, never the right one; got {got}")
    repeated = distractors("x", ["x", "y", "y", "y", "z"], rng)
    assert repeated == [], f"only two different wrong options: no question; got {repeated}"
    pool = [f"{i:03d}" for i in range(300)]
    orders = {tuple(distractors("999", pool, random.Random(s))) for s in range(20)}
    assert len(orders) > 15, "the options are drawn anew for each question"
    first = Counter(distractors("aaaa", ["bbbb", "ccc", "dd", "e"], random.Random(s))[0]
                    for s in range(60))
    assert len(first) == 3, f"closeness in length must not fix the order of options: {first}"


@pytest.mark.exercise("6.12")
def test_places_are_even_and_unpredictable():
    questions = [Question("s", f"q{i}", ("right", "w1", "w2", "w3"), 0) for i in range(80)]
    placed = place_answers(questions, random.Random(1))
    assert Counter(q.answer for q in placed) == {0: 20, 1: 20, 2: 20, 3: 20}, (
        "a constant letter must score exactly 25 %")
    assert [q.question for q in questions] == [f"q{i}" for i in range(80)], "the list was changed"
    for q in placed:
        assert q.options[q.answer] == "right", f"the answer no longer points at the right option: {q}"
        assert [o for o in q.options if o != "right"] == ["w1", "w2", "w3"], "wrong ones keep order"
    pattern = [q.answer for q in placed]
    assert pattern[:4] != pattern[4:8] or pattern[4:8] != pattern[8:12], "places repeat in a cycle"
    again = place_answers(placed, random.Random(2))
    assert all(q.options[q.answer] == "right" and sorted(q.options) == ["right", "w1", "w2", "w3"]
               for q in again), f"also where it does not stand first; got {again[0]}, {again[1]}"


def test_easy_options_come_from_elsewhere_and_hard_ones_from_the_package():
    found, _ = facts(document("beta", "one", "val"), document("gamma", "one", "val", start=100))
    for q in build_scenario(found, "summary_hard", 0):
        assert all(f"of {q.subject} " in option for option in q.options), q
    for q in build_scenario(found, "summary_easy", 0):
        wrong = [o for i, o in enumerate(q.options) if i != q.answer]
        assert all(f"of {q.subject} " not in option for option in wrong), q


def test_questions_read_like_questions():
    entry = Entry("p", "p.m", "Box", "open", "self, path", False, "Open it.")
    fact = Fact(entry, "Open it.")
    assert ask(fact, "summary_hard") == ("What does p.m.Box.open(self, path) do?", "Open it.")
    assert ask(fact, "name") == ("Which of these is described so: Open it.", "p.m.Box.open")
    assert ask(fact, "arguments") == ("What are the arguments of p.m.Box.open?", "(self, path)")
    assert ask(fact, "module") == ("Which module holds Box.open?", "p.m")


def test_small_packages_share_a_subject_and_shots_are_apart():
    questions = [Question(s, f"{s}{i}", ("r", "a", "b", "c"), 0)
                 for s, n in (("big", 60), ("mid", 30), ("s1", 8), ("s2", 9)) for i in range(n)]
    split = split_questions(questions, limit=40, seed=0)
    assert set(split) == {"big", "mid", "other_packages"}
    assert sum(len(parts["test"]) for parts in split.values()) <= 40
    for parts in split.values():
        assert len(parts["dev"]) == 5
        texts = [q.question for part in parts.values() for q in part]
        assert len(texts) == len(set(texts)), "a shot may not be a test question"
    assert split_questions(questions[:5], 40, 0) == {}


def test_the_archive_is_mmlus_own_layout(tmp_path):
    documents = [document(p, m, "val", start=40 * i) for i, (p, m) in enumerate(
        [("beta", "one"), ("beta", "two"), ("beta", "three"), ("beta", "four"), ("beta", "five"),
         ("gamma", "one"), ("gamma", "two")])] + [document("alpha", "one", "train", start=900)]
    summary = build_doc_mmlu(corpus(tmp_path, documents), tmp_path / "docmmlu", limit=60)
    assert set(summary["scenarios"]) == set(SCENARIOS)
    for scenario in SCENARIOS:
        folder = tmp_path / "docmmlu" / scenario
        archive = load_mmlu(folder)
        for subject in archive:
            with open(folder / "test" / f"{subject}_test.csv", newline="", encoding="utf-8") as f:
                assert all(len(row) == 6 and row[5] in "ABCD" for row in csv.reader(f))
    first = {p: p.read_bytes() for p in (tmp_path / "docmmlu").rglob("*.csv")}
    build_doc_mmlu(tmp_path / "corpus.jsonl.gz", tmp_path / "docmmlu", limit=60)
    assert first == {p: p.read_bytes() for p in (tmp_path / "docmmlu").rglob("*.csv")}, (
        "the same command twice makes the same bytes")


def test_a_lost_subject_is_made_again(tmp_path, monkeypatch, capsys):
    import doc_mmlu
    documents = [document("beta", m, "val", start=40 * i) for i, m in enumerate("abcdefg")]
    monkeypatch.setattr("sys.argv", ["doc_mmlu", "--corpus", str(corpus(tmp_path, documents)),
                                     "--out", str(tmp_path / "docmmlu"), "--quick"])
    doc_mmlu.main()
    lost = next((tmp_path / "docmmlu").rglob("*_test.csv"))
    lost.unlink()
    doc_mmlu.main()
    assert lost.exists(), "each table is an output, not about.json alone"
    doc_mmlu.main()
    assert "up to date" in capsys.readouterr().out.splitlines()[-1]


def test_bad_corpora(tmp_path):
    with pytest.raises(BadInput, match="build_corpus"):
        build_doc_mmlu(tmp_path / "none.jsonl.gz", tmp_path / "d")
    with pytest.raises(BadInput, match="too few"):
        build_doc_mmlu(corpus(tmp_path, [document("a", "m", "train")]), tmp_path / "d")
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(b'{"split": "val"\n'))
    with pytest.raises(BadInput, match="line 1"):
        build_doc_mmlu(tmp_path / "corpus.jsonl.gz", tmp_path / "d")
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(b"x" * 5000)[:30])
    with pytest.raises(BadInput):
        build_doc_mmlu(tmp_path / "corpus.jsonl.gz", tmp_path / "d")
