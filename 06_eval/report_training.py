"""The report's first five sections: tokens, data, scaling, pretraining, post-training.

Each function takes the folder out/ and returns HTML. They read only files, and say so where a file
is missing; a damaged one is caught by `report.section`, which shows the reason in the section.
"""

import csv
import json
import math
from pathlib import Path
from typing import Any

from page_parts import (answer_cards, bars, escape, figure, missing, number, picture, table)
from svg_figures import Series, line_chart

SAMPLE = ("def argsort(a, axis=-1, kind=None):\n    \"\"\"Returns the indices that would sort an "
          "array.\"\"\"\nIn 2026, 1234567 tokens aren't naïve words: 你好!")


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


def pictures(folder: Path, captions: dict[str, str]) -> str:
    """The PNG and SVG figures of one chapter, those with a known caption first."""
    known = list(captions)
    found = sorted([*folder.glob("*.png"), *folder.glob("*.svg")],
                   key=lambda p: (known.index(p.stem) if p.stem in known else 99, p.stem))
    return "".join(picture(p, captions.get(p.stem, p.stem.replace("_", " "))) for p in found)


def tokens(out: Path) -> str:
    """Coloured tokens of a sample text, and chapter 1's own figures."""
    path = out / "01_tokenizer" / "tokenizer.json"
    if not path.is_file():
        return missing("The tokenizer", "01_tokenizer/train_tokenizer.py")
    from bpe import Tokenizer
    tokenizer = Tokenizer.load(path)
    ids = list(tokenizer.encode(SAMPLE))
    # A character of several bytes may be cut in two: such pieces are shown as their bytes.
    pieces = [tokenizer.vocab[i].decode("utf-8", "backslashreplace") for i in ids]
    spans = "".join(f'<span class="t{n % 5}" title="token {i}">{escape(piece)}</span>'
                    for n, (i, piece) in enumerate(zip(ids, pieces)))
    size = len(SAMPLE.encode())
    return (f'<div class="tokens">{spans}</div>'
            f"<p>The model never sees letters. This sample of {size} bytes is {len(ids)} tokens, "
            f"{size / len(ids):.1f} bytes each, out of a vocabulary of "
            f"{tokenizer.vocab_size:,} that byte-pair encoding found in documentation. Common "
            "words became one piece; the Chinese greeting, which it hardly ever met, fell to "
            "bytes.</p>"
            + pictures(out / "01_tokenizer", {}))


def data(out: Path) -> str:
    """The funnel from crawled pages to training text, with samples of what was thrown away."""
    funnel = read(out / "02_data" / "funnel.json")
    if not funnel:
        return missing("The data funnel", "02_data/build_corpus.py")
    steps = funnel["steps"]
    first, last = steps[0], steps[-1]
    rows, before = [], None
    for step in steps:
        same = before is not None and step["bytes"] == before
        text = f"{number(step['pages'])} pages · {step['bytes'] / 1e6:,.1f} MB"
        rows.append((step["name"], step["bytes"], text, same))
        before = step["bytes"]
    reasons: dict[str, int] = {}
    for step in steps:
        for reason, count in (step.get("reasons") or {}).items():
            reasons[reason] = reasons.get(reason, 0) + count
    common = sorted(reasons.items(), key=lambda item: -item[1])[:8]
    token_text = f", {last['tokens'] / 1e6:.2f} million tokens" if last.get("tokens") else ""
    parts = [f"<p>{number(first['pages'])} pages went in and {number(last['pages'])} came out; of "
             f"{first['bytes'] / 1e6:,.1f} MB of text {last['bytes'] / 1e6:,.1f} MB are left"
             f"{token_text}. Each bar is what remains after a step; pale bars changed nothing.</p>",
             bars(rows)]
    if common:
        parts.append("<h3>Why pages were rejected</h3>" + table(
            ("reason", "pages"), [(escape(reason), count) for reason, count in common], raw=True))
    samples = []
    for path in sorted((out / "02_data" / "rejects").glob("*.jsonl")):
        for record in read_records(path)[:1]:
            samples.append(f"<p><b>{escape(path.stem.replace('_', ' '))}</b>: "
                           f"{escape(record.get('reason', ''))} <span class=soft>"
                           f"{escape(record.get('url', ''))}</span></p>"
                           f"<pre>{escape(str(record.get('text', ''))[:320])}</pre>")
    if samples:
        parts.append("<details><summary>One page that each step threw away</summary>"
                     + "".join(samples) + "</details>")
    return "".join(parts)


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


