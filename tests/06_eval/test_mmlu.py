"""Formats word for word, the archive's quirks, the scorers by hand, and a model that knows."""

import csv
import io

import numpy as np
import pytest
import torch

import mmlu
from artifacts import BadInput
from mmlu import (LETTERS, SCORERS, STYLES, Question, format_prompt, load_mmlu, option_scores,
                  read_questions, score, score_all, shots_that_fit, shuffle_options, summarise,
                  write_questions)

Q = Question("high_school_physics", "What is light?", ("a wave", "a particle", "both", "none"), 2)
SHOT = Question("high_school_physics", "What falls?", ("up", "apples", "time", "rain"), 1)


def archive(folder, rows=None, subjects=("anatomy",)):
    """A tiny archive as raw text, written by hand: no helper of the module under test."""
    rows = rows or ['"One, or\ntwo?",a,b,c,None,D', "Three?,1,2,3,4,A"]
    for split in ("dev", "val", "test"):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for subject in subjects:
            (folder / split / f"{subject}_{split}.csv").write_bytes(
                "\n".join(rows).encode() + b"\n")
    return folder


@pytest.mark.exercise("6.4")
def test_the_archives_quirks(tmp_path):
    """No header, a newline and a comma inside a cell, and an answer that is the word None."""
    questions = read_questions(archive(tmp_path) / "test" / "anatomy_test.csv", "anatomy")
    assert len(questions) == 2, f"two rows on three physical lines, got {len(questions)}"
    assert questions[0] == Question("anatomy", "One, or\ntwo?", ("a", "b", "c", "None"), 3), (
        questions[0])
    assert questions[1].answer == 0, "the first row is a question, not a header; A is place 0"


@pytest.mark.exercise("6.4")
def test_line_ends_inside_cells_survive(tmp_path):
    path = tmp_path / "x_test.csv"
    path.write_bytes('\ufeff"one\r\ntwo",a,b,c,d,B\r\n'.encode())
    assert read_questions(path, "x")[0].question == "one\r\ntwo", "the cell is kept as it is"
    path.write_bytes(b"What is it? ,a, b,c ,d,B\n")
    assert read_questions(path, "x")[0] == Question("x", "What is it? ", ("a", " b", "c ", "d"), 1), (
        "no cell is trimmed: a space is part of the prompt that other programs print")
    path.write_bytes(b'says ""hi"",a,b,c,"d, and ""e""",C\n')
    assert read_questions(path, "x")[0].options[3] == 'd, and "e"'
    path.write_bytes(b"q,a,b,c,d,A\n\nr,a,b,c,d, B \n")
    assert [q.answer for q in read_questions(path, "x")] == [0, 1], \
        "an empty line is no row; blanks around the letter do not matter"
    path.write_bytes(b'q,a,b,c,"d,A\n')
    with pytest.raises(BadInput, match="x_test.csv"):
        read_questions(path, "x")


@pytest.mark.exercise("6.4")
@pytest.mark.parametrize("rows, line", [(["q,a,b,c,d,A", "q,a,b,c,d"], "line 2"),
                                        (["q,a,b,c,d,E"], "line 1"), (["q,a,b,c,d,1"], "line 1"),
                                        (['"q\nr",a,b,c,d,A', ",a,b,c,d,A"], "line 3")])
def test_a_malformed_row_is_named(tmp_path, rows, line):
    path = archive(tmp_path, rows) / "test" / "anatomy_test.csv"
    with pytest.raises(BadInput, match=line) as error:
        read_questions(path, "anatomy")
    assert "anatomy_test.csv" in str(error.value) and "\n" not in str(error.value)


def test_load_names_what_is_missing(tmp_path):
    loaded = load_mmlu(archive(tmp_path / "full", subjects=("anatomy", "virology")))
    archive(tmp_path / "unpacked" / "data", subjects=("anatomy", "virology"))
    # What a Mac leaves beside every file that it packs.
    (tmp_path / "unpacked" / "data" / "test" / "._anatomy_test.csv").write_bytes(b"\x00\x05\x16")
    assert load_mmlu(tmp_path / "unpacked") == loaded, "the archive unpacks to data/dev, val, test"
    assert list(loaded) == ["anatomy", "virology"] and set(loaded["anatomy"]) == {
        "dev", "val", "test"}
    (tmp_path / "full" / "dev" / "virology_dev.csv").unlink()
    with pytest.raises(BadInput, match="virology_dev.csv"):
        load_mmlu(tmp_path / "full")
    with pytest.raises(BadInput, match="dev"):
        load_mmlu(tmp_path / "nothing")
    (tmp_path / "full" / "test" / "anatomy_test.csv").write_bytes(b"\xff\xfe,a,b,c,d,A\n")
    (tmp_path / "full" / "dev" / "virology_dev.csv").write_bytes(b"q,a,b,c,d,A\n")
    with pytest.raises(BadInput, match="UTF-8"):
        load_mmlu(tmp_path / "full")


