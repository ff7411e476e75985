"""HELM's idea: many scenarios times many metrics, and one honest way to add them up.

    table = run_suite(contestants, tokenizer, scenarios)
    mean_win_rate(table, "accuracy")

A scenario is a list of four-choice questions: DocMMLU's five, the real MMLU, or the files of ARC,
OpenBookQA and HellaSwag (`load_choices`, evaluate.py --scenario FILE). Metrics: accuracy,
calibration error, robustness (the worst case over the question as written and a mild mix of small
damages), selective accuracy, questions per CPU second. Models are compared by mean win rate, which
depends on who takes part.
Source: Liang et al. 2022, arXiv 2211.09110. Leaves out: fairness, bias, toxicity (the data of
documentation gives nothing to measure them on), and generation metrics.
"""

import json
import random
import re
import time
from pathlib import Path
from typing import Callable, Mapping, Sequence

import numpy as np

from artifacts import BadInput, shown
from calibration import selective_accuracy, wilson_interval
from mmlu import Question, score_all

CONTRACTIONS = {"does not": "doesn't", "is not": "isn't", "what is": "what's", "do not": "don't",
                "cannot": "can't", "it is": "it's", "are not": "aren't", "which is": "which's"}


def lowercase(text: str, rng: random.Random) -> str:
    """The text in small letters. Example: "What does A do?" -> "what does a do?"."""
    return text.lower()


def spaces(text: str, rng: random.Random) -> str:
    """Up to three more spaces at every space, at random; HELM's space perturbation."""
    return re.sub(" ", lambda _: " " * rng.randint(1, 4), text)


def typos(text: str, rng: random.Random, rate: float = 0.1) -> str:
    """One letter in ten changed to a neighbour in the alphabet; names and numbers are not spared.

    Example, rate 1: "abc" -> letters next to a, b and c.
    """
    def slip(match: re.Match) -> str:
        letter = match[0]
        if rng.random() >= rate:
            return letter
        near = chr(min(ord("z"), max(ord("a"), ord(letter.lower()) + rng.choice((-1, 1)))))
        return near.upper() if letter.isupper() else near

    return re.sub("[A-Za-z]", slip, text)


def contractions(text: str, rng: random.Random) -> str:
    """Spoken short forms: "What is" -> "What's", "does not" -> "doesn't"."""
    for long, short in CONTRACTIONS.items():
        text = re.sub(rf"\b{long}\b",
                      lambda m, s=short: s[0].upper() + s[1:] if m[0][0].isupper() else s,
                      text, flags=re.I)
    return text


def mild_mix(text: str, rng: random.Random) -> str:
    """All four at once, as HELM mixes them: small letters, short forms, typos, spaces."""
    return spaces(typos(contractions(lowercase(text, rng), rng), rng), rng)


PERTURBATIONS: dict[str, Callable[[str, random.Random], str]] = {
    "lowercase": lowercase, "spaces": spaces, "typos": typos, "contractions": contractions,
    "mild mix": mild_mix}


def perturb(questions: Sequence[Question], name: str, seed: int) -> list[Question]:
    """The questions with damaged wording; options and right answers stay as they are."""
    damage = PERTURBATIONS[name]
    return [Question(q.subject, damage(q.question, random.Random(f"{seed} {name} {i}")),
                     q.options, q.answer) for i, q in enumerate(questions)]


def worst_case(right: Sequence[Sequence[bool]]) -> float:
    """Share of questions answered rightly in every version: HELM's robustness.

    `right` holds one row of booleans per version of the questions; ValueError if there is none, or
    no question.
    Example: [[1, 1, 0], [1, 0, 0]] -> 1/3.
    """
    if not len(right) or not len(right[0]):
        raise ValueError("no version of the questions was asked, or no question")
    # One wrong version spoils a question: the worst case is what counts.
    # Over the versions (axis 0) every one must be right; over the questions, the mean.
    return float(np.asarray(right, dtype=bool).all(axis=0).mean())


def run_scenario(model, tokenizer, questions: Sequence[Question], style: str, scorer: str,
                 seed: int = 0, perturbations: Sequence[str] = ("mild mix",)) -> dict:
    """All metrics of one model on one scenario, with 95 % intervals for accuracy.

    Keys: accuracy (over questions), low, high, n, by_subject (HELM's accuracy: the mean over
    subjects), ece, selective, robustness, questions_per_second (CPU).
    """
    began = time.process_time()
    plain = score_all(model, tokenizer, questions, style, (scorer,))[scorer]
    seconds = max(time.process_time() - began, 1e-9)
    gold = np.array([q.answer for q in questions])
    right = [np.array(plain["predictions"]) == gold]
    for name in perturbations:
        damaged = score_all(model, tokenizer, perturb(questions, name, seed), style, (scorer,))
        right.append(np.array(damaged[scorer]["predictions"]) == gold)
    robustness = worst_case(right)
    subjects = np.array([q.subject for q in questions])
    by_subject = np.mean([right[0][subjects == name].mean() for name in sorted(set(subjects))])
    return {**{key: plain[key] for key in ("accuracy", "low", "high", "n", "ece")},
            "by_subject": float(by_subject),
            "selective": selective_accuracy(np.array(plain["confidence"]), right[0]),
            "robustness": robustness,
            "robustness_interval": wilson_interval(round(robustness * len(gold)), len(gold)),
            "questions_per_second": len(questions) / seconds}


