"""The grid: perturbations keep the answer, win rates by hand, real files load."""

import json
import random

import pytest

from artifacts import BadInput
from mmlu import Question
from suite import (PERTURBATIONS, centred, contractions, load_choices, lowercase, mean_win_rate,
                   perturb, spaces, typos, worst_case)


def test_perturbations_change_words_only():
    q = Question("s", "What is the result? It does not return None.", ("A b", "c", "d", "e"), 2)
    for name in PERTURBATIONS:
        (got,) = perturb([q], name, seed=0)
        assert got.options == q.options and got.answer == 2 and got.question != q.question, name
        assert perturb([q], name, seed=0) == [got], f"{name} is reproducible"
    rng = random.Random(0)
    assert lowercase("What DOES", rng) == "what does"
    assert contractions("What is it? It does not.", rng) == "What's it? It doesn't."
    assert spaces("a b", random.Random(1)).replace(" ", "") == "ab"
    assert len(typos("abcdefghij" * 100, rng)) == 1000
    changed = sum(a != b for a, b in zip(typos("m" * 5000, rng), "m" * 5000))
    assert 400 < changed < 600, f"one letter in ten, got {changed} of 5000"


@pytest.mark.exercise("6.10")
def test_worst_case():
    assert worst_case([[1, 1, 0], [1, 0, 0]]) == pytest.approx(1 / 3), (
        "only the first question is right in both versions")
    assert worst_case([[1, 1, 0]]) == pytest.approx(2 / 3)
    assert worst_case([[1, 0], [0, 1]]) == 0.0, "not the mean, and not the worse of two accuracies"


@pytest.mark.exercise("6.11")
def test_mean_win_rate():
    table = {"one": {"x": {"m": 3}, "y": {"m": 1}}, "two": {"x": {"m": 2}, "y": {"m": 2}}}
    got = mean_win_rate(table, "m")
    assert got == {"x": 0.75, "y": 0.25}, f"a win and a draw: 0.75 and 0.25, got {got}"
    lower = mean_win_rate(table, "m", lower_is_better=True)
    assert lower == {"x": 0.25, "y": 0.75}, "for an error, smaller wins"
    three = {"one": {"x": {"m": 3}, "y": {"m": 2}, "z": {"m": 1}}}
    assert mean_win_rate(three, "m") == {"x": 1.0, "y": 0.5, "z": 0.0}, "over the OTHER models"
    pool = {"one": three["one"] | {"w": {"m": 0}}}
    assert mean_win_rate(pool, "m")["y"] == pytest.approx(2 / 3), "the number depends on the pool"
    assert mean_win_rate({"one": {"x": {"m": 3}}}, "m") == {"x": 0.5}


def test_centred():
    assert centred(0.25) == 0 and centred(1.0) == 1 and centred(0.625) == pytest.approx(0.5)


def test_real_files_load(tmp_path):
    arc = {"question": {"stem": "Why?", "choices": [{"text": t, "label": l} for t, l in
                                                   zip("wxyz", "ABCD")]}, "answerKey": "C"}
    three = {"question": {"stem": "Why?", "choices": arc["question"]["choices"][:3]},
             "answerKey": "A"}
    swag = {"ctx": "He opens", "endings": ["a", "b", "c", "d"], "label": 1}
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in (arc, three, swag)), encoding="utf-8")
    questions, skipped = load_choices(path)
    assert [q.answer for q in questions] == [2, 1] and skipped == 1
    path.write_text(json.dumps(arc) + "\n{}\n", encoding="utf-8")
    with pytest.raises(BadInput, match="line 2"):
        load_choices(path)


@pytest.mark.parametrize("record, answer, subject", [
    ({"id": "Mercury_1", "question": "Why?", "choices": {"text": ["w", "x", "y", "z"],
      "label": ["A", "B", "C", "D"]}, "answerKey": "D"}, 3, "file"),
    ({"question": "Why?", "choices": {"text": ["w", "x", "y", "z"], "label": ["1", "2", "3", "4"]},
      "answerKey": "2"}, 1, "file"),
    ({"id": "7-980", "question_stem": "The sun is responsible for", "choices": {
      "text": ["w", "x", "y", "z"], "label": ["A", "B", "C", "D"]}, "answerKey": "A"}, 0, "file"),
    ({"ind": 4, "activity_label": "Roof", "ctx_a": "a", "ctx_b": "b", "ctx": "a b",
      "endings": ["w", "x", "y", "z"], "label": "3"}, 3, "file"),
    ({"question": "Why?", "subject": "anatomy", "choices": ["w", "x", "None", "z"], "answer": 2},
     2, "anatomy")])
def test_the_hugging_face_copies_load(tmp_path, record, answer, subject):
    path = tmp_path / "file.jsonl"
    path.write_text(json.dumps(record) + "\n\n", encoding="utf-8")
    (question,), skipped = load_choices(path)
    assert (question.answer, question.subject, skipped) == (answer, subject, 0)
    assert question.options[0] == "w" and question.question


@pytest.mark.parametrize("line", ["7", "[]", '{"question": "Why?"}', '{"question": null, "choices": []}',
                                  '{"question": {}, "choices": [1]}', '{"ctx": "a", "endings": [1], '
                                  '"label": ""}', '{"question": 1, "choices": ["a"], "answer": 0}'])
def test_strange_lines_are_named(tmp_path, line):
    path = tmp_path / "file.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(BadInput, match="line 1"):
        load_choices(path)
    with pytest.raises(BadInput, match="missing"):
        load_choices(tmp_path / "none.jsonl")
