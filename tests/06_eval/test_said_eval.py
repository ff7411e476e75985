"""What the statements of chapter 6's exercises say once in passing, asked for on its own."""

import json

import numpy as np
import pytest

from arena import logistic_fit
from artifacts import BadInput
from generated_answers import read_letter, read_number
from mmlu import option_scores as scores_of
from mmlu import read_questions
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
    ("e", "ABCDE", "E"), ("F", "ABCDEF", "F"), ("(J)", "ABCDEFGHIJ", "J")])
def test_a_letter_said_twice_is_one_letter_and_others_do_not_count(text, letters, want):
    assert read_letter(text, letters) == want, text


@pytest.mark.exercise("6.26")
@pytest.mark.parametrize("text, want", [
    (r"\boxed{3}, no: \boxed{4} of 9", 4), ("#### 5\nwait\n#### 6\n7", 6),
    (r"\boxed{8} #### 9", 9), ("#### $1,200", 1200), (r"\boxed{-2.5}", -2.5)])
def test_the_last_mark_counts(text, want):
    assert read_number(text) == want, text
