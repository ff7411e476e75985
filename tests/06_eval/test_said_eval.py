"""What the statements of chapter 6's exercises say once in passing, asked for on its own."""

import json
import math
import random

import numpy as np
import pytest

import perplexity
from arena import (elo, fit_strengths, logistic_fit, rank_with_uncertainty, votes_needed,
                   win_matrix)
from artifacts import BadInput
from calibration import expected_calibration_error, wilson_interval
from doc_mmlu import place_answers
from format_study import spread
from generated_answers import read_letter, read_number
from judge import judge_both_orders, length_controlled_win_rate, length_term, rank_correlation
from mmlu import Question, format_prompt
from mmlu import option_scores as scores_of
from mmlu import read_questions
from perplexity import bits_per_byte, windows
from suite import mean_win_rate, worst_case
from votes import VoteLog

VOTE = {"battle": "b", "model_a": "x", "model_b": "y", "winner": "a", "prompt": "p",
        "answer_a": "one", "answer_b": "two"}


@pytest.mark.exercise("6.4")
def test_no_cell_is_trimmed_and_a_quote_that_stays_open_is_named(tmp_path):
    file = tmp_path / "q.csv"
    file.write_bytes(b'"Which?\n\n"," a\n",b,"c ",d,C\n')
    got = read_questions(file, "s")[0]
    assert (got.question, got.options) == ("Which?\n\n", (" a\n", "b", "c ", "d")), got
    for text in (b'q,a,b,c,d,A\nq,a,b,c,"d,A\n', b'q,a,b,c,d,A\nq,a,b,c,"d"x,A\n'):
        file.write_bytes(text)
        with pytest.raises(BadInput, match="q.csv.*line [23]"):
            read_questions(file, "s")


@pytest.mark.exercise("6.6")
@pytest.mark.parametrize("scorer", ["per_token", "per_byte"])
def test_an_option_of_no_length_counts_as_one(scorer):
    sums, none = np.array([[-1.0, -2, -3, -4]]), np.zeros((1, 4), int)
    assert scores_of(sums, none, none, None, scorer).tolist() == sums.tolist(), "not 0 / 0"
    whole, two = np.array([[-4, -6, -3, -5]]), np.full((1, 4), 2)
    assert scores_of(whole, two, two, None, scorer).tolist() == [[-2, -3, -1.5, -2.5]]


@pytest.mark.exercise("6.18")
def test_a_direction_of_which_the_rows_say_nothing_stays_at_zero():
    design = np.array([[1.0, 0], [1, 0], [1, 0], [1, 0]])
    beta, covariance = logistic_fit(design, np.array([1, 1, 1, 0.0]), np.zeros(2))
    assert beta == pytest.approx([np.log(3), 0]), "the curvature is singular: least squares"
    assert covariance == pytest.approx(np.array([[4 / 3, 0], [0, 0]])), "its pseudo-inverse"