def scaling(out: Path) -> str:
    """The sweep's losses over compute, the plan, and the forecast beside the measured final run."""
    runs = out / "03_scaling" / "runs.csv"
    plan, result = read(out / "03_scaling" / "plan.json"), read(
        out / "04_model_pretrain" / "result.json")
    parts = []
    if runs.is_file():
        families = runs_by_family(runs)
        series = [Series({"gpt": "transformer", "lstm": "LSTM"}.get(name, name),
                         sorted((r["flops"], r["loss"]) for r in rows), dots=True)
                  for name, rows in sorted(families.items())]
        marks, band = [], None
        if plan and plan.get("forecast"):
            f = plan["forecast"]
            band = (f["low"], f["high"], f"forecast {f['loss']:.3f}")
            if result and plan.get("flops"):
                marks = [(plan["flops"], result["val_loss"], f["low"], f["high"],
                          f"measured {result['val_loss']:.3f}")]
        parts.append(figure(
            line_chart(series, "training FLOPs", "held-out loss (nats per token)", log_x=True,
                       band=band, marks=marks),
            "Every dot is a small model that the sweep trained. The shaded band is the forecast "
            "for the main run, written down before it began; the ring is what it reached."))
    else:
        parts.append(missing("The scaling sweep", "03_scaling/sweep.py"))
    if plan:
        model = plan.get("model", {})
        rows = [("layers × width", f"{model.get('layers', '–')} × {model.get('width', '–')}"),
                ("tokens to train on", plan.get("tokens")), ("unique tokens", plan.get(
                    "unique_tokens")), ("steps", plan.get("steps")),
                ("learning rate", plan.get("learning_rate")), ("FLOPs", f"{plan['flops']:.2e}"
                                                               if plan.get("flops") else None),
                ("minutes", plan.get("minutes"))]
        if plan.get("forecast"):
            f = plan["forecast"]
            rows.append(("forecast loss", f"{f['loss']:.3f} ({f['low']:.3f} to {f['high']:.3f}, "
                         f"{f.get('level', 0.9):.0%})"))
        if result:
            rows.append(("measured loss", f"{result['val_loss']:.3f}"))
        parts.append("<h3>The plan that was trained</h3>" + table(("", ""), rows))
    else:
        parts.append(missing("The plan", "03_scaling/plan.py"))
    own = pictures(out / "03_scaling", {})
    return "".join(parts) + (f"<details><summary>Chapter 3's own figures</summary>{own}</details>"
                             if own else "")


