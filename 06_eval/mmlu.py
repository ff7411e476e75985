"""MMLU: read its archive, write it into six prompt formats, and score it in five ways.

    python 06_eval/evaluate.py --mmlu FOLDER      # the real archive, or our own DocMMLU

Every published MMLU number is a format and a scorer; this file holds the formats, word for word
as the programs printed them, and `option_scores.py` the arithmetic behind the scorers.
Sources: hendrycks/test (commit 4450500); HELM (63754d0); lm-evaluation-harness of January 2023
(e47e01b) and of today (mmlu, mmlu_continuation); nanochat's letter-after-option rendering.
Answers that the model writes itself (HELM's own way) are in `generated_answers.py`.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np

from artifacts import BadInput, shown, whole
from calibration import expected_calibration_error, wilson_interval
from option_scores import option_log_probabilities

LETTERS = "ABCD"
SPLITS = ("dev", "val", "test")
STYLES = ("original", "helm", "harness_2023", "harness", "cloze", "letter_after")
SCORERS = ("letter", "sum", "per_token", "per_byte", "pmi")


@dataclass(frozen=True)
class Question:
    """One four-choice question; `answer` is the place of the right option, 0 to 3."""

    subject: str
    question: str
    options: tuple[str, str, str, str]
    answer: int


def read_questions(path: Path | str, subject: str) -> list[Question]:
    """The questions of one csv file without header: question, four options, the right letter.

    Cells may hold newlines, commas and doubled quotes inside quotes, keep their line ends and
    blanks as they are (but blanks around the letter), and the word "None" is an answer like any
    other. A byte-order mark and empty lines do not count. BadInput, in one line, names the file and
    the line on which the first row ends that is not six cells, ends in another letter than A, B, C
    or D, or has an empty question (or only blanks), or where quotes are broken; also a file that is
    not UTF-8. An option may be empty, a file too, and its last line may have no end.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{shown(path)} is not UTF-8 (byte {error.start}): save it as UTF-8")
    # newline="" leaves line ends inside quoted cells alone; only the csv reader may split rows.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    questions = []
    # Each row is judged before it counts, and the reader knows its line: a cell may hold several.
    try:
        for row in reader:
            if not row:
                continue
            if len(row) != 6:
                raise BadInput(f"{shown(path)}, line {reader.line_num}: {len(row)} cells instead "
                               "of 6 (question, four options, letter); no header is expected")
            question, *options, letter = row
            if letter.strip() not in tuple(LETTERS) or not question.strip():
                raise BadInput(f"{shown(path)}, line {reader.line_num}: the last cell must be A, "
                               f"B, C or D and the first a question, not {letter!r:.20}")
            questions.append(Question(subject, question, tuple(options),
                                      LETTERS.index(letter.strip())))
    except csv.Error as error:
        raise BadInput(f"{shown(path)}, line {reader.line_num}: {error}")
    return questions


def load_mmlu(folder: Path | str) -> dict[str, dict[str, list[Question]]]:
    """{subject: {"dev": [...], "val": [...], "test": [...]}} from MMLU's folder layout.

    Expects folder/dev/<subject>_dev.csv and so on (57 subjects in the real archive); all three
    splits of every subject must be there. BadInput otherwise, naming what is missing.
    """
    folder = Path(folder)
    if (folder / "data" / "test").is_dir():         # the archive as it unpacks
        folder = folder / "data"
    for split in SPLITS:
        if not (folder / split).is_dir():
            raise BadInput(f"{shown(folder / split)} is missing: MMLU's archive unpacks to dev, val"
                           " and test; our own is made by python 06_eval/doc_mmlu.py")
    subjects = sorted(path.name.removesuffix("_test.csv")
                      for path in (folder / "test").glob("[!.]*_test.csv"))
    if not subjects:
        raise BadInput(f"{shown(folder / 'test')} holds no <subject>_test.csv")
    found: dict[str, dict[str, list[Question]]] = {}
    for subject in subjects:
        found[subject] = {}
        for split in SPLITS:
            path = folder / split / f"{subject}_{split}.csv"
            if not path.is_file():
                raise BadInput(f"{shown(path)} is missing though the subject has a test file")
            found[subject][split] = read_questions(path, subject)
    return found


def write_questions(path: Path | str, questions: Sequence[Question]) -> None:
    """Write questions in exactly the layout that `read_questions` and every MMLU program read."""
    with whole(path) as file:
        # Quotes around every cell: some versions of Python leave a cell with a lone carriage
        # return bare, and then cannot read it again.
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for q in questions:
            writer.writerow([q.question, *q.options, LETTERS[q.answer]])


