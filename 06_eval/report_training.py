"""The report's first four sections: tokens, data, scaling, pretraining.

Each function takes the folder out/ and returns HTML. They read only files, and say so where a file
is missing; a damaged one is caught by `report.section`, which shows the reason in the section.
"""

import csv
import json
import math
from pathlib import Path
from typing import Any, Sequence

from page_parts import (answer_cards, bars, escape, figure, missing, number, picture, short,
                        table)
from power_laws import ParametricFit, optimal_allocation, predict
from svg_figures import Series, line_chart

SAMPLE = ("def argsort(a, axis=-1, kind=None):\n    \"\"\"Returns the indices that would sort an "
          "array.\"\"\"\nIn 2026, 1234567 tokens aren't naïve words: 你好!")
SAMPLE_WORDS = ("indices", "naïve", "1234567", "你好")
CAPTIONS = {
    "compression": "Bytes per token by size of the vocabulary, on the documentation of five "
                   "packages: each doubling buys less.",
    "filters": "A counting model trained on equal amounts of each step's output, and at last on "
               "all that was extracted, judged on held-out clean text; the dots are seeds.",
    "mix": "Left: mixtures that the mixing law had not seen, predicted and measured. Right: four "
           "mixtures and the mean loss over the domains.",
    "isoflop": "Runs of equal compute: for each budget one size of model is best.",
    "parametric": "The fitted law L(N, D), drawn through the runs that it was fitted on.",
    "rates": "Loss by learning rate for four widths, and the best rate that the three smaller ones "
             "predict for the largest.",
    "rivals": "Left: a transformer and an LSTM by size. Right: how much worse the LSTM is, by "
              "place in the text.",
    "ppo": "PPO while it trained: its reward and what it costs, the proxy beside the gold rule.",
    "frontier": "Quality under the gold rule against the distance from the SFT model (KL)."}


def read(path: Path) -> Any:
    """The JSON in `path`, or None if the file is missing."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def read_records(path: Path) -> list[dict]:
    """The records of a jsonl file, none if it is missing; a half-written last line is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def pictures(folder: Path, names: Sequence[str] | None = None) -> str:
    """The PNG and SVG figures of one chapter: those named, in order, or all of them."""
    known = list(CAPTIONS)
    found = sorted([*folder.glob("*.png"), *folder.glob("*.svg")],
                   key=lambda p: (known.index(p.stem) if p.stem in known else 99, p.stem))
    if names is not None:
        found = [p for name in names for p in found if p.stem == name]
    return "".join(picture(p, CAPTIONS.get(p.stem, p.stem.replace("_", " "))) for p in found)


def folded(title: str, content: str) -> str:
    """Content behind a line that opens it; nothing if there is none."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>" if content else ""


def tokens(out: Path) -> str:
    """Coloured tokens of a sample text, and how the vocabulary's size pays."""
    path = out / "01_tokenizer" / "tokenizer.json"
    if not path.is_file():
        return missing("The tokenizer", "01_tokenizer/train_tokenizer.py")
    from bpe import Tokenizer
    tokenizer = Tokenizer.load(path)
    ids, spans = list(tokenizer.encode(SAMPLE)), []
    for n, i in enumerate(ids):
        try:
            piece = escape(tokenizer.vocab[i].decode())
        except UnicodeDecodeError:      # a character cut in two: its bytes, in hexadecimal
            piece = f"<small>{tokenizer.vocab[i].hex(' ')}</small>"
        spans.append(f'<span class="t{n % 5}" title="token {i}">{piece}</span>')
    size = len(SAMPLE.encode())
    words = [(f'<span class="word">{escape(w)}</span>', len(w.encode()),
              len(list(tokenizer.encode(" " + w)))) for w in SAMPLE_WORDS]
    return (f'<div class="tokens">{"".join(spans)}</div>'
            f"<p>The model never sees letters. This sample of {size} bytes is {len(ids)} tokens, "
            f"{size / len(ids):.1f} bytes each, out of a vocabulary of "
            f"{tokenizer.vocab_size:,} that byte-pair encoding found in documentation. What it met "
            "often became one piece; what it hardly met falls to single bytes, shown in "
            "hexadecimal:</p>"
            + table(("word", "bytes", "tokens, with the space before it"), words, raw=True)
            + pictures(out / "01_tokenizer", ["compression"]))


