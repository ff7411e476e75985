"""Letters and numbers out of free text: what models really write."""

import pytest
import torch

from artifacts import BadInput
from exam import number_questions
from generated_answers import read_letter, read_number, score_generated, score_numbers
from gpt import GPT, GPTConfig
from mmlu import Question


@pytest.mark.exercise("6.25")
@pytest.mark.parametrize("text, want", [
    ("B", "B"), (" b", "B"), ("(B)", "B"), ("B.", "B"), ("B) Paris", "B"), ("**B**", "B"),
    ("**C.** Paris", "C"), ("Answer: D", "D"), ("The answer is (C), because A is wrong.", "C"),
    ("Not A. The answer is c.", "C"), ("The answer is B. No, wait: the answer is D.", "D"),
    ("The correct option is **D**", "D"), ("I would choose (A).", "A"), ("It must be C", "C"),
    ("A cat is an animal.", None), ("A cat, so B", "B"), ("Either (A) or (C).", None),
    ("B or C", None), ("", None), ("Paris", None), ("E", None), ("The answer is E", None),
    ("Be careful", None), ("D is right", "D"), ("The answer is a cat", None),
    ("Because B's text is right", None), ("Answer:\nB", "B"), ("answer = b", "B"),
    ("B is wrong, I choose option C.", "C"), ("Option A is wrong. Option D is correct.", "D"),
    (r"A and B are wrong: \boxed{C}", "C"), (r"$\boxed{\text{B}}$", "B"), ("(A) or (B)", None),
    ('B looks right, but the answer is "C".', "C"), ("B is near; the answer is `D`", "D"),
    ("The answer is B or C", None), ("The answer is both A and B", None), ("I think D", "D")])
def test_letters(text, want):
    got = read_letter(text)
    assert got == want, f"{text!r}: expected {want}, got {got}"


@pytest.mark.exercise("6.25")
def test_other_letters():
    assert read_letter("The answer is E", "ABCDE") == "E"
    assert read_letter("C", "AB") is None
    assert read_letter("I think D", "ABCDEFGHIJ") == "D", "a pronoun is no answer"
    assert read_letter("The answer is (I).", "ABCDEFGHIJ") == "I"


@pytest.mark.exercise("6.26")
@pytest.mark.parametrize("text, want", [
    ("42", 42), ("So 3 * 14 = 42 boxes.", 42), ("5 + 7 = 12, so 12 eggs", 12), ("42.", 42),
    ("It costs $1,234.50.", 1234.5), ("-4 degrees", -4), ("10-4", 4), ("10 - 4", 4), ("= -0.5", -0.5),
    ("1e3 m", 1000), (".5", 0.5), ("12%", 12), ("no number", None), ("", None),
    ("7 apples\n#### 8\nThanks for 2 questions", 8), ("#### 1,000", 1000), ("#### none, 5", 5),
    (r"so \boxed{17} of 20", 17), ("1,234,567", 1234567), ("in 1999, 12", 12), ("−3", -3),
    ("v2", None), ("1, 2, 3", 3), ("3/4", None), ("#### 3/4", None), ("10:30", None),
    ("10,5", None), ("1.234,5", None), ("1,2345", None), ("1 000", None), ("0x1F", None), ("1e400", None),
    (r"\boxed{\frac{3}{4}}", None), (r"\boxed{1{,}234}", 1234), (r"\boxed{\text{42}}", 42)])
def test_numbers(text, want):
    got = read_number(text)
    assert got == want, f"{text!r}: expected {want}, got {got}"


class Characters:
    """One id per character, <|endoftext|> as 0."""
    special_tokens = {"<|endoftext|>": 0}

    def encode(self, text):
        return [ord(c) % 127 for c in text]

    def decode(self, ids):
        return "".join(map(chr, ids))


class Says(GPT):
    """A GPT that says one text after whatever it has read, then <|endoftext|>."""

    def __init__(self, text):
        super().__init__(GPTConfig(vocab_size=127, layers=1, width=8, heads=1, sequence_length=96))
        self.text = [*Characters().encode(text), 0]

    def hidden(self, ids, cache=None, **_):
        self.at = 0 if ids.shape[1] > 1 else self.at + 1        # the prompt comes first, whole
        return torch.zeros(*ids.shape, 8)

    def head(self, h):
        token = self.text[min(self.at, len(self.text) - 1)]
        return torch.nn.functional.one_hot(torch.tensor(token), 127).float().expand(len(h), -1)


QUESTIONS = [Question("s", f"Which {i}?", ("p", "q", "r", "t"), i % 4) for i in range(8)]


@pytest.mark.parametrize("text, accuracy, unclear", [
    (" B", 0.25, 0), (" (C), as r is in the text", 0.25, 0), (" Paris", 0, 1),
    (" A\nQuestion: next?", 0.25, 0), (" B or C", 0, 1)])
def test_what_a_model_writes_is_read_and_unclear_counts_as_wrong(text, accuracy, unclear):
    got = score_generated(Says(text), Characters(), QUESTIONS, "helm", longest=24)
    assert (got["accuracy"], got["unclear"], got["n"]) == (accuracy, unclear, 8), got
    assert got["low"] < 0.01 or got["low"] < got["accuracy"] < got["high"]


def test_numbers_are_asked_in_gsm8ks_form(tmp_path):
    file = tmp_path / "gsm8k.jsonl"
    file.write_text('{"question": "6 * 7?", "answer": "6 * 7 = 42\\n#### 42"}\n'
                    '{"question": "1 + 1?", "answer": "#### 2"}\n')
    asked = number_questions(file)
    assert asked == [("6 * 7?", 42.0), ("1 + 1?", 2.0)]
    got = score_numbers(Says(" it is 42.0 dollars"), Characters(), asked)
    assert (got["accuracy"], got["unclear"]) == (0.5, 0)
    file.write_text('{"question": "6 * 7?", "answer": "many"}\n')
    with pytest.raises(BadInput, match="record 1"):
        number_questions(file)