@pytest.mark.exercise("6.23")
def test_a_line_holds_the_fields_that_the_vote_has_and_its_seconds(tmp_path):
    log = VoteLog(tmp_path / "v.jsonl")
    short = {"battle": "b", "winner": "tie", "prompt": "gr\u00fcn \u732b\n"}
    assert log.append(VOTE | {"seconds": 2.5, "secret": "x"}) == 1
    assert log.append(short) == 2, "a vote without all fields is a vote"
    lines = (tmp_path / "v.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [VOTE | {"seconds": 2.5}, short]
    assert [v["battle"] for v in log.votes] == ["b", "b"], "and in self.votes"
    log.close()


@pytest.mark.exercise("6.25")
@pytest.mark.parametrize("text, letters, want", [
    ("(B) or (B)", "ABCD", "B"), ("B, and B again", "ABCD", "B"), ("option: c", "ABCD", "C"),
    ("(A) and C", "ABCD", "A"), ("The answer is B, not the answer is C", "AB", "B"),
    ("The answer is unclear, but (B)", "ABCD", "B"), ("e", "ABCDE", "E"), ("F", "ABCDEF", "F"), ("(J)", "ABCDEFGHIJ", "J")])
def test_a_letter_said_twice_is_one_letter_and_others_do_not_count(text, letters, want):
    assert read_letter(text, letters) == want, text


@pytest.mark.exercise("6.26")
@pytest.mark.parametrize("text, want", [
    (r"\boxed{3}, no: \boxed{4} of 9", 4), ("#### 5\nwait\n#### 6\n7", 6),
    (r"\boxed{8} #### 9", 9), ("#### $1,200", 1200), (r"\boxed{-2.5}", -2.5),
    ("5 and 6 #### none", None), (r"5, so \boxed{five}", None)])
def test_the_last_mark_counts(text, want):
    assert read_number(text) == want, text


@pytest.mark.exercise("6.1")
@pytest.mark.parametrize("bits, size", [(1.0, 3), (12.5, 4), (800.0, 1000)])
def test_so_many_bits_over_so_many_bytes(bits, size):
    assert bits_per_byte(bits * math.log(2), size) == pytest.approx(bits / size, rel=1e-12)


@pytest.mark.exercise("6.3")
def test_one_document_and_a_token_of_no_surprise(monkeypatch):
    monkeypatch.setattr(perplexity, "bits_per_byte", lambda nats, size: nats / math.log(2) / size)
    got = perplexity.summarise_losses([np.zeros(4)], [np.full(4, math.log(3.0))], np.array([8]))
    assert (got["loss"], got["perplexity"], got["bits_per_byte"]) == (0, 1, 0), got
    assert got["effective_choices"] == pytest.approx(3.0) and (got["tokens"], got["bytes"]) == (4, 8)
    longer = perplexity.summarise_losses([np.ones(1), np.full(3, 5.0)], [np.zeros(1), np.ones(3)],
                                         np.array([1, 1]))
    assert longer["effective_choices"] == pytest.approx(math.exp(0.75)), "exp of the mean entropy"


@pytest.mark.exercise("6.10")
def test_robustness_of_bools_lists_and_one_question():
    rows = np.array([[True, True, True, False], [True, False, True, False], [True, True, True, True]])
    assert worst_case(rows) == 0.5 == worst_case(rows.tolist()), "right in all three: 0 and 2"
    assert worst_case([[True], [True]]) == 1.0 and worst_case([[True], [False]]) == 0.0


@pytest.mark.exercise("6.12")
@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_places_of_a_few_questions_and_of_many_draws(count):
    asked = [Question("s", f"q{i}", ("w", "right", "x", "y"), 1) for i in range(count)]
    firsts = set()
    for seed in range(40):
        placed = place_answers(asked, random.Random(seed))
        counts = [sum(q.answer == p for q in placed) for p in range(4)]
        assert len(placed) == count and max(counts) - min(counts) <= 1, counts
        assert all(q.options[q.answer] == "right" for q in placed)
        firsts.add(placed[0].answer)
    assert firsts == {0, 1, 2, 3}, f"the first question's place is drawn too, got {firsts}"


@pytest.mark.exercise("6.16")
@pytest.mark.parametrize("low, high, ranks", [
    ({"a": 0.0}, {"a": 1.0}, {"a": 1}),
    ({"a": 9, "b": 9, "c": 1}, {"a": 10, "b": 10, "c": 2}, {"a": 1, "b": 1, "c": 3}),
    ({"a": 8, "b": 5, "c": 1}, {"a": 10, "b": 9, "c": 6}, {"a": 1, "b": 1, "c": 2}),
    ({"a": 3, "b": 2, "c": 1}, {"a": 3, "b": 2, "c": 1}, {"a": 1, "b": 2, "c": 3}), ({}, {}, {})])
def test_ranks_of_one_of_ties_of_a_chain_of_sure_ones_and_of_none(low, high, ranks):
    assert rank_with_uncertainty(low, high) == ranks


@pytest.mark.exercise("6.20")
def test_the_term_turns_its_sign_with_the_sides():
    a, b = np.array([10, 50, 90, 20]), np.array([40, 40, 40, 40])
    forth, back = length_term(a, b), length_term(b, a)
    assert forth == pytest.approx(-back) and (np.abs(forth) < 1).all()
    deviation = np.std([-30, 10, 50, -20], ddof=1)
    assert forth == pytest.approx(np.tanh(np.array([-30, 10, 50, -20]) / deviation))


@pytest.mark.exercise("6.22")
def test_spearman_is_one_for_any_rising_curve_and_its_sides_may_change():
    x = [0.3, -2.0, 7.5, 1.0]
    assert rank_correlation(x, [v ** 3 for v in x]) == pytest.approx(1.0)
    assert rank_correlation([-v for v in x], x) == pytest.approx(-1.0)
    y = [1, 1, 2, 0]
    assert rank_correlation(x, y) == pytest.approx(rank_correlation(y, x))
    assert rank_correlation(x, y) == pytest.approx(1.5 / math.sqrt(5 * 4.5)), "by hand"


@pytest.mark.exercise("6.4")
def test_small_letters_are_no_answers_and_lines_are_those_of_the_file(tmp_path):
    file = tmp_path / "q.csv"
    for text, line in ((b"q,a,b,c,d,a\n", 1), (b'"q\nr\ns",a,b,c,d,A\n\nq,a,b,c,A\n', 5),
                       (b'q,a,b,c,d,A\n"q\nr","a\nb",c,A\n', 4), (b" ,a,b,c,d,A\n", 1)):
        file.write_bytes(text)
        with pytest.raises(BadInput, match=f"q.csv, line {line}:"):
            read_questions(file, "s")


@pytest.mark.exercise("6.5")
def test_the_subject_is_the_questions_own_whatever_the_examples_are_about():
    own, other = (Question(s, "What?", ("a", "b", "c", "d"), 0) for s in ("law_of_war", "botany"))
    for style in ("original", "helm", "harness", "cloze"):
        got = format_prompt(own, [other], style)
        assert "law of war." in got and "botany" not in got, got


@pytest.mark.exercise("6.9")
def test_a_cut_between_equal_confidences_moves_behind_them():
    got = expected_calibration_error(np.array([0.1, 0.5, 0.5, 0.9]), np.array([0, 1, 1, 0]), 2)
    assert got == pytest.approx((abs(1.1 - 2) + 0.9) / 4), "0.1, 0.5, 0.5 in one bin, 0.9 alone"


@pytest.mark.exercise("6.10")
def test_no_version_at_all_is_refused():
    with pytest.raises(ValueError):
        worst_case([])


@pytest.mark.exercise("6.11")
def test_scenarios_weigh_alike_also_where_fewer_models_took_part():
    table = {"all": {m: {"acc": a} for m, a in (("x", 3), ("y", 2), ("z", 1))},
             "two": {"x": {"acc": 0}, "y": {"acc": 1}}}
    got = mean_win_rate(table, "acc")
    assert got == pytest.approx({"x": 0.5, "y": 0.75, "z": 0.0}), "means of the scenarios' shares"


def refused(function, *arguments, **options):
    with pytest.raises(ValueError):
        function(*arguments, **options)


@pytest.mark.exercise("6.1")
def test_nats_that_are_no_number_are_refused():
    refused(bits_per_byte, math.nan, 10), refused(bits_per_byte, 10.0, 0)


@pytest.mark.exercise("6.4")
@pytest.mark.parametrize("letter", ["AB", "", "ABCD", " "])
def test_the_last_cell_is_one_letter(letter, tmp_path):
    file = tmp_path / "q.csv"
    file.write_text(f"q,a,b,c,d,A\nq,a,b,c,d,{letter}\n", encoding="utf-8")
    with pytest.raises(BadInput, match="line 2"):
        read_questions(file, "s")


@pytest.mark.exercise("6.8")
def test_more_successes_than_tries_are_refused():
    refused(wilson_interval, 11, 10), refused(wilson_interval, -1, 10), refused(wilson_interval, 1, 0)


@pytest.mark.exercise("6.9")
@pytest.mark.parametrize("confidence, right", [
    ([], []), ([0.5, 0.5], [1]), ([0.5], [1, 0]), ([1.1], [1]), ([-0.1], [0]), ([math.nan], [1])])
def test_columns_that_are_no_stated_confidence_are_refused(confidence, right):
    refused(expected_calibration_error, np.array(confidence), np.array(right, bool))


@pytest.mark.exercise("6.11")
def test_a_number_that_is_nan_is_refused():
    for bad in ("x", "y"):
        cells = {"x": {"acc": 1.0}, "y": {"acc": 0.5}} | {bad: {"acc": math.nan}}
        refused(mean_win_rate, {"s": cells}, "acc")


@pytest.mark.exercise("6.13")
@pytest.mark.parametrize("bad", [{"k": math.nan}, {"start": math.inf}, {"scale": 0.0},
                                 {"scale": math.nan}, {"scale": -400.0}, {"k": -1}, {"start": -1}])
def test_ratings_of_no_size_are_refused(bad):
    refused(elo, [("x", "y", "a")], **bad)
    assert elo([("x", "y", "a")], k=0, start=0) == {"x": 0, "y": 0}, "a k of 0 moves nothing"


@pytest.mark.exercise("6.17")
def test_a_gap_power_or_scale_of_no_size_is_refused():
    for bad in ({"gap": 0.0}, {"gap": -5.0}, {"gap": math.nan}, {"power": 1.0}, {"power": 0.0},
                {"scale": 0.0}, {"scale": math.nan}):
        refused(votes_needed, **{"gap": 35.0, **bad})


@pytest.mark.exercise("6.20")
def test_lengths_of_two_questions_and_of_numbers_without_a_sign():
    assert length_term(np.array([10, 0]), np.array([0, 0])) == pytest.approx(
        [math.tanh(2 ** 0.5), 0]), "differences 10 and 0 deviate by 7.07"
    short, long = np.array([5, 7, 9], np.uint32), np.array([7, 7, 7], np.uint32)
    assert length_term(short, long) == pytest.approx([-math.tanh(1), 0, math.tanh(1)]), \
        "5 - 7 is -2, also of numbers without a sign"


@pytest.mark.exercise("6.22")
def test_a_nan_or_a_list_that_is_too_short_has_no_rank():
    for first, second in (([1, 2, math.nan], [1, 2, 3]), ([1, 2, 3], [math.nan, 2, 3]),
                          ([1, 2, 3], [1, 2]), ([1], [1, 2])):
        refused(rank_correlation, first, second)


@pytest.mark.exercise("6.18")
def test_a_coefficient_far_from_zero_is_reached_too():
    beta, _ = logistic_fit(np.ones((4, 1)), np.full(4, 1 - 1e-9), np.zeros(1))
    assert beta == pytest.approx([math.log(1e9)], rel=1e-5), "more than ten steps of at most 2"


@pytest.mark.exercise("6.2")
def test_no_tokens_have_no_window():
    assert windows(0, 4, 2) == [], "a window without a target would read nothing"


@pytest.mark.exercise("6.4")
def test_a_row_of_empty_cells_is_no_empty_line_and_an_option_may_be_empty(tmp_path):
    file = tmp_path / "q.csv"
    file.write_bytes(b"q,,b,c,d,A\n\n,,,,,\n")
    with pytest.raises(BadInput, match="line 3"):
        read_questions(file, "s")
    file.write_bytes(b"")
    assert read_questions(file, "s") == []
    file.write_bytes(b"q,,b,c,d,A\nr,a,b,c,d,B")
    got = read_questions(file, "s")
    assert [q.options[0] for q in got] == ["", "a"], "two rows, the last without a line end"


@pytest.mark.exercise("6.5")
@pytest.mark.parametrize("kind", [list, tuple])
def test_every_example_is_printed_also_the_question_itself(kind):
    one, two = (Question("law", q, ("a", "b", "c", "d"), 0) for q in ("One?", "Two?"))
    shots = kind([one, two, two, one, two, one, two])
    blocks = format_prompt(one, shots, "harness_2023").split("\n\n")
    assert [b.split("\n")[0][10:] for b in blocks] == [q.question for q in (*shots, one)]


@pytest.mark.exercise("6.9")
def test_groups_are_as_equal_as_array_split_makes_them():
    confidence = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9])
    right = np.array([0, 0, 1, 0, 1, 1, 0, 1])
    got = expected_calibration_error(confidence, right, 3)          # three, three and two
    assert got == pytest.approx((abs(0.35 - 1) + abs(1.2 - 2) + abs(1.5 - 1)) / 8)


