"""What can be seen of a policy without knowing what is good: form, ending, variety, raw text.

These are the gauges of every training command here. None of them knows the gold rule.
"""

import re
from pathlib import Path

import numpy as np
import torch

from artifacts import read_json
from responses import token_logprobs
from rollouts import Answer


def is_answer(text: str, ended: bool) -> bool:
    """Does it have the form of an answer: it stopped by itself after one or two sentences of
    prose, and asks nothing back, continues no code and no list of definitions?

    `is_answer("Return the sum of a.", True)` holds; a text that was cut off never does.
    """
    words = text.split()
    prose = sum(c.isalpha() or c in " ,." for c in text) > 0.8 * len(text)
    return (ended and 2 <= len(words) <= 40 and prose and "?" not in text and "\n" not in text
            and not re.search(r">>>|<\|", text) and text[0].isalpha())


def form(answers: list[Answer]) -> dict[str, float]:
    """Shares over the answers: ended, in the form of an answer, distinct; mean words."""
    n = max(1, len(answers))
    return {"end_rate": sum(a.ended for a in answers) / n,
            "format_rate": sum(is_answer(a.text, a.ended) for a in answers) / n,
            "distinct": len({a.text for a in answers}) / n,
            "words": sum(len(a.text.split()) for a in answers) / n}


def raw_windows(folder: Path, tokens: int = 128, windows: int = 96) -> torch.Tensor:
    """Token windows (W, T) spread evenly over the held-out raw documentation of chapter 2."""
    made_by = "02_data/build_corpus.py"
    index = read_json(folder / "index.json", made_by)
    ids = np.memmap(folder / "val.bin", dtype=index["dtype"], mode="r")
    starts = np.linspace(0, max(0, len(ids) - tokens), windows).astype(int)
    return torch.from_numpy(np.stack([ids[s:s + tokens] for s in starts]).astype(np.int64))


@torch.no_grad()
def raw_bits_per_byte(model, tokenizer, windows: torch.Tensor) -> float:
    """Bits per byte of raw documentation, the prediction task of the base model.

    Nats over the targets of every window, divided by ln 2 and by the bytes of those targets;
    special tokens count neither nats nor bytes.
    """
    specials = set(tokenizer.special_tokens.values())
    size = torch.tensor([0 if i in specials else len(tokenizer.vocab.get(i, b""))
                         for i in range(tokenizer.vocab_size)])
    nats, count = 0.0, 0
    for part in windows.split(16):
        logits, _ = model(part)
        lengths = size[part[:, 1:]]
        nats -= float((token_logprobs(logits, part) * (lengths > 0)).sum())
        count += int(lengths.sum())
    return nats / np.log(2) / max(count, 1)