def data(out: Path) -> str:
    """The funnel from crawled pages to training text, with samples of what was thrown away."""
    funnel = read(out / "02_data" / "funnel.json")
    if not funnel:
        return missing("The data funnel", "02_data/build_corpus.py")
    steps = funnel["steps"]
    first, last = steps[0], steps[-1]
    # Until the text is taken out of the pages bytes are HTML: another scale, so another picture.
    start = next((i for i, step in enumerate(steps) if step["name"] == "extract"), 0)
    text, rows, before = steps[start], [], None
    for step in steps[start:]:
        same = before is not None and (step["bytes"], step["pages"]) == before
        rows.append((step["name"], step["bytes"], f"{number(step['pages'])} pages · "
                     f"{step['bytes'] / 1e6:,.1f} MB", same))
        before = step["bytes"], step["pages"]
    reasons: dict[str, int] = {}
    for step in steps:
        for reason, count in (step.get("reasons") or {}).items():
            reasons[reason] = reasons.get(reason, 0) + count
    common = sorted(reasons.items(), key=lambda item: -item[1])[:8]
    tokens = f": {last['tokens'] / 1e6:.2f} million tokens" if last.get("tokens") else ""
    parts = [f"<p>{number(first['pages'])} pages went in, {first['bytes'] / 1e6:,.1f} MB of HTML. "
             f"They hold {text['bytes'] / 1e6:,.1f} MB of text; {number(last['pages'])} pages with "
             f"{last['bytes'] / 1e6:,.1f} MB are left after the filters{tokens}. Of 100 bytes that "
             f"were crawled {100 * last['bytes'] / first['bytes']:.0f} are trained on, and of 100 "
             f"bytes of text {100 * last['bytes'] / text['bytes']:.0f}. Each bar is the text that "
             "remains after a step; pale bars changed nothing.</p>", bars(rows),
             pictures(out / "02_data", ["filters"])]
    if common:
        parts.append(folded("The commonest reasons for a rejection", table(
            ("reason", "pages"), [(escape(reason), count) for reason, count in common], raw=True)))
    samples = []
    for path in sorted((out / "02_data" / "rejects").glob("*.jsonl")):
        for record in read_records(path)[:1]:
            samples.append(f"<p><b>{escape(path.stem.replace('_', ' '))}</b>: "
                           f"{escape(record.get('reason', ''))} <span class=soft>"
                           f"{escape(record.get('url', ''))}</span></p>"
                           f"<pre>{escape(str(record.get('text', ''))[:320])}</pre>")
    parts.append(folded("One page that each step threw away", "".join(samples)))
    parts.append(folded("How the domains were mixed", pictures(out / "02_data", ["mix"])))
    return "".join(parts)


def held_out_course(log: list[dict]) -> list[tuple[float, float]]:
    """(training tokens, held-out loss) of a training log, whose held-out rows know their step."""
    tokens = {row["step"]: row["tokens"] for row in log if "tokens" in row}
    each = max((seen / step for step, seen in tokens.items() if step), default=1)
    return [(tokens.get(row["step"], row["step"] * each), row["val_loss"]) for row in log
            if "val_loss" in row]


