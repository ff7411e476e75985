"""Documentation, instruction files, preferences, gold rule, annotator, self-instruct."""

import json
import math
from collections import Counter

import pytest

from annotator import label_pairs, preference_probability
from artifacts import BadInput
from doc_entries import entries, first_sentence, module_of, returns_sentence
from gold_rule import VERBS, gold_scores, name_words, points, relevance, repetition
from instruction_files import load_instructions
from instructions import (argument_names, hold_out_packages, make_pairs, mix_kinds,
                          split_by_package)

PAGE = """numpy index

argsort(a, axis=-1, kind=None)
    Returns the indices that would sort an array.

    Returns
    -------
    index_array : ndarray, int
        Array of indices that sort `a` along the specified axis.

    Call
        argsort(x)
    to sort.

class Grid(builtins.object)

    Grid(n)

A grid of points in the plane. It is square.

Method resolution order:
    Grid

move(self, by: tuple[int, int] = (0, 0)) -> None
    Move all points.

_hidden(x)
    Do something private.

nothing(x)

merge(a, b)
    Merge two grids, e.g. Two of them. Then return.
"""
DOCUMENT = {"url": "https://numpy.pydoc.example/numpy.grids.html", "text": PAGE,
            "package": "numpy", "split": "train"}


def test_entries_of_a_page():
    found = list(entries(DOCUMENT))
    assert [e.full_name for e in found] == [
        "numpy.grids.argsort", "numpy.grids.Grid", "numpy.grids.Grid.move",
        "numpy.grids._hidden", "numpy.grids.merge"], "signatures at the margin, with a text"
    assert found[1].is_class and found[1].doc == "A grid of points in the plane. It is square."
    assert "argsort(x)" in found[0].doc, "an indented call is text, not a new entry"
    assert module_of("https://x.pydoc.example/a.b.html?y=1") == "a.b"


@pytest.mark.parametrize("doc, want", [
    ("Return the sum.\nMore.", "Return the sum."), ("Two\nlines here\n\nNo.", "Two lines here"),
    ("Pad the given array, e.g. With zeros. Then stop.", "Pad the given array, e.g. With zeros."),
    (">>> f(1)", ""), ("", ""), ("a -> b and c", ""), ("Too short", ""), ("x " * 40, ""),
    ("TYPE_CHECKING = False", ""), ("clear(self) clear(): Explicitly release all", ""),
    ("async __anext__(self) Return the next item.", ""),
    ("Returns f(x) where x is a list.", "Returns f(x) where x is a list.")])
def test_first_sentence(doc, want):
    assert first_sentence(doc) == want


@pytest.mark.parametrize("doc", [
    "Returns\n-------\nout : ndarray\n    The sorted copy.", "Returns:\n    The sorted copy.",
    "Text.\n\n:returns: The sorted copy."])
def test_returns_in_three_styles(doc):
    assert returns_sentence(doc) == "The sorted copy."
    assert returns_sentence("Nothing here returns.") == ""


def test_every_answer_is_in_the_text():
    pairs = make_pairs([DOCUMENT])
    flat = " ".join(PAGE.split())
    by_kind = Counter(p["kind"] for p in pairs)
    assert by_kind["does"] == 4 and not any("_hidden" in p["name"] for p in pairs)
    for pair in pairs:
        question, answer = (m["content"] for m in pair["messages"])
        if pair["kind"] in ("does", "returns"):
            assert answer in flat, f"{question!r}: {answer!r} is not in the documentation"
        elif pair["kind"] == "arguments":
            assert all(a in question for a in answer.rstrip(".").replace(" and ", ", ").split(", "))
        elif pair["kind"] == "module":
            assert answer == f"{pair['name'].split('.')[-1]} is in numpy.grids."


@pytest.mark.parametrize("text, want", [
    ("self, a, axis=-1, *args, **kw", ["a", "axis", "args", "kw"]), ("", []),
    ("cls, x: dict[str, int] = {1: 2}, *, y=(1, 2), /", ["x", "y"])])
def test_argument_names(text, want):
    assert argument_names(text) == want


def pairs_of(package, answers, split="train"):
    return [{"package": package, "split": split, "kind": "does", "name": str(i), "messages": [
        {"role": "user", "content": f"What does {package}.f{i} do?"},
        {"role": "assistant", "content": a}]} for i, a in enumerate(answers)]