def run_suite(models: Mapping[str, object], tokenizer, scenarios: Mapping[str, Sequence[Question]],
              style: str = "cloze", scorer: str = "pmi", seed: int = 0,
              perturbations: Sequence[str] = ("mild mix",),
              progress: Callable = lambda items, **_: items) -> dict[str, dict[str, dict]]:
    """{scenario: {model: metrics}} for every pair; a full grid, no cell left out."""
    pairs = [(scenario, name) for scenario in scenarios for name in models]
    table: dict[str, dict[str, dict]] = {scenario: {} for scenario in scenarios}
    for scenario, name in progress(pairs, desc="suite", unit=" cells"):
        table[scenario][name] = run_scenario(models[name], tokenizer, scenarios[scenario], style,
                                             scorer, seed, perturbations)
    return table


def mean_win_rate(table: Mapping[str, Mapping[str, Mapping]], metric: str,
                  lower_is_better: bool = False) -> dict[str, float]:
    """{model: share of the other models it beats, averaged over scenarios}, a draw one half.

    A model that took no part in a scenario is not in its column: it is averaged over its own ones.
    The number depends on who takes part: adding a weak model raises everybody else.
    Example: two scenarios, x above y in one and level in the other -> x 0.75, y 0.25.
    One model alone has nobody to beat: 0.5. ValueError for a nan, which can neither win nor lose.
    Source: HELM, section 8.1.
    """
    rates: dict[str, list[float]] = {}
    # A scenario is a column: within it, each model meets every other one once.
    for column in table.values():
        for name, cell in column.items():
            others = [column[other][metric] for other in column if other != name]
            own = cell[metric]
            if own != own:      # every comparison with it is false: it would lose to all, silently
                raise ValueError(f"{metric} of {name} is nan: it can neither win nor lose")
            # A draw is half a win, or two equal models would both lose.
            won = sum((own < x if lower_is_better else own > x) + 0.5 * (own == x) for x in others)
            rates.setdefault(name, []).append(won / len(others) if others else 0.5)
    # Scenarios weigh the same, however many questions each holds.
    return {name: float(np.mean(values)) for name, values in rates.items()}


def centred(accuracy: float, chance: float = 0.25) -> float:
    """Accuracy with guessing at 0 and perfection at 1. Example: 0.625 at chance 0.25 -> 0.5.
    ValueError for a chance that is not in [0, 1)."""
    if not 0 <= chance < 1:
        raise ValueError(f"chance {chance:g} must be at least 0 and below 1")
    return (accuracy - chance) / (1.0 - chance)


def _choices_of(record: dict) -> tuple[str, list[str], int]:
    """(question, options, place of the right one) of one record, in any of the known forms."""
    if "endings" in record:
        return record["ctx"], _listed(record["endings"]), _place_of(record["label"])
    inner = record["question"] if isinstance(record.get("question"), dict) else record
    text = inner["stem"] if "stem" in inner else inner.get("question_stem", inner.get("question"))
    choices = inner["choices"]
    if isinstance(choices, dict):       # columns, as the Hugging Face copies hold them
        options, labels = choices["text"], choices["label"]
    elif isinstance(choices[0], dict):
        options, labels = zip(*((choice["text"], choice["label"]) for choice in choices))
    else:
        return text, _listed(choices), _place_of(record["answer"])
    if len(options) != len(labels) or len(set(labels)) < len(labels):
        raise ValueError(f"{len(options)} options have the labels {', '.join(map(str, labels))}")
    return text, list(options), list(labels).index(record["answerKey"].strip())


def _listed(options) -> list[str]:
    """The options as a list; TypeError for a text, whose letters would pass for options."""
    if isinstance(options, str):
        raise TypeError("the options are one text, not a list")
    return list(options)


def _place_of(answer) -> int:
    """The place of the right option: a number from 0, as a number or a text, or a letter from A."""
    if isinstance(answer, str) and answer.strip() in tuple("ABCD"):
        return "ABCD".index(answer.strip())
    if isinstance(answer, float) and answer != int(answer):
        raise ValueError(f"answer {answer} is no place")
    return int(answer)


def load_choices(path: Path | str) -> tuple[list[Question], int]:
    """(questions, skipped) of a jsonl file of ARC, OpenBookQA, HellaSwag or MMLU.

    ARC and OpenBookQA: {"question": {"stem", "choices": [{"text", "label"}]}, "answerKey"}, or
    {"question" or "question_stem", "choices": {"text": [...], "label": [...]}, "answerKey"};
    HellaSwag: {"ctx", "endings", "label"}; MMLU: {"question", "choices", "answer", "subject"}.
    Questions without exactly four options are counted and skipped; a line that is no JSON, or of
    another form, raises BadInput with file and line.
    """
    questions, skipped = [], 0
    if not Path(path).is_file():
        raise BadInput(f"{shown(path)} is missing: give a jsonl file of four-choice questions")
    # Wrong bytes become lone surrogates, which no text may hold: the line is named below.
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                line.encode()
                record = json.loads(line)
                text, options, answer = _choices_of(record)
                if not isinstance(text, str) or not all(isinstance(o, str) for o in options):
                    raise TypeError("the question and its options must be texts")
            except UnicodeEncodeError:
                raise BadInput(f"{shown(path)}, line {number} is not UTF-8: save it as UTF-8")
            except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
                raise BadInput(f"{shown(path)}, line {number}: not a question of ARC, OpenBookQA, "
                               f"HellaSwag or MMLU ({type(error).__name__}: {error})")
            if len(options) == 4 and 0 <= answer < 4:
                subject = str(record.get("subject") or Path(path).stem)
                questions.append(Question(subject, text, tuple(options), answer))
            else:
                skipped += 1
    return questions, skipped