def test_written_archives_read_back(tmp_path):
    hard = Question("x", 'Say "a,\nb"?', ("None", " b ", 'c"', "d,"), 3)
    write_questions(tmp_path / "x_test.csv", [hard, Q])
    assert read_questions(tmp_path / "x_test.csv", "x")[0] == hard
    for odd in ("a\rb", "\r", "a\r\nb", '"', "'", "\ta"):
        write_questions(tmp_path / "odd.csv", [Question("x", f"q{odd}", (odd, "b", "c", "d"), 0)])
        assert read_questions(tmp_path / "odd.csv", "x")[0].options[0] == odd, repr(odd)
        assert b'"b","c"' in (tmp_path / "odd.csv").read_bytes(), "every cell in quotes"
    write_questions(tmp_path / "x_test.csv", [hard, Q])
    rows = list(csv.reader(io.StringIO((tmp_path / "x_test.csv").read_text(), newline="")))
    assert rows[1] == ["What is light?", "a wave", "a particle", "both", "none", "C"]


OPTIONS = "A. a wave\nB. a particle\nC. both\nD. none\n"
SHOWN = "A. up\nB. apples\nC. time\nD. rain\n"
ABOUT = "The following are multiple choice questions (with answers) about"
EXPECTED = {
    "original": (f"{ABOUT}  high school physics.\n\nWhat falls?\n{SHOWN}Answer: B\n\n"
                 f"What is light?\n{OPTIONS}Answer:"),
    "helm": (f"{ABOUT} high school physics.\n\nQuestion: What falls?\n{SHOWN}Answer: B\n\n"
             f"Question: What is light?\n{OPTIONS}Answer:"),
    "harness_2023": (f"Question: What falls?\nChoices:\n{SHOWN}Answer: apples\n\n"
                     f"Question: What is light?\nChoices:\n{OPTIONS}Answer:"),
    "harness": (f"{ABOUT} high school physics.\n\nWhat falls?\n{SHOWN}Answer: B\n\n"
                f"What is light?\n{OPTIONS}Answer:"),
    "cloze": ("The following are questions (with answers) about high school physics.\n\n"
              "Question: What falls?\nAnswer: apples\n\nQuestion: What is light?\nAnswer:"),
    "letter_after": ("Multiple Choice question: What falls?\n- up=A\n- apples=B\n- time=C\n"
                     "- rain=D\n\nRespond only with the letter of the correct answer.\nAnswer: B\n\n"
                     "Multiple Choice question: What is light?\n- a wave=A\n- a particle=B\n"
                     "- both=C\n- none=D\n\nRespond only with the letter of the correct answer.\n"
                     "Answer:")}


@pytest.mark.exercise("6.5")
@pytest.mark.parametrize("style", sorted(EXPECTED))
def test_formats_word_for_word(style):
    got = format_prompt(Q, [SHOT], style)
    assert got == EXPECTED[style], f"{style} should print\n{EXPECTED[style]!r}\nbut printed\n{got!r}"


@pytest.mark.exercise("6.5")
def test_formats_without_shots_and_with_two():
    assert format_prompt(Q, [], "harness_2023") == (
        f"Question: What is light?\nChoices:\n{OPTIONS}Answer:")
    later = Question("high_school_physics", "What rises?", ("smoke", "lead", "rain", "snow"), 0)
    for style in STYLES:
        two = format_prompt(Q, [SHOT, later], style)
        assert two.index("What falls?") < two.index("What rises?") < two.index("What is light?"), (
            f"{style}: worked examples keep their order, the question stands last: {two!r}")
        assert format_prompt(Q, [], style).endswith("Answer:"), (
            f"{style}: no space after the colon; the answer brings its own")
    with pytest.raises(BadInput):
        format_prompt(Q, [], "unknown")


@pytest.mark.exercise("6.6")
def test_scorers_by_hand():
    sums = np.array([[-4.0, -6.0, -9.0, -8.0]])
    tokens, sizes = np.array([[2, 4, 3, 2]]), np.array([[4, 8, 30, 10]])
    alone = np.array([[-1.0, -5.0, -9.5, -4.0]])
    want = {"letter": [-4, -6, -9, -8], "sum": [-4, -6, -9, -8], "per_token": [-2, -1.5, -3, -4],
            "per_byte": [-1, -0.75, -0.3, -0.8], "pmi": [-3, -1, 0.5, -4]}
    for scorer in SCORERS:
        got = option_scores(sums, tokens, sizes, alone, scorer)
        assert got == pytest.approx(np.array([want[scorer]], dtype=float)), f"{scorer}: {got}"
    one = np.ones((1, 4))
    for scorer in ("per_token", "per_byte"):
        assert option_scores(sums, one, one, alone, scorer) == pytest.approx(sums), \
            f"{scorer}: one token of one byte is divided by 1"
    with pytest.raises(BadInput):
        option_scores(sums, tokens, sizes, alone, "vibes")


