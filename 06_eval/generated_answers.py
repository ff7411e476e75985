"""What did the model answer? A letter or a number out of text that it wrote freely.

    read_letter("I think that the answer is (C), because ...")      # "C"
    read_number("So 3 * 14 = 42 boxes.\\n#### 42")                   # 42.0
    score_generated(model, tokenizer, questions, "helm")            # accuracy, unclear, ...

Scored by probabilities a model always answers; asked to write, it explains, hedges, or answers
something else. The parser decides what counts, and two parsers give two accuracies: lm-eval's
GSM8K reports "strict-match" and "flexible-extract" side by side. Rules of ours: a stated answer
beats a mentioned one, the last statement beats earlier ones, and what is not clear is None, which
counts as wrong: guessing the reader's meaning would flatter the model. But: no fractions, no
units, no words for numbers: 3/4, 10:30 and 10,5 are None, not their last digit.
"""

import math
import re
from typing import Sequence

from batch_generation import generate_batch
from calibration import wilson_interval
from mmlu import LETTERS, Question, shots_that_fit
from option_scores import encode_prompt

# What may stand around a letter: marks of emphasis, quotes, brackets, LaTeX's boxes and texts.
AROUND = r"(?:[*_\s`\"'“$(\[]|\\boxed\{|\\text(?:bf)?\{|\\mathrm\{)*"
STATED = re.compile(
    rf"(?:(?:answer|choice|option)\s*(?:is|:|=)\s*:?{AROUND}(?P<said>[A-Za-z])"
    rf"|(?:[Oo]ption|[Cc]hoice)\s{AROUND}(?P<named>[A-Z])|\\boxed\{{{AROUND}(?P<boxed>[A-Z]))\b"
    r"(?!['’])(?!\W*\s(?:is|are)\s(?:wrong|incorrect|false|not)\b)", re.IGNORECASE)
ANOTHER = re.compile(r"[)\]*.\s]*\b(?:or|and)\s+[(\[*]*[A-Z]\b(?!\s+[a-z])|\s*/\s*[A-Z]\b")
# A word of a sentence, not a letter: "A dog", "I think", "I'd".
WORD = r"(?![\w'’])(?!\s+(?!and\b|or\b)[a-z])"
NUMBER = re.compile(r"(?<![\w.,])[-−]?\$?(?:\d+(?:,\d+)*)?(?:\.\d+)?(?:[eE][-+]?\d+)?")


def read_letter(text: str, letters: str = "ABCD") -> str | None:
    """The letter that an answer chooses, or None if it is not clear.

    In this order: the last statement such as "the answer is B", "Answer: (B)", "option B",
    "\\boxed{B}"; an answer that begins with the letter and nothing else that reads on ("B", "(B)",
    "**B.** Paris"); the only letter in brackets, "(B)"; the only letter that stands alone, except
    the words "A" and "I" of a sentence. Small letters count after "is", ":" and "=" and when they
    are all the answer. Two different ones without a statement, or a statement of two ("B or C"):
    None. Example: "Not A. The answer is c." -> "C".
    """
    wanted = [(m["said"] or m["named"] or m["boxed"], m.end()) for m in STATED.finditer(text)]
    wanted = [(said, end) for said, end in wanted if said.upper() in letters
              and (said.isupper() or said.upper() not in "AI")]
    # Somebody who corrects himself means the last thing he says.
    if wanted:
        said, end = wanted[-1]
        return None if ANOTHER.match(text, end) else said.upper()
    # The form that the prompt asks for: the letter, alone or before the option's text.
    head = re.match(r"[\s*_(\[\"']*([A-Za-z])(?:[)\].:,*_\"'\s]*$|[)\].:*]+(?:\s|$))", text)
    if head and head[1].upper() in letters and not ANOTHER.match(text, head.end(1)) and (
            head[1].isupper() or len(text.split()) == 1):
        return head[1].upper()
    # Mentioned in passing: only if there is no choice to make.
    for pattern in (r"[(\[]([A-Z])[)\]]", rf"(?<![\w'’])([AI]{WORD}|[B-HJ-Z])(?![\w'’])"):
        seen = {letter for letter in re.findall(pattern, text) if letter in letters}
        if seen:
            return seen.pop() if len(seen) == 1 else None
    return None