@pytest.mark.exercise("6.11")
def test_only_equal_numbers_draw_and_who_stayed_away_loses_nothing():
    table = {"all": {m: {"acc": a} for m, a in (("x", 0.5005), ("y", 0.5), ("z", 0.6))},
             "two": {"x": {"acc": 0.7}, "y": {"acc": 0.1}}}
    assert mean_win_rate(table, "acc") == pytest.approx({"x": 0.75, "y": 0.0, "z": 1.0})


@pytest.mark.exercise("6.12")
def test_an_option_that_says_the_same_as_the_right_one_is_kept():
    asked = [Question("s", "q", ("a", "b", "a", "a"), 2)] * 8
    for q in place_answers(asked, random.Random(0)):
        assert sorted(q.options) == ["a", "a", "a", "b"] and q.options[q.answer] == "a", q


@pytest.mark.exercise("6.14")
def test_no_votes_and_votes_that_count_nothing_are_no_wins():
    nobody, one = np.array([], int), np.array([1.0, 0.5])
    assert win_matrix(nobody, nobody, np.array([]), 2).tolist() == [[0, 0], [0, 0]]
    got = win_matrix(np.array([0, 1]), np.array([1, 2]), one, 3, np.zeros(2))
    assert (got == 0).all(), f"weights of 0 are weights: {got}"


