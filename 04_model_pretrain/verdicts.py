"""What a finished run says: the loss figure, the rival's score, the forecast's error, two claims.

`next-token`: does predicting the next token need more than counting? Bits per byte of 1-, 2- and
5-gram models and of the GPT, on the same held-out documents. `predictable`: was the final loss
inside the interval that was written down before training?
"""

import json
import math
from pathlib import Path

import numpy as np

from artifacts import record_claim, whole
from batches import Shard
from ngram import NgramModel

COMMAND = "python 04_model_pretrain/pretrain.py"


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Nats in all -> bits per byte of text: the score that does not depend on the tokenizer."""
    return nats / math.log(2) / n_bytes


def ngram_scores(train: Shard, held_out: Shard, orders: tuple[int, ...] = (1, 2, 5),
                 limit: int | None = None) -> dict[int, float]:
    """Bits per byte on the held-out split of n-gram models counted on the training split.

    They read the tokens that the GPT reads (at most `limit` of them), and like it they predict
    every token of text of every document, its first from the <|endoftext|> before it.
    """
    counted = np.asarray(train.tokens[:limit])
    stream = np.concatenate([[held_out.eot], np.asarray(held_out.tokens)])
    scores = {}
    for order in orders:
        model = NgramModel(counted, train.vocab_size, order)
        nats = -model.log_probabilities(stream)[1:][stream[1:] != held_out.eot].sum()
        scores[order] = round(bits_per_byte(float(nats), int(held_out.bytes.sum())), 4)
    return scores


def read_log(path: Path) -> tuple[list[dict], list[dict]]:
    """The updates and the evaluations of a log.jsonl."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [r for r in records if "loss" in r], [r for r in records if "val_loss" in r]


def smoothed(tokens: np.ndarray, losses: np.ndarray, bins: int = 60) -> tuple:
    """(tokens, losses): means over equal steps of log tokens, as the axis shows them."""
    edges = np.geomspace(tokens[0], tokens[-1] * 1.001, bins + 1)
    place = np.digitize(tokens, edges)
    groups = [place == k for k in np.unique(place)]
    return (np.array([tokens[g].mean() for g in groups]),
            np.array([losses[g].mean() for g in groups]))


def samples_of(folder: Path, width: int = 96) -> list[str]:
    """What the model wrote without a prompt, one line for each time it was asked."""
    path = folder / "samples.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
               ] if path.exists() else []
    lines = [(r["fraction"], " ".join(r["text"].split())[:width]) for r in records
             if r["prompt"] == ""]
    # an untrained model writes any byte; the font has no signs for most of them
    return [f"{share:>5.0%}  " + "".join(c if c.isprintable() and c < "\u0250" else "·"
                                         for c in text) for share, text in lines]


def draw_loss(folder: Path, final: dict, ngram_loss: float, forecast: dict | None) -> None:
    """loss.png: loss against tokens, held-out loss, the forecast made before, the 5-gram's line,
    and below it what the model wrote on the way."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    updates, evaluations = read_log(folder / "log.jsonl")
    tokens = np.array([r["tokens"] for r in updates])
    losses = np.array([r["loss"] for r in updates])
    figure, axes = plt.subplots(figsize=(7.4, 4.4))
    axes.plot(tokens, losses, color="#bcd", linewidth=0.6, label="each batch")
    axes.plot(*smoothed(tokens, losses), color="#1f5f99", label="mean")
    at = {r["step"]: r["tokens"] for r in updates}
    points = [(at[r["step"]], r["val_loss"]) for r in evaluations if r["step"] in at]
    points.append((tokens[-1], final["val_loss"]))
    axes.plot(*zip(*points), "o", color="#c0392b", label="held-out documents")
    axes.axhline(ngram_loss, color="#777", linestyle="--", label="5-gram, held-out")
    if forecast:
        axes.errorbar([tokens[-1]], [forecast["loss"]], fmt="s", color="#e69f00", capsize=5,
                      yerr=[[forecast["loss"] - forecast["low"]],
                            [forecast["high"] - forecast["loss"]]],
                      label=f"forecast before training, {forecast['level']:.0%} interval")
    axes.set(xlabel="training tokens", ylabel="loss (nats per token)", xscale="log",
             ylim=(min(losses.min(), ngram_loss, final["val_loss"]) - 0.1, losses.max() + 0.2),
             title=f"Pretraining: {final['val_loss']:.3f} nats per token, "
                   f"{final['val_bits_per_byte']:.3f} bits per byte held out")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    # $ would begin a formula
    written = "\n".join(samples_of(folder)).replace("$", "\\$")
    figure.text(0.06, -0.02, "What it wrote, by share of the training:\n" + written, va="top",
                fontsize=6.5, family="monospace")
    with whole(folder / "loss.png", "wb") as file:
        figure.savefig(file, dpi=150, bbox_inches="tight", format="png")
    plt.close(figure)


def draw_copying(folder: Path, final: dict, steps: int) -> None:
    """copying.png: nats on random tokens, said once and said again, against the updates: where
    the lines part, the model has learned to look back."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    points = [r for r in read_log(folder / "log.jsonl")[1] if "copy_first" in r]
    points.append(final | {"step": steps})
    figure, axes = plt.subplots(figsize=(5.6, 3.4))
    for name, words in (("first", "random tokens"), ("second", "the same, said again")):
        axes.plot([r["step"] for r in points], [r[f"copy_{name}"] for r in points], "o-",
                  label=words)
    axes.set(xlabel="updates", ylabel="loss (nats per token)", ylim=(0, None),
             title="Can the model look back and copy?")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    with whole(folder / "copying.png", "wb") as file:
        figure.savefig(file, dpi=150, bbox_inches="tight", format="png")
    plt.close(figure)


def check_forecast(forecast: dict, loss: float) -> dict:
    """The forecast beside the measured loss: its relative error, and whether its interval held."""
    return forecast | {"measured": loss, "relative_error": round(forecast["loss"] / loss - 1, 4),
                       "inside": forecast["low"] <= loss <= forecast["high"]}


def record_claims(final: dict, scores: dict[int, float], checked: dict | None) -> None:
    """Record `next-token`, and `predictable` if there was a forecast."""
    one, two, five = scores[1], scores[2], scores[5]
    gpt = final["val_bits_per_byte"]                # both with all the context they can use
    verdict = ("holds" if gpt < five < two < one else
               "holds in part" if gpt < two < one else "does not hold here")
    record_claim(
        "next-token",
        measured=f"on held-out documents the GPT needs {gpt:.3f} bits per byte, counting one, two "
                 f"or five tokens (modified Kneser-Ney) {one:.3f}, {two:.3f} and {five:.3f}",
        value={"gpt": gpt, "5-gram": five, "2-gram": two, "1-gram": one},
        expected="each step from frequency to context to learned structure needs fewer bits",
        verdict=verdict, command=COMMAND,
        details={"saved_against_5gram": round(1 - gpt / five, 4)})
    if checked is None:
        return
    error = abs(checked["relative_error"])
    verdict = ("holds" if checked["inside"] and error <= 0.03 else
               "holds in part" if checked["inside"] or error <= 0.03 else "does not hold here")
    record_claim(
        "predictable",
        measured=f"forecast before training {checked['loss']:.3f} nats per token "
                 f"({checked['low']:.3f} to {checked['high']:.3f}), measured after it "
                 f"{checked['measured']:.3f}, {abs(error):.1%} off",
        value=checked["measured"], interval=(checked["low"], checked["high"]),
        expected=f"inside its own {checked['level']:.0%} interval, and at most 3 % off",
        verdict=verdict, command=COMMAND, details=checked)