def _block(q: Question, style: str, with_answer: bool) -> str:
    """One question as the style prints it, up to "Answer:", with the answer for a worked shot."""
    lettered = "".join(f"{letter}. {option}\n" for letter, option in zip(LETTERS, q.options))
    if style in ("original", "harness"):
        text = f"{q.question if style == 'original' else q.question.strip()}\n{lettered}Answer:"
    elif style == "helm":
        text = f"Question: {q.question}\n{lettered}Answer:"
    elif style == "harness_2023":
        text = f"Question: {q.question}\nChoices:\n{lettered}Answer:"
    elif style == "cloze":
        text = f"Question: {q.question.strip()}\nAnswer:"
    else:
        after = "".join(f"- {option}={letter}\n" for letter, option in zip(LETTERS, q.options))
        text = (f"Multiple Choice question: {q.question}\n{after}\n"
                "Respond only with the letter of the correct answer.\nAnswer:")
    if not with_answer:
        return text
    # Worked shots end the way the style wants the model to end: in words for the two that score
    # words, with the letter for the others.
    words = style in ("harness_2023", "cloze")
    return f"{text} {q.options[q.answer] if words else LETTERS[q.answer]}"


def format_prompt(question: Question, shots: Sequence[Question], style: str) -> str:
    """The prompt, ending in "Answer:", that `style` makes of a question and its worked examples.

    Styles: "original" (Hendrycks 2020), "helm", "harness_2023", "harness" (today's), "cloze" (the
    options are not shown), "letter_after" (each option before its letter). No trailing space: the
    answer brings its own. Unknown style: BadInput.
    `_block` prints one question in its style; an empty line stands between blocks. "helm" and
    "harness" open with "The following are multiple choice questions (with answers) about anatomy."
    and an empty line, "original" with two blanks after "about", "cloze" without "multiple choice",
    the others with nothing. The underscores of a subject become blanks.
    Example, "helm", no shots: 'The following are multiple choice questions (with answers) about
    anatomy.\\n\\nQuestion: ...\\nA. ...\\nB. ...\\nC. ...\\nD. ...\\nAnswer:'.
    """
    if style not in STYLES:
        raise BadInput(f"unknown prompt style {style!r}; there are {', '.join(STYLES)}")
    subject = question.subject.replace("_", " ")
    opening = "The following are multiple choice questions (with answers) about"
    about = {
        # The original puts a space before every word of the subject: two spaces after "about".
        "original": f"{opening}  {subject}.\n\n",
        "helm": f"{opening} {subject}.\n\n",
        "harness": f"{opening} {subject}.\n\n",
        "cloze": f"The following are questions (with answers) about {subject}.\n\n",
    }.get(style, "")
    # Worked examples with their answers first, then the question, whose answer is left open.
    blocks = [_block(shot, style, with_answer=True) for shot in shots]
    return about + "\n\n".join([*blocks, _block(question, style, with_answer=False)])


def shots_that_fit(question: Question, shots: Sequence[Question], style: str, tokenizer,
                   room: int) -> str:
    """The prompt with as many of the first `shots` as fit into `room` tokens, at worst none.

    The original program lowers the number of shots in the same way; a question that is too long
    by itself keeps its end, where the options stand.
    """
    for count in range(len(shots), -1, -1):
        prompt = format_prompt(question, shots[:count], style)
        if count == 0 or len(tokenizer.encode(prompt)) <= room:
            return prompt
    raise AssertionError("unreachable: zero shots always return")


def option_scores(log_probabilities: np.ndarray, tokens: np.ndarray, byte_counts: np.ndarray,
                  unconditional: np.ndarray | None, scorer: str) -> np.ndarray:
    """(n, 4) scores whose largest is the model's choice.

    log_probabilities (n, 4): natural log P(option | prompt), summed over the option's tokens;
    tokens, byte_counts (n, 4): its length; unconditional (n, 4): log P(option | "Answer:").
    "letter" and "sum" take the sum as it is, "per_token" and "per_byte" divide it by the length (at
    least 1), "pmi" subtracts the unconditional one. Unknown scorer: BadInput. Example: sums (-4,
    -6), tokens (2, 4) -> per_token (-2, -1.5): the longer option now wins.
    """
    # A sum of log-probabilities falls with every token: short options have the advantage.
    if scorer in ("letter", "sum"):
        return log_probabilities
    # A mean undoes that, per token or, so that tokenizers can be compared, per byte.
    if scorer == "per_token":
        return log_probabilities / np.maximum(tokens, 1)
    if scorer == "per_byte":
        return log_probabilities / np.maximum(byte_counts, 1)
    # How much does the question raise the option? log P(o | q) - log P(o) (Holtzman et al. 2021).
    if scorer == "pmi":
        return log_probabilities - unconditional
    raise BadInput(f"unknown scorer {scorer!r}; there are {', '.join(SCORERS)}")