@pytest.mark.exercise("6.18")
@pytest.mark.parametrize("place", range(4))
def test_a_nan_anywhere_is_refused(place):
    given = [np.ones((4, 1)), np.array([1, 1, 1, 0.0]), np.zeros(1), np.ones(4)]
    given[place][-1] = math.nan
    refused(logistic_fit, *given)


@pytest.mark.exercise("6.19")
@pytest.mark.parametrize("first, second, want", [
    (0.5, 0.8, 0.35), (0.2, 0.5, 0.35), (0.8, 0.5, 0.65), (0.5, 0.2, 0.65)])
def test_a_draw_in_one_order_only_is_not_consistent(first, second, want):
    got = judge_both_orders(lambda q, a, b: {"x": first, "y": second}[a], "q", "x", "y")
    assert got == (pytest.approx(want), False), f"{first}, then {second} for the other: {got}"


@pytest.mark.exercise("6.19")
def test_the_judge_is_asked_about_equal_answers_too():
    assert judge_both_orders(lambda q, a, b: 0.8, "q", "x", "x") == (pytest.approx(0.5), False)


@pytest.mark.exercise("6.21")
@pytest.mark.parametrize("columns", [([], [], []), ([0.5, 1], [3, 4], [5]), ([0.5, 1], [3], [4, 5]),
                                     ([0.5, 1], [3, 4], [5, 6], [1.0])])
