"""Statistics of nothing, of nan and of other scales are refused; battles and files that are none."""

import json
import math

import numpy as np
import pytest

from arena import bradley_terry, elo, votes_needed
from artifacts import BadInput
from calibration import expected_calibration_error, selective_accuracy, wilson_interval
from judge import length_controlled_win_rate, rank_correlation
from mmlu import summarise
from perplexity import bits_per_byte
from report_evaluation import arena_part, written_part
from style_control import style_control
from suite import centred, load_choices, mean_win_rate, worst_case

NAN, ONE = math.nan, [("a", "b", "a")]


@pytest.mark.parametrize("asked", [
    lambda: wilson_interval(-1, 10), lambda: wilson_interval(11, 10),
    lambda: wilson_interval(0, -3), lambda: wilson_interval(1, 2, -1.96),
    lambda: wilson_interval(1, 2, NAN), lambda: worst_case([[]]), lambda: bits_per_byte(1.0, NAN),
    lambda: style_control(ONE, np.ones((2, 1, 2))), lambda: style_control(ONE, -np.ones((1, 1, 2))),
    lambda: expected_calibration_error([NAN, 0.5], [1, 0]),
    lambda: expected_calibration_error([90, 80], [1, 0]),
    lambda: expected_calibration_error([0.5, 0.5], [1]), lambda: expected_calibration_error([], []),
    lambda: selective_accuracy([], []), lambda: selective_accuracy([NAN, 0.5], [1, 0]),
    lambda: selective_accuracy([0.1, 0.5], [1, 0], 2.0), lambda: rank_correlation([1, NAN], [1, 2]),
    lambda: rank_correlation([1, 2], [1, 2, 3]), lambda: bits_per_byte(NAN, 10),
    lambda: elo(ONE, k=NAN), lambda: elo(ONE, scale=0), lambda: bradley_terry(ONE, scale=0),
    lambda: bradley_terry(ONE, prior=NAN), lambda: bradley_terry(ONE, prior=-1),
    lambda: bradley_terry(ONE, anchor=("a", NAN)), lambda: votes_needed(50, scale=0),
    lambda: style_control(ONE, np.array([[[2.0, 1.0]]]), ridge=NAN), lambda: centred(0.5, 1.0),
    lambda: length_controlled_win_rate([1, 0, 0.5], [1, 2, 3], [1, 1, 1], ridge=-1),
    lambda: worst_case([]), lambda: summarise(np.array([[NAN, 0, 0, 0]]), np.array([0])),
    lambda: summarise(np.full((1, 4), -math.inf), np.array([0])),
    lambda: summarise(np.zeros((1, 4)), np.array([4])),
    lambda: expected_calibration_error([0.5, 0.9], [0, 2]),
    lambda: mean_win_rate({"s": {"a": {"m": NAN}, "b": {"m": 0.5}}}, "m")])
def test_what_cannot_be_known_is_refused(asked):
    with pytest.raises((ValueError, BadInput)):
        asked()


@pytest.mark.parametrize("battle", [
    {"model_a": "a", "winner": "a"}, ("a", "b"), ("a", "b", ["a"]), ("a", "b", None),
    (None, "b", "a"), (1, "b", "a"), "ab", 7, ("a", "a", "tie")])
def test_a_battle_that_is_none_is_named(battle):
    with pytest.raises(BadInput, match="battle 1 .*two different models"):
        bradley_terry([("a", "b", "a"), battle])


def test_style_control_says_that_islands_have_no_order():
    apart = [("a", "b", "a"), ("b", "a", "a"), ("c", "d", "a"), ("d", "c", "a")]
    board, _ = style_control(apart, np.ones((4, 1, 2)))
    assert "{a, b} with {c, d}" in board.remarks[0] and set(board.rank.values()) == {1}
    assert not style_control([*ONE, ("b", "a", "a")], np.ones((2, 1, 2)))[0].remarks
    assert list(style_control([], np.zeros((0, 1, 2)))[0]) == []


@pytest.mark.parametrize("answer, want", [("B", 1), ("1", 1), (1, 1), (1.0, 1)])
def test_mmlus_answers_in_every_spelling(tmp_path, answer, want):
    (tmp_path / "m.jsonl").write_text(json.dumps(
        {"question": "q", "choices": list("wxyz"), "answer": answer}), encoding="utf-8")
    assert load_choices(tmp_path / "m.jsonl")[0][0].answer == want


@pytest.mark.parametrize("line, told", [
    (b'{"question": "caf\xe9", "choices": ["a","b","c","d"], "answer": 1}', "line 2 is not UTF-8"),
    (b'{"question": "q", "choices": ["a","b","c","d"], "answer": 1.5}', "line 2.*no place"),
    (b"[" * 100_000, "line 2")])