def test_summary_by_hand():
    scores = np.log(np.array([[.7, .1, .1, .1], [.4, .3, .2, .1], [.4, .3, .2, .1], [0.1, .7, .1, .1]]))
    got = summarise(scores, np.array([0, 0, 1, 1]))
    assert got["accuracy"] == 0.75 and got["predictions"] == [0, 0, 0, 1]
    assert got["letter_share"] == 0.75, "three of four choices fall on A"
    assert got["low"] == pytest.approx(0.3006, abs=1e-3) and got["high"] == pytest.approx(
        0.9544, abs=1e-3), "Wilson's interval for 3 of 4"
    assert got["confidence"] == pytest.approx([0.7, 0.4, 0.4, 0.7])
    far = summarise(np.array([[-1000.0, -1001, -1002, -1003]]), np.array([0]))
    assert np.isfinite(far["ece"]), "log-probabilities of long answers underflow without a shift"


def test_shuffling_moves_the_answer_along():
    questions = [Question("s", f"q{i}", ("w", "x", "y", "z"), i % 4) for i in range(200)]
    mixed = list(shuffle_options(questions, seed=1))
    for q, m in zip(questions, mixed):
        assert m.options[m.answer] == q.options[q.answer], "the right option changed"
        assert sorted(m.options) == sorted(q.options) and m.question == q.question
    counts = np.bincount([m.answer for m in mixed], minlength=4)
    assert counts.min() > 30, f"answers end up everywhere: {counts}"
    assert list(shuffle_options(questions, seed=1)) == mixed, "the same seed, the same order"
    assert list(shuffle_options(questions, seed=2)) != mixed


class Words:
    """A tokenizer of characters."""

    special_tokens = {"<|endoftext|>": 0}

    def encode(self, text, allowed_special=()):
        return [1 + ord(c) % 90 for c in text]


def tiny():
    from gpt import GPT, GPTConfig
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = GPT(GPTConfig(vocab_size=96, sequence_length=256, layers=1, width=32, heads=2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


def test_score_is_the_chosen_row_of_score_all():
    model = tiny()
    questions = [Q, SHOT, Question("s", "Now?", ("yes", "no", "later", "never"), 0)]
    for style in ("helm", "cloze"):
        every = score_all(model, Words(), questions, style)
        for scorer in SCORERS:
            alone = score(model, Words(), questions, style, scorer)
            assert alone["predictions"] == every[scorer]["predictions"], (style, scorer)
            assert alone["n"] == 3 and 0 <= alone["ece"] <= 1
    with pytest.raises(BadInput):
        score(model, Words(), [], "helm", "sum")


def test_cloze_text_scores_ignore_the_order_of_options():
    """Options are not shown in cloze: shuffling them may not change what is chosen."""
    model, questions = tiny(), [Q, SHOT, Question("s", "Now?", ("yes", "no", "later", "nay"), 0)]
    mixed = list(shuffle_options(questions, seed=3))
    for scorer in ("sum", "per_token", "per_byte", "pmi"):
        plain = score(model, Words(), questions, "cloze", scorer)["predictions"]
        other = score(model, Words(), mixed, "cloze", scorer)["predictions"]
        for q, m, a, b in zip(questions, mixed, plain, other):
            assert q.options[a] == m.options[b], f"{scorer} chose by place"


def test_a_model_that_knows_the_answer_scores_one(monkeypatch):
    """An oracle in place of the model: only the right text and letter are likely."""
    questions = [Q, SHOT]

    def oracle(model, tokenizer, prompts, options, batch_tokens=0):
        sums = np.array([[0.0 if o in (questions[i].options[questions[i].answer],
                                       LETTERS[questions[i].answer]) else -5.0 for o in four]
                         for i, four in enumerate(options)])
        return sums, np.ones_like(sums)

    monkeypatch.setattr(mmlu, "option_log_probabilities", oracle)
    for scorer in ("letter", "sum", "per_token"):
        assert score(tiny(), Words(), questions, "helm", scorer)["accuracy"] == 1.0, scorer


def test_shots_are_dropped_until_the_prompt_fits():
    tokenizer, shots = Words(), [SHOT] * 5
    full = len(tokenizer.encode(format_prompt(Q, shots[:3], "helm")))
    assert shots_that_fit(Q, shots, "helm", tokenizer, full) == format_prompt(Q, shots[:3], "helm")
    assert shots_that_fit(Q, shots, "helm", tokenizer, 5) == format_prompt(Q, [], "helm")


def test_the_boundary_makes_no_token_of_both_sides():
    """tokens(prompt + answer) = tokens(prompt) + tokens(answer), with the real kind of tokenizer."""
    from collections import Counter

    from bpe import Tokenizer, train_bpe
    vocab, merges = train_bpe(Counter({"Answer": 9, ":": 9, " both": 5, " A": 5, " waves": 3}), 290)
    tokenizer = Tokenizer(vocab, merges)
    for style in STYLES:
        prompt = format_prompt(Q, [SHOT], style)
        for option in (*Q.options, *LETTERS):
            assert list(tokenizer.encode(f"{prompt} {option}")) == [
                *tokenizer.encode(prompt), *tokenizer.encode(f" {option}")], (style, option)