def test_columns_of_another_length_are_refused(columns):
    refused(length_controlled_win_rate, *(np.array(c, float) for c in columns))


@pytest.mark.exercise("6.21")
@pytest.mark.parametrize("ridge", [-0.001, math.nan, math.inf])
def test_a_ridge_of_no_size_is_refused(ridge):
    refused(length_controlled_win_rate, *(np.array([x, 1.0, 0.0]) for x in (0, 1, 2)), ridge=ridge)


@pytest.mark.exercise("6.22")
def test_one_pair_has_no_correlation_and_every_digit_and_infinity_counts():
    assert math.isnan(rank_correlation([3.0], [4.0])), "one value is constant"
    assert rank_correlation([1, 1 + 1e-12, 3], [1, 2, 3]) == pytest.approx(1.0)
    assert rank_correlation([1, math.inf, 0, -math.inf], [2, 3, 1, 0]) == pytest.approx(1.0)


@pytest.mark.exercise("6.24")
def test_the_normal_interval_may_reach_beyond_one():
    rows = [{"accuracy": 0.75, "right": "1110"}, {"accuracy": 0.0, "right": "0000"}]
    got = spread(rows)
    assert (got["low"], got["high"]) == pytest.approx((0.75 - 0.49, 0.75 + 0.49)), got


@pytest.mark.exercise("6.3")
def test_many_small_numbers_in_32_bits_add_up(monkeypatch):
    monkeypatch.setattr(perplexity, "bits_per_byte", lambda nats, size: nats / math.log(2) / size)
    nats = [np.full(50_000, 0.1, np.float32)] * 4
    got = perplexity.summarise_losses(nats, nats, np.array([9] * 4))
    assert got["loss"] == pytest.approx(0.1, rel=1e-5), "added one by one in 32 bits they drift"
    assert got["effective_choices"] == pytest.approx(math.exp(0.1), rel=1e-5)


@pytest.mark.exercise("6.12")
def test_any_other_place_may_follow_a_place():
    asked = [Question("s", f"q{i}", ("w", "right", "x", "y"), 1) for i in range(400)]
    places = [q.answer for q in place_answers(asked, random.Random(0))]
    after = {(a, b) for a, b in zip(places, places[1:]) if a != b}
    assert len(after) == 12, f"only {len(after)} of 12 successions: the next one can be predicted"


@pytest.mark.exercise("6.13")
@pytest.mark.parametrize("winner, gain", [
    ("a", 16), ("model_a", 16), ("b", -16), ("model_b", -16), ("tie", 0), ("both_bad", 0),
    ("tie (bothbad)", 0)])
def test_every_name_of_a_winner_counts(winner, gain):
    assert elo([]) == {}
    assert elo([("x", "y", winner)], k=32) == {"x": 1000 + gain, "y": 1000 - gain}
    behind = elo([("x", "y", "a"), ("x", "y", winner)], k=32)
    assert behind["x"] - 1016 == pytest.approx(32 * (0.5 + gain / 32 - 1 / (1 + 10 ** (-32 / 400))))


@pytest.mark.exercise("6.15")
def test_a_model_that_never_played_is_in_the_middle():
    theta, hessian = fit_strengths(np.array([[0, 3, 0], [1, 0, 0], [0, 0, 0]]), 1e-4)
    assert theta == pytest.approx([math.log(3) / 2, -math.log(3) / 2, 0], abs=1e-3)
    assert hessian[2] == pytest.approx([0, 0, 1e-4]), "what holds it is the prior alone"
