"""What did the model answer? A letter or a number out of text that it wrote freely.

    read_letter("I think that the answer is (C), because ...")      # "C"
    read_number("So 3 * 14 = 42 boxes.\\n#### 42")                   # 42.0

Scored by probabilities a model always answers; asked to write, it explains, hedges, or answers
something else. The parser decides what counts, and two parsers give two accuracies: lm-eval's
GSM8K reports "strict-match" and "flexible-extract" side by side. Rules of ours: a stated answer
beats a mentioned one, the last statement beats earlier ones, and what is not clear is None, which
counts as wrong: guessing the reader's meaning would flatter the model. But: no fractions, no
units, no words for numbers.
"""

import re

STATED = re.compile(r"(?:answer|choice|option)\s*(?:is|:|=)\s*:?\s*[*_\s]*[(\[]?([A-Z])\b"
                    r"(?!['’])", re.IGNORECASE)
NUMBER = re.compile(r"(?<![\w.,])[-−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?")


def read_letter(text: str, letters: str = "ABCD") -> str | None:
    """The letter that an answer chooses, or None if it is not clear.

    In this order: the last statement such as "the answer is B", "Answer: (B)", "option = B" (what
    STATED finds: a letter of `letters`, but no small "a", which is a word); an answer that begins
    with the letter and nothing else that reads on ("B", "(B)", "**B.** Paris"); the only letter in
    brackets, "(B)"; the only letter that stands alone, except the word "A" of a sentence. Small
    letters count in statements and when they are all the answer. Two different ones without a
    statement: None. Example: "Not A. The answer is c." -> "C".
    """
    wanted = [m.upper() for m in STATED.findall(text) if m.upper() in letters
              and (m.isupper() or m.upper() != "A")]
    # Somebody who corrects himself means the last thing he says.
    if wanted:
        return wanted[-1]
    # The form that the prompt asks for: the letter, alone or before the option's text.
    head = re.match(r"[\s*_(\[\"']*([A-Za-z])(?:[)\].:,*_\"'\s]*$|[)\].:*]+(?:\s|$))", text)
    if head and head[1].upper() in letters and (head[1].isupper() or len(text.split()) == 1):
        return head[1].upper()
    # Mentioned in passing: only if there is no choice to make.
    for pattern in (r"[(\[]([A-Z])[)\]]", r"(?<![\w'’])(A(?!\s+[a-z])|[B-Z])(?![\w'’])"):
        seen = {letter for letter in re.findall(pattern, text) if letter in letters}
        if seen:
            return seen.pop() if len(seen) == 1 else None
    return None


def read_number(text: str) -> float | None:
    """The number that an answer ends with, or None if it has none.

    After "####" (GSM8K's mark), or inside the last \\boxed{...}, if there is one; else the last
    number of the text. "1,234.5" is 1234.5, "$3" is 3, "42." is 42, "10-4" holds 10 and 4 and not
    -4, "-4" is -4. Example: "5 + 7 = 12, so 12 eggs" -> 12.0.
    """
    # What is marked as the answer is the answer, whatever is said around it.
    for mark in (r"####\s*([^\n]*)", r"\\boxed\{([^{}]*)\}"):
        marked = re.findall(mark, text)
        if marked:
            text = marked[-1]
            break
    # A sign belongs to a number only where no other number stands before it.
    found = [m for m in NUMBER.findall(text) if re.search(r"\d", m)]
    if not found:
        return None
    return float(found[-1].replace(",", "").replace("$", "").replace("−", "-"))