def test_packages_never_cross_and_twins_leave_training():
    many = sum((pairs_of(f"p{k}", [f"Answer number {k} of part {i}." for i in range(20)])
                for k in range(20)), [])
    many += pairs_of("held", ["Return the one true shared sentence.", "Stop."], "val")
    many += pairs_of("twin", ["Return the one true shared sentence.", "Stop.", "Go on now please."])
    held_out = hold_out_packages(many)
    train, val, twins = split_by_package(many, held_out)
    assert "held" in held_out and not {p["package"] for p in train} & held_out
    assert {p["package"] for p in val} == held_out and twins == ("twin" not in held_out)
    assert len(val) >= 0.04 * len(many), "whole packages are added until there are enough"
    assert mix_kinds(train, 0, 50) == mix_kinds(train, 0, 50) and len(mix_kinds(train, 0, 50)) <= 50


# ------------------------------------------------------------------------------ instruction files

def test_alpaca_and_sharegpt_load_and_bad_records_are_counted(tmp_path):
    alpaca = [{"instruction": "Add.", "input": "1 and 2", "output": "3"},
              {"instruction": "Hi.", "input": "", "output": "Hello."},
              {"instruction": "No answer.", "input": ""}, {"instruction": "x", "output": " "}, 7]
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps(alpaca), encoding="utf-8")
    chats, skipped = load_instructions(path)
    assert chats[0] == [{"role": "user", "content": "Add.\n\n1 and 2"},
                        {"role": "assistant", "content": "3"}]
    assert len(chats) == 2 and skipped == {"no output": [2, 2], "no JSON object": [1, 4]}
    share = [{"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "a"},
                                {"from": "gpt", "value": "b"}, {"from": "human", "value": "c"}]},
             {"conversations": [{"from": "gpt", "value": "b"}]},
             {"conversations": [{"from": "robot", "value": "b"}]}]
    path.write_text("\n".join(map(json.dumps, share)), encoding="utf-8")
    chats, skipped = load_instructions(path)
    assert [m["content"] for m in chats[0]] == ["a", "b"], "the unanswered question is dropped"
    assert len(skipped) == 2 and "unknown speaker 'robot'" in skipped


@pytest.mark.parametrize("bad, reason", [
    ('{"instruction": "a \\ud83d b", "output": "half an emoji"}', "lone surrogate"),
    ('{"a":' * 20_000, "no JSON"), ('{"instruction": "cut off', "no JSON"),
    ('{"messages": [{"role": "user", "content": "nobody answers"}]}', "no answered turn"),
    ('{"instruction": ' + "9" * 5000 + "}", "no JSON"), ('{"conversations": null}', "wrong type")])
def test_one_bad_line_does_not_spoil_the_file(tmp_path, bad, reason):
    path = tmp_path / "x.jsonl"
    good = json.dumps({"messages": [{"role": "system", "content": "Be kind."},
                                    {"role": "user", "content": "a"},
                                    {"role": "assistant", "content": "b"}]})
    path.write_text(f"{good}\n{bad}\n{good}", encoding="utf-8")
    chats, skipped = load_instructions(path)
    assert [m["content"] for m in chats[1]] == ["a", "b"], "the system turn is dropped"
    assert len(chats) == 2 and [v for k, v in skipped.items() if reason in k] == [[1, 1]], skipped


@pytest.mark.parametrize("content, error", [
    (b"\xff\xfe", "not UTF-8"), (b"[{", "no JSON"), (b"[]", "no usable record"),
    (b"[" * 100_000, "nested too deep")])
def test_unusable_files_are_one_clear_line(tmp_path, content, error):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=error):
        load_instructions(path)
    with pytest.raises(BadInput, match="missing"):
        load_instructions(tmp_path / "none.json")


# -------------------------------------------------------------------------- gold rule, annotator

Q = "What does numpy.array_split do?"


@pytest.mark.parametrize("answer, ended, want", [
    ("Split an array into parts.", True, dict(sentence=1, imperative=1, relevance=2)),
    ("Splits an array into parts.", True, dict(sentence=1, imperative=0, relevance=2)),
    ("Return the sum of two. Really.", True, dict(sentence=0, imperative=1, relevance=0)),
    ("Stop", False, dict(sentence=0, imperative=1, length=-1, unfinished=-2, relevance=0)),
    ("Return the value value value value.", True, dict(sentence=1, repetition=-3 * 3 / 5)),
    ("", False, dict(sentence=0, imperative=0, length=-1, unfinished=-2))])