def read_number(text: str) -> float | None:
    """The number that an answer ends with, or None if it has none, or none that is clear.

    After "####" (GSM8K's mark), or inside the last \\boxed{...}, if there is such a mark, and None
    if no number stands there; else the last number of the text. "1,234.5" is 1234.5, "$3" is 3,
    "42." is 42, "10-4" holds 10 and 4 and not -4, "-4" is -4. None for a last number that is part
    of something else, 3/4, 10:30, 10,5, 0x1F, and for one too large for a float. Example:
    "5 + 7 = 12, so 12 eggs" -> 12.0.
    """
    # LaTeX's way to write 1,234 and 42 apples.
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text.replace("{,}", ",").replace("\\!", ""))
    # What is marked as the answer is the answer, whatever is said around it.
    for mark in (r"####\s*([^\n]*)", r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}"):
        marked = re.findall(mark, text)
        if marked:
            text = marked[-1]
            break
    # A sign belongs to a number only where no other number stands before it.
    found = [m for m in NUMBER.finditer(text) if re.search(r"\d", m[0])]
    if not found or "\\frac" in text:
        return None
    last = found[-1]
    # A part of a fraction, of a time, of 1 000 or 0x1F is no answer by itself.
    if (re.search(r"\d\s*[/:]\s*$|(?<!\d)\d{1,3}[ \u00a0\u202f]$", text[:last.start()])
            and (len(last[0]) == 3 or text[last.start() - 1] != " ")
            or re.match(r"\s*[/:]\s*\d|,\d|[xX][0-9a-fA-F]", text[last.end():])):
        return None
    digits = last[0].replace("$", "").replace("−", "-")
    if "," in digits and not re.match(r"-?\d{1,3}(?:,\d{3})+(?![\d,])", digits):
        return None
    value = float(digits.replace(",", ""))
    return value if math.isfinite(value) else None


def written_answers(model, tokenizer, prompts: Sequence[str], longest: int) -> list[str]:
    """What the model writes after each prompt, greedily: `longest` tokens at most, up to the end of
    the text, an empty line, or the question that a base model asks itself next."""
    room = model.config.sequence_length - longest
    ids = [encode_prompt(tokenizer, prompt, room) for prompt in prompts]
    stop = [tokenizer.special_tokens["<|endoftext|>"]]
    texts = []
    for at in range(0, len(ids), 64):
        for new in generate_batch(model, ids[at:at + 64], longest, temperature=0, stop=stop):
            text = tokenizer.decode([i for i in new if i not in stop])
            texts.append(re.split(r"\n\s*\n|\n(?:Question|Q):", text.lstrip("\n"))[0])
    return texts


def score_generated(model, tokenizer, questions: Sequence[Question], style: str,
                    shots: dict[str, list[Question]] | None = None, k: int = 0,
                    longest: int = 12) -> dict:
    """Four-choice questions answered in the model's own words and read by `read_letter`.

    Keys: style, k, n, accuracy with low and high (Wilson 95 %), unclear (share of answers without
    a clear letter, which count as wrong), examples (the first five texts).
    """
    room = model.config.sequence_length - longest - 1
    prompts = [shots_that_fit(q, (shots or {}).get(q.subject, [])[:k], style, tokenizer, room)
               for q in questions]
    texts = written_answers(model, tokenizer, prompts, longest)
    letters = [read_letter(text) for text in texts]
    right = sum(letter == LETTERS[q.answer] for letter, q in zip(letters, questions))
    low, high = wilson_interval(right, len(questions))
    return {"style": style, "k": k, "n": len(questions), "accuracy": right / len(questions),
            "low": low, "high": high, "unclear": letters.count(None) / len(questions),
            "examples": texts[:5]}


def score_numbers(model, tokenizer, questions: Sequence[tuple[str, float]],
                  longest: int = 64) -> dict:
    """Questions whose answer is a number, answered in words and read by `read_number`: n, accuracy
    with low and high, unclear, examples."""
    texts = written_answers(model, tokenizer, [f"Question: {q}\nAnswer:" for q, _ in questions],
                            min(longest, model.config.sequence_length // 2))
    numbers = [read_number(text) for text in texts]
    right = sum(got is not None and math.isclose(got, want) for got, (_, want)
                in zip(numbers, questions))
    low, high = wilson_interval(right, len(questions))
    return {"n": len(questions), "accuracy": right / len(questions), "low": low, "high": high,
            "unclear": numbers.count(None) / len(questions), "examples": texts[:5]}