def pretraining(out: Path) -> str:
    """The loss curve with the forecast, bits per byte against the n-gram rival, and samples."""
    folder = out / "04_model_pretrain"
    log, result = read_records(folder / "log.jsonl"), read(folder / "result.json")
    if not log:
        return missing("The loss curve", "04_model_pretrain/pretrain.py")
    train = [(row["step"], row["loss"]) for row in log if "loss" in row]
    val = [(row["step"], row["val_loss"]) for row in log if "val_loss" in row]
    thin = train[::max(1, len(train) // 400)]
    plan = read(out / "03_scaling" / "plan.json") or {}
    f = (result or {}).get("forecast") or plan.get("forecast")
    band = (f["low"], f["high"], "forecast of the final loss") if isinstance(f, dict) else None
    parts = [figure(line_chart([Series("training batch", thin), Series("held-out text", val)],
                               "step", "loss (nats per token)", band=band),
                    "The main run: the loss on each training batch and on held-out text."
                    + (" The band is where chapter 3 said that it would end." if band else ""))]
    if result:
        ngram = (result.get("ngram") or {}).get("bits_per_byte")
        rows = [("held-out loss (nats per token)", result.get("val_loss")),
                ("bits per byte", result.get("val_bits_per_byte")),
                ("smoothed 5-gram, same tokens, bits per byte", ngram),
                ("parameters", result.get("params")), ("tokens seen", result.get("tokens"))]
        parts.append(table(("", ""), [row for row in rows if row[1] is not None]))
    samples = read_records(folder / "samples.jsonl")
    if samples:
        prompt = samples[-1].get("prompt")
        of_prompt = [s for s in samples if s.get("prompt") == prompt]
        parts.append("<h3>The same prompt as the model grew up</h3>" + answer_cards(
            [(f"{s.get('fraction', 0):.0%} of training", f"{prompt}{s.get('text', '')}"[:420])
             for s in of_prompt[-4:]]))
    return "".join(parts)


def perplexity_and_voters(results: dict) -> str:
    """In a sentence: do perplexity and the voters agree on the base model and the leader?"""
    board, bits = results["arena"]["bradley_terry"], results["perplexity"]
    leader = next(iter(board), "base")
    if "base" not in bits or leader == "base":
        return "The same held-out text and the same questions for every model."
    rise = bits[leader]["bits_per_byte"] - bits["base"]["bits_per_byte"]
    if rise > 0:
        return (f"One table shows the article's warning. From base to {escape(leader)} the bits "
                f"per byte of raw documentation <em>rise</em> by {rise:.2f}, and yet voters prefer "
                f"{escape(leader)}: perplexity measures a job that an assistant no longer has.")
    return (f"Here the voters' favourite, {escape(leader)}, also predicts raw documentation better "
            "than the base model does.")


def post_training(out: Path) -> str:
    """Base, SFT, PPO and DPO in one table, answers side by side, and chapter 5's figures."""
    results = read(out / "06_eval" / "results.json")
    if not results:
        return missing("The comparison of the stages", "06_eval/evaluate.py")
    board, rows = results["arena"]["bradley_terry"], []
    judges = results["judges"].get("reward model") or next(iter(results["judges"].values()))
    for name, report in results["perplexity"].items():
        answers, r = results["answers"][name], board.get(name, {})
        judged = judges["models"].get(name, {})
        n = len(answers)
        rows.append((name, f"{report['bits_per_byte']:.3f}", f"{report['perplexity']:.1f}",
                     f"{sum(a['gold'] for a in answers) / n:+.2f}",
                     f"{r['rating']:.0f} <small>{r['low']:.0f} to {r['high']:.0f}</small>"
                     if r else "–", f"{judged['win_rate']:.2f}" if judged else "–",
                     f"{sum(a['ended'] for a in answers) / n:.0%}",
                     f"{sum(len(a['text'].split()) for a in answers) / n:.0f}"))
    parts = [f"<p>{perplexity_and_voters(results)}</p>",
             table(("model", "bits/byte", "perplexity", "gold rule", "arena (95 %)", "judge",
                    "ends", "words"), rows, raw=True),
             f"<p class=soft>Gold rule: chapter 5's stated points for form and relevance, never "
             f"seen in training. Arena: {results['arena']['votes']} simulated blind votes. Judge: "
             f"win rate against {escape(judges['baseline'])}, both orders.</p>",
             "<h3>The same questions, side by side</h3>"]
    names = list(results["answers"])
    for i, reference in list(enumerate(results.get("references", [])))[:4]:
        question = results["answers"][names[0]][i]["question"]
        parts.append(f'<p class="question">{escape(question)} <span>The documentation says: '
                     f"{escape(reference)}</span></p>" + answer_cards(
                         [(name, results["answers"][name][i]["text"][:420]) for name in names]))
    own = pictures(out / "05_posttrain", {})
    return "".join(parts) + (f"<details><summary>Chapter 5's own figures</summary>{own}</details>"
                             if own else "")