def runs_by_family(path: Path) -> dict[str, list[dict[str, float]]]:
    """The sweep's runs by model family, numbers parsed; rows without a finite loss left out."""
    families: dict[str, list[dict[str, float]]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = {}
            for key, text in row.items():
                try:
                    values[key] = float(text)
                except (TypeError, ValueError):
                    continue
            if math.isfinite(values.get("loss", math.nan)) and values.get("flops", 0) > 0:
                families.setdefault(row.get("family") or "gpt", []).append(values)
    return families


def fitted_curve(out: Path, low: float, high: float) -> list[tuple[float, float]]:
    """(FLOPs, loss) of the best model for each budget under the fitted law; none: empty."""
    laws = read(out / "03_scaling" / "laws.json")
    if not laws:
        return []
    fit = ParametricFit(**laws["parametric"])
    budgets = [low * (high / low) ** (i / 40) for i in range(41)]
    return [(C, float(predict(fit, *optimal_allocation(fit, C)))) for C in budgets]


def scaling_figure(out: Path, plan: dict | None, result: dict | None) -> str:
    """The sweep's runs, the law fitted to them, and the forecast beside what was reached."""
    families = runs_by_family(out / "03_scaling" / "runs.csv")
    series = [Series({"gpt": "small models of the sweep", "lstm": "LSTM",
                      "repeat": "half its text, read twice"}.get(name, name),
                     sorted((r["flops"], r["loss"]) for r in rows), dots=True)
              for name, rows in sorted(families.items())]
    flops = [x for s in series for x, _ in s.points]
    marks, caption = [], "Every dot is a small model that the sweep trained."
    if plan and plan.get("forecast") and plan.get("flops"):
        f, at = plan["forecast"], plan["flops"]
        curve = fitted_curve(out, min(flops, default=at / 100), at)
        series.append(Series("fitted law, the best model for each budget", curve, dashed=True))
        marks = [(at, f["loss"], f["low"], f["high"], f"forecast {f['loss']:.2f}")]
        caption += (f" The law fitted to them was extrapolated {at / max(flops, default=at):.0f} "
                    f"times in compute; the forecast with its {f.get('level', 0.9):.0%} interval "
                    "was written down before the main run began.")
        if result:
            off = math.log(result["val_loss"] / f["loss"])
            marks.append((at, result["val_loss"], result["val_loss"], result["val_loss"],
                          f"reached {result['val_loss']:.2f}"))
            caption += (f" The run reached {result['val_loss']:.3f}, {abs(off):.1%} "
                        f"{'above' if off > 0 else 'below'} the forecast and "
                        + ("inside" if f["low"] <= result["val_loss"] <= f["high"] else "outside")
                        + " its interval.")
    return figure(line_chart(series, "training FLOPs", "held-out loss (nats per token)", log_x=True,
                             marks=marks), caption)


def scaling(out: Path) -> str:
    """The sweep's losses over compute, the plan, and the forecast beside the measured final run."""
    plan, result = read(out / "03_scaling" / "plan.json"), read(
        out / "04_model_pretrain" / "result.json")
    parts = [scaling_figure(out, plan, result) if (out / "03_scaling" / "runs.csv").is_file()
             else missing("The scaling sweep", "03_scaling/sweep.py")]
    if plan:
        model, f = plan.get("model", {}), plan.get("forecast")
        rows = [("layers × width", f"{model.get('layers', '–')} × {model.get('width', '–')}"),
                ("parameters, embeddings included", plan.get("params")),
                ("tokens to train on", plan.get("tokens")),
                ("unique tokens", plan.get("unique_tokens")), ("steps", plan.get("steps")),
                ("peak learning rate (Muon)", f"{plan.get('learning_rate', math.nan):g}"),
                ("training FLOPs", plan.get("flops")),
                ("minutes allowed", f"{plan.get('minutes') or math.nan:g}"),
                ("forecast loss", f and f"{f['loss']:.3f} ({f['low']:.3f} to {f['high']:.3f})"),
                ("measured loss", result and f"{result['val_loss']:.3f}")]
        parts.append("<h3>The plan that was trained</h3>"
                     + table(("", ""), [row for row in rows if row[1] not in (None, "nan")]))
    else:
        parts.append(missing("The plan", "03_scaling/plan.py"))
    own = pictures(out / "03_scaling", ["isoflop", "parametric", "rates", "rivals"])
    return "".join(parts) + folded("Size against data, learning rates, and the LSTM", own)


def pretraining(out: Path) -> str:
    """The loss curve with the forecast and the n-gram rival, and samples as the model grew up."""
    folder = out / "04_model_pretrain"
    log, result = read_records(folder / "log.jsonl"), read(folder / "result.json") or {}
    if not log:
        return missing("The loss curve", "04_model_pretrain/pretrain.py")
    train = [(row.get("tokens", row["step"]), row["loss"]) for row in log if "loss" in row]
    val = held_out_course(log)
    series = [Series("training batch", train[::max(1, len(train) // 400)]),
              Series("held-out text", val)]
    ngram, bits = (result.get("ngram") or {}).get("bits_per_byte"), result.get("val_bits_per_byte")
    if ngram and bits and train:
        # Nats per token and bits per byte of one text differ by a constant factor.
        rival = ngram * result["val_loss"] / bits
        series.append(Series("smoothed 5-gram", [(train[0][0], rival), (train[-1][0], rival)],
                             dashed=True))
    f = result.get("forecast") or (read(out / "03_scaling" / "plan.json") or {}).get("forecast")
    band = (f["low"], f["high"], "forecast of the final loss") if isinstance(f, dict) else None
    parts = [figure(line_chart(series, "training tokens", "loss (nats per token)", band=band),
                    "The main run: the loss on each training batch and on held-out text, which "
                    "comes from documents and packages that it never saw."
                    + (" The band is where chapter 3 said that it would end." if band else "")
                    + (" The dashed line is what counting five tokens back reaches on the same "
                       "tokens." if len(series) > 2 else ""))]
    rows = [("held-out loss (nats per token)", result.get("val_loss")), ("bits per byte", bits),
            ("smoothed 5-gram on the same tokens, bits per byte", ngram),
            ("parameters", result.get("params")), ("tokens seen", result.get("tokens"))]
    if result:
        parts.append(table(("", ""), [row for row in rows if row[1] is not None]))
    samples = read_records(folder / "samples.jsonl")
    if samples:
        prompts = [s.get("prompt") or "" for s in samples]
        prompt = next((p for p in prompts if "(" in p), prompts[-1])
        grown = [s for s in samples if (s.get("prompt") or "") == prompt]
        few = sorted({round(i * (len(grown) - 1) / 3) for i in range(4)})
        parts.append("<h3>The same prompt as the model grew up</h3>" + answer_cards(
            [(f"{grown[i].get('fraction', 0):.0%} of training",
              short(f"{prompt}{grown[i].get('text', '')}")) for i in few]))
    return "".join(parts)