def test_a_line_that_is_no_question_is_named(tmp_path, line, told):
    good = b'{"question": "q", "choices": ["a","b","c","d"], "answer": 1}\n'
    (tmp_path / "m.jsonl").write_bytes(good + line)
    with pytest.raises(BadInput, match=told):
        load_choices(tmp_path / "m.jsonl")


def test_the_page_shows_what_votes_cannot_say_and_what_models_wrote():
    fit = bradley_terry([("a", "<b>", "a")] * 3 + [("c", "d", "tie")])
    board = {"votes": 4, "elo": dict(fit), "order_spread": {4: 1.0}, "leader_found": {4: 0.5},
             "bradley_terry": {m: {"rating": fit[m], "low": fit.low[m], "high": fit.high[m],
                                   "rank": fit.rank[m], "length_controlled": fit[m]} for m in fit},
             "remarks": fit.remarks, "votes_needed": {50: 1, 100: 2}, "length_coefficient": 0.0}
    page = arena_part({"arena": board})
    assert "What the votes cannot say: no game" in page and "a never lost" in page
    assert "{a, &lt;b&gt;} with {c, d}" in page, "names are escaped"
    row = {"style": "helm", "k": 0, "n": 4, "accuracy": 0.25, "low": 0.05, "high": 0.7,
           "unclear": 0.5, "examples": ["", "<i>"]}
    assert "50%" in written_part([row]) and "&lt;i&gt;" in written_part([row])
    assert written_part([]) == ""


@pytest.mark.parametrize("battles", [ONE, [("a", "b", "tie")], [("a", "b", "tie")] * 9, ONE * 9])
def test_votes_that_agree_say_little_in_every_resample(battles):
    board, plain = bradley_terry(battles, bootstrap=20), bradley_terry(battles)
    width = board.high["b"] - board.low["b"]
    assert width > 0.9 * (plain.high["b"] - plain.low["b"]) > 50, f"an interval of {width} points"
    assert len(battles) > 1 or set(board.rank.values()) == {1}, "one vote orders nobody"


def test_an_unbeaten_model_does_not_spoil_the_others_with_style_terms_either():
    battles = [("a", "b", "a"), ("a", "c", "a")] * 5 + [("b", "c", "a")] * 6 + [("b", "c", "b")] * 4
    board, _ = style_control(battles, np.ones((len(battles), 1, 2)))
    assert board.high["b"] - board.low["b"] < 600, f"{board.low}, {board.high}"
    assert "a never lost" in board.remarks[0] and board.rank["a"] == 1
    plain = bradley_terry(battles)
    assert all(abs(board[name] - plain[name]) < 1 for name in plain), f"{board} and {plain}"
    with pytest.raises(BadInput, match="anchor 'z'"):
        style_control(battles, np.ones((len(battles), 1, 2)), anchor=("z", 1000))
    assert bradley_terry(battles, prior=0)["a"] > plain["b"], "no prior: large, not an error"


def test_ratings_far_apart_are_no_overflow():
    got = elo([("a", "b", "a"), ("b", "a", "a")] * 2, k=1e6)
    assert all(math.isfinite(value) for value in got.values()) and sum(got.values()) == 2000


def test_the_order_of_equally_sure_answers_says_nothing():
    first, last = [1] + [0] * 9, [0] * 9 + [1]
    got = {round(selective_accuracy([0.5] * 10, right), 9) for right in (first, last)}
    assert got == {0.1}, f"one right of ten, all equally sure: {got}"
    assert selective_accuracy([0.9, 0.5, 0.5], [0, 1, 0], 2 / 3) == 0.25, "(0 + half of 1) / 2"


def test_shares_of_32_bit_counts_are_those_of_pythons():
    want = wilson_interval(60_000, 100_000)
    assert wilson_interval(np.int32(60_000), np.int32(100_000)) == pytest.approx(want)


@pytest.mark.parametrize("record", [
    {"question": "q", "choices": "wxyz", "answer": 1}, {"ctx": "q", "endings": "wxyz", "label": 1},
    {"question": "q", "choices": {"text": list("wxyz"), "label": list("ABC")}, "answerKey": "C"},
    {"question": "q", "choices": {"text": list("wxyz"), "label": list("AABC")}, "answerKey": "A"}])
def test_options_that_are_no_list_or_whose_labels_do_not_fit_are_refused(tmp_path, record):
    (tmp_path / "x.jsonl").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(BadInput, match="line 1"):
        load_choices(tmp_path / "x.jsonl")
