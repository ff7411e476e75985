"""Letters and numbers out of free text: what models really write."""

import pytest

from generated_answers import read_letter, read_number


@pytest.mark.exercise("6.25")
@pytest.mark.parametrize("text, want", [
    ("B", "B"), (" b", "B"), ("(B)", "B"), ("B.", "B"), ("B) Paris", "B"), ("**B**", "B"),
    ("**C.** Paris", "C"), ("Answer: D", "D"), ("The answer is (C), because A is wrong.", "C"),
    ("Not A. The answer is c.", "C"), ("The answer is B. No, wait: the answer is D.", "D"),
    ("The correct option is **D**", "D"), ("I would choose (A).", "A"), ("It must be C", "C"),
    ("A cat is an animal.", None), ("A cat, so B", "B"), ("Either (A) or (C).", None),
    ("B or C", None), ("", None), ("Paris", None), ("E", None), ("The answer is E", None),
    ("Be careful", None), ("D is right", "D"), ("The answer is a cat", None),
    ("Because B's text is right", None), ("Answer:\nB", "B"), ("answer = b", "B")])
def test_letters(text, want):
    got = read_letter(text)
    assert got == want, f"{text!r}: expected {want}, got {got}"


@pytest.mark.exercise("6.25")
def test_other_letters():
    assert read_letter("The answer is E", "ABCDE") == "E"
    assert read_letter("C", "AB") is None


@pytest.mark.exercise("6.26")
@pytest.mark.parametrize("text, want", [
    ("42", 42), ("So 3 * 14 = 42 boxes.", 42), ("5 + 7 = 12, so 12 eggs", 12), ("42.", 42),
    ("It costs $1,234.50.", 1234.5), ("-4 degrees", -4), ("10-4", 4), ("10 - 4", 4), ("= -0.5", -0.5),
    ("1e3 m", 1000), (".5", 0.5), ("12%", 12), ("no number", None), ("", None),
    ("7 apples\n#### 8\nThanks for 2 questions", 8), ("#### 1,000", 1000), ("#### none, 5", 5),
    (r"so \boxed{17} of 20", 17), ("1,234,567", 1234567), ("in 1999, 12", 12), ("−3", -3),
    ("v2", None), ("1, 2, 3", 3)])
def test_numbers(text, want):
    got = read_number(text)
    assert got == want, f"{text!r}: expected {want}, got {got}"