def test_the_gold_rule_point_by_point(answer, ended, want):
    got = points(Q, answer, ended)
    for name, value in want.items():
        assert got[name] == pytest.approx(value), f"{answer!r}: {name}"


def test_name_words_and_relevance():
    assert name_words(Q) == {"array", "split"} and name_words("What is torch.LayerNorm?") == {
        "layer", "norm"}
    assert relevance(Q, "Divide it into parts.") == 0 and relevance(Q, "Splitting is fun.") == 0.5
    assert repetition("one two") == 0 and "return" in VERBS and "returns" not in VERBS


def test_a_stock_answer_is_worth_less_only_if_it_answers_other_questions_too():
    answer = "Return the split array of parts."
    alone = gold_scores([Q, Q], [answer, answer], [True, True])
    stock = gold_scores([Q, "What does a.b_c do?"], [answer, answer], [True, True])
    assert alone[0] - stock[0] == 1, "the same answer to the same question costs nothing"


def test_the_annotator_is_as_noisy_as_it_says():
    n = 4000
    good, bad = "Split an array into parts.", "Splits an array into parts."
    labels = label_pairs([Q] * n, [good] * n, [bad] * n, [(True, True)] * n, seed=0)
    p = preference_probability(1.0)
    assert p == pytest.approx(1 / (1 + math.exp(-1.5))) and preference_probability(0) == 0.5
    share = sum(x["first_wins"] for x in labels) / n
    assert abs(share - p) < 4 * math.sqrt(p * (1 - p) / n), f"named {share:.3f}, should be {p:.3f}"
    assert labels[0]["ceiling"] == pytest.approx(p)
    assert label_pairs([Q], [good], [good], [(True, True)], 0) == [None], "equal answers: no label"


# ------------------------------------------------------------------------ preferences, self-made

def test_preference_files_and_votes():
    from preferences import from_file, from_votes, split_pairs
    pairs, skipped = from_file([{"prompt": "q", "chosen": "a", "rejected": "b"},
                                {"prompt": "q", "chosen": "a", "rejected": "a "},
                                {"prompt": "q", "chosen": "a"}, [], None,
                                {"prompt": "q", "chosen": "\ud83d", "rejected": "b"}])
    assert len(pairs) == 1 and pairs[0]["chosen_ended"] and sum(skipped.values()) == 5
    votes = [{"prompt": "q", "answer_a": "x", "answer_b": "y", "winner": w}
             for w in ("a", "b", "tie", "both_bad", "model_b")]
    pairs, skipped = from_votes(votes)
    assert [(p["chosen"], p["rejected"]) for p in pairs] == [("x", "y"), ("y", "x"), ("y", "x")]
    assert skipped["no winner"] == 2
    split = split_pairs([{"prompt": str(i // 2)} for i in range(20)])
    sides = {s: {p["prompt"] for p in split if p["split"] == s} for s in ("train", "val")}
    assert not sides["train"] & sides["val"] and len(sides["val"]) == 2, "split by prompt"


def test_self_instruct_filters():
    from self_instruct import common_subsequence, reject, rouge_l
    assert common_subsequence(list("abcd"), list("acbd")) == 3
    assert rouge_l("What does a.b do?", "What does a.c do?") == pytest.approx(0.8)
    assert rouge_l("x y", "x y") == 1 and rouge_l("", "x") == 0
    good = "What does torch.stack do?"
    assert reject(good, "Stack all tensors.", True, [], 0.8) == ""
    assert reject(good, "Stack all tensors.", True, [good], 0.8) == "too similar to one we have"
    assert reject(good, "Stack all", False, [], 0.8).startswith("answer")
    assert reject("torch", "Stack all tensors.", True, [], 0.8) == "no question"


def test_an_alpaca_file_goes_the_whole_way(tmp_path):
    from instructions import from_file as pairs_from_file
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps([{"instruction": f"Say {i}.", "input": "", "output": f"It is {i}."}
                                for i in range(50)]), encoding="utf-8")
    pairs = pairs_from_file(path)
    train, val, _ = split_by_package(pairs, hold_out_packages(pairs))
    assert len(val) == 5 and len(mix_kinds(train, 0, 1000)) == 45