def summarise(scores: np.ndarray, gold: np.ndarray) -> dict:
    """Accuracy with interval, letter share and calibration error of (n, 4) scores.

    The choice is the largest score, the first of equals. Keys: accuracy, low, high (Wilson 95 %),
    n, predictions, confidence, letter_share (share of choices on the commonest of the four places:
    0.25 is even, 1.0 means that the model always says the same letter), ece (10 equal-mass bins).
    BadInput for a row that has a nan or nothing above -inf: it chooses nothing.
    """
    lost = np.flatnonzero(~np.isfinite(scores.max(axis=1)))     # argmax takes a nan for the largest
    if len(lost) or not len(scores):
        raise BadInput(f"{len(lost)} of {len(scores)} questions have scores that are no numbers, "
                       "such as those of a model with nan weights: give another checkpoint")
    if not ((gold >= 0) & (gold < scores.shape[1])).all():
        raise BadInput(f"a right answer's place is not among the {scores.shape[1]} options")
    predictions = scores.argmax(axis=1)
    right = predictions == gold
    low, high = wilson_interval(int(right.sum()), len(gold))
    # The four scores as a distribution: a softmax, shifted for safety.
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    confidence = (weights / weights.sum(axis=1, keepdims=True)).max(axis=1)
    return {"accuracy": float(right.mean()), "low": low, "high": high, "n": len(gold),
            "predictions": predictions.tolist(), "confidence": confidence.tolist(),
            "letter_share": float(np.bincount(predictions, minlength=4).max() / len(gold)),
            "ece": expected_calibration_error(confidence, right)}


def unconditional_scores(model, tokenizer, questions: Sequence[Question],
                         batch_tokens: int = 1024) -> np.ndarray:
    """(n, 4) log P(option | "Answer:"): how likely each option is before anything is asked."""
    return option_log_probabilities(model, tokenizer, ["Answer:"] * len(questions),
                                    [q.options for q in questions], batch_tokens)[0]


def score_all(model, tokenizer, questions: Sequence[Question], style: str,
              scorers: Sequence[str] = SCORERS, shots: dict[str, list[Question]] | None = None,
              k: int = 0, unconditional: np.ndarray | None = None,
              batch_tokens: int = 1024) -> dict[str, dict]:
    """{scorer: summary} of one style, with the work that scorers share done once.

    `shots` holds the worked examples by subject (the dev split), of which the first k are used.
    `unconditional` can be given where many styles are scored: it is the same for all.
    """
    if not questions:
        raise BadInput("no questions to score")
    longest = max(len(tokenizer.encode(" " + o)) for q in questions for o in q.options)
    limit = model.config.sequence_length
    room = limit - 1 - min(longest, limit // 2)
    prompts = [shots_that_fit(q, (shots or {}).get(q.subject, [])[:k], style, tokenizer, room)
               for q in questions]
    # The four letters and the four texts are eight continuations of the same prompt.
    lettered = tuple(LETTERS) if "letter" in scorers else ()
    worded = bool(set(scorers) - {"letter"})
    branches = [lettered + (q.options if worded else ()) for q in questions]
    sums, tokens = option_log_probabilities(model, tokenizer, prompts, branches, batch_tokens)
    # The option's own bytes, as today's harness counts them: without the space before it.
    sizes = np.array([[len(o.encode("utf-8")) for o in q.options] for q in questions])
    if "pmi" in scorers and unconditional is None:
        unconditional = unconditional_scores(model, tokenizer, questions, batch_tokens)
    gold = np.array([q.answer for q in questions])
    results = {}
    for scorer in scorers:
        own = slice(0, 4) if scorer == "letter" else slice(len(lettered), len(lettered) + 4)
        results[scorer] = summarise(
            option_scores(sums[:, own], tokens[:, own], sizes, unconditional, scorer), gold)
    return results


def score(model, tokenizer, questions: Sequence[Question], style: str, scorer: str,
          shots: dict[str, list[Question]] | None = None, k: int = 0) -> dict:
    """Accuracy of a model on four-choice questions under one prompt style and one scorer.

    See `summarise` for the keys. The scorers: "letter" compares log P(" A") to log P(" D"); "sum",
    "per_token", "per_byte", "pmi" compare the option's own words (see `option_scores`). In
    "cloze" the options are not shown, so "letter" there is a control: it can only guess.
    """
    return score_all(model, tokenizer, questions, style, (scorer,), shots, k)[scorer]


def shuffle_options(questions: Sequence[Question], seed: int) -> Iterator[Question]:
    """The same questions with their options in another order, and the answer moved along.

    A model that understands scores the same; one that counts on places does not.
    """
    rng = np.random.default_rng(seed)
    for q in questions:
        order = rng.permutation(4)
        yield Question(q.subject, q.question, tuple(q.options[i] for i in order),
                       int(np.flatnonzero(order == q.answer)[0]))
