"""Preference pairs of other people: the forms in which TRL's, OpenRLHF's and HH-RLHF's files come.

    pairs = read_pairs("pairs.jsonl", "05_posttrain/preferences.py")

One JSON object a line (or one JSON list), each with "chosen" and "rejected" and mostly "prompt":

    texts        {"prompt": "Hi?", "chosen": "Hello.", "rejected": "No."}
    messages     {"prompt": [{"role": "user", ...}], "chosen": [{"role": "assistant", ...}], ...}
    whole talks  {"chosen": [user, assistant, ...], "rejected": [the same but for the last turn]}
    HH-RLHF      {"chosen": "\\n\\nHuman: Hi?\\n\\nAssistant: Hello.", "rejected": ...}

A system turn is dropped, as everywhere in this chapter. A prompt of one turn becomes its text, a
longer one a list of messages; both render.
"""

import re
from pathlib import Path

from artifacts import BadInput, shown
from instruction_files import checked_turns, field_of
from training_stage import read_jsonl

TURN = re.compile(r"\n\n(Human|Assistant):")


def dialogue(text: str) -> list[dict]:
    """HH-RLHF's text -> messages: "\\n\\nHuman: a\\n\\nAssistant: b" is a user's and an
    assistant's turn. ValueError if it does not begin with a turn."""
    parts = TURN.split("\n\n" + text.lstrip())
    if parts[0].strip() or len(parts) < 3:
        raise ValueError("no turn begins with 'Human:' or 'Assistant:'")
    return [{"role": "user" if who == "Human" else "assistant", "content": said.strip()}
            for who, said in zip(parts[1::2], parts[2::2])]


def talk(value) -> list[dict]:
    """One side of a record as messages: a list as it is, HH-RLHF's text split, and any other text
    as one turn of the assistant."""
    value = [value] if isinstance(value, dict) else value
    if isinstance(value, list):
        if not all(isinstance(message, dict) for message in value):
            raise ValueError("a list of messages holds something that is no message")
        return [m for m in value if m.get("role") not in ("system", "developer")]
    if not isinstance(value, str) or not value.strip():
        raise ValueError("chosen or rejected is missing or no text")
    if TURN.match("\n\n" + value.lstrip()):
        return dialogue(value)
    return [{"role": "assistant", "content": value}]


def as_pair(record: dict) -> dict:
    """One record in any of the four forms -> {"prompt", "chosen", "rejected", "chosen_ended",
    "rejected_ended", ...}, other fields kept; ValueError says what is missing."""
    if not isinstance(record, dict):
        raise ValueError("no JSON object")
    chosen, rejected = talk(record.get("chosen")), talk(record.get("rejected"))
    before = chosen[:-1]                # what was said before the two answers
    if before != rejected[:-1]:
        raise ValueError("the two talks differ before their last turn")
    asked = record.get("prompt", field_of(record, "instruction") or record.get("input"))
    if isinstance(asked, str):
        asked = dialogue(asked.rstrip().removesuffix("Assistant:")) if TURN.match(
            "\n\n" + asked.lstrip()) else [{"role": "user", "content": asked}]
    elif asked is None:                 # the prompt is what both talks begin with
        asked = []
    elif not isinstance(asked, list):
        raise ValueError("prompt is missing or no text")
    # A whole talk holds its prompt, and perhaps more turns than that; other turns go on from it.
    asked = before if before and before[0].get("role") == "user" else [*asked, *before]
    # Both sides alternate behind the prompt and end with the assistant: checked as one talk.
    talks = [checked_turns([*asked, side[-1]]) for side in (chosen, rejected)]
    prompt = talks[0][:-1]
    if not prompt:
        raise ValueError("prompt is missing or no text")
    answers = [t[-1]["content"] for t in talks]
    "".join(answers + [m["content"] for m in prompt]).encode()      # half an emoji is no text
    return {"chosen_ended": True, "rejected_ended": True} | record | {
        "prompt": prompt[0]["content"] if len(prompt) == 1 else prompt,
        "chosen": answers[0], "rejected": answers[1]}


def split_pairs(pairs: list[dict], share: float = 0.2) -> list[dict]:
    """The same pairs with "split": the last `share` of them (by prompt) is "val"."""
    prompts = list(dict.fromkeys(str(pair["prompt"]) for pair in pairs))
    val = set(prompts[round(len(prompts) * (1 - share)):])
    return [pair | {"split": "val" if str(pair["prompt"]) in val else "train"} for pair in pairs]


def read_pairs(path: Path, made_by: str) -> list[dict]:
    """The pairs of a file, each with a "split"; a file without splits is split by prompt. BadInput
    names file and line of a record that is no pair."""
    pairs = []
    for number, record in enumerate(read_jsonl(path, made_by), 1):
        try:
            pairs.append(as_pair(record))
        except (ValueError, AttributeError, TypeError, IndexError) as why:
            raise BadInput(f"{shown(path)}, record {number}: {why}; every line needs prompt, "
                           "chosen and rejected, as text or as messages") from None
    if all(pair.get("split") in ("train", "val") for pair in pairs):
        return pairs
    return split_pairs(pairs)
