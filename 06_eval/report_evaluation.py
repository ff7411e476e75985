"""The report's sixth section: perplexity, formats, the grid, the arena and the judges."""

import math
from pathlib import Path

from format_study import PUBLISHED, PUBLISHED_PROGRAMS
from page_parts import escape, figure, heat, missing, number, table
from report_training import folded, held_out_course, read, read_records
from svg_figures import Series, interval_chart, line_chart

STYLE_NAMES = {"original": "original 2020", "helm": "HELM", "harness_2023": "harness 2023",
               "harness": "harness today", "cloze": "cloze (options hidden)",
               "letter_after": "letter after option"}
SCORER_NAMES = {"letter": "letter", "sum": "text, sum", "per_token": "text / token",
                "per_byte": "text / byte", "pmi": "text, PMI"}
# Test perplexity per WORD (dictionary of that benchmark), as the papers print it.
HISTORY = [("WikiText-2", 2017, 65.8, "AWD-LSTM, Merity et al."),
           ("WikiText-2", 2019, 18.3, "GPT-2 1.5B, zero-shot, Radford et al."),
           ("WikiText-2", 2023, 8.8, "Llama 2 7B, by the evaluation harness (its issue 806)"),
           ("Penn Treebank", 2014, 78.4, "large LSTM, Zaremba et al."),
           ("Penn Treebank", 2017, 57.3, "AWD-LSTM, Merity et al."),
           ("Penn Treebank", 2019, 35.8, "GPT-2 1.5B, zero-shot, Radford et al."),
           ("Penn Treebank", 2020, 20.5, "GPT-3 175B, zero-shot, Brown et al."),
           ("WikiText-103", 2016, 48.7, "LSTM, Grave et al."),
           ("WikiText-103", 2018, 18.7, "adaptive inputs, Baevski and Auli"),
           ("WikiText-103", 2019, 10.8, "Megatron-LM 8.3B, Shoeybi et al.")]


def course_of_training(log: Path) -> str:
    """Our own perplexity on held-out text while the base model trained; nothing without a log."""
    points = [(tokens, math.exp(loss)) for tokens, loss in held_out_course(read_records(log))]
    if len(points) < 2:
        return ""
    return figure(line_chart([Series("", points)], "training tokens",
                             "perplexity of held-out text", log_y=True),
                  f"Our own descent: from {points[0][1]:,.0f} to {points[-1][1]:.0f} choices per "
                  f"token in {points[-1][0] / 1e6:.0f} million tokens of training.")


def history() -> str:
    """The published course of years, as a figure and as a table with its sources."""
    series = [Series(name, sorted((y, p) for b, y, p, _ in HISTORY if b == name))
              for name in dict.fromkeys(b for b, *_ in HISTORY)]
    rows = [(b, str(y), f"{p:.1f}", f'<td class="words">{escape(who)}</td>')
            for b, y, p, who in HISTORY]
    return (figure(line_chart(series, "year", "perplexity per word", log_y=True),
                   "The field's descent on its test texts: from about 70 in 2017 to under 10 in "
                   "2023. These count words of each benchmark's own dictionary; ours counts "
                   "tokens. The very model of 8.8 per word needs about 5.5 per token of its own "
                   "vocabulary: only bits per byte compares across tokenizers.")
            + folded("The sources of these figures",
                     table(("benchmark", "year", "perplexity", "model"), rows, raw=True)))


def perplexity_part(results: dict) -> str:
    """Perplexity as choices: what the number means here, and by place in the document."""
    name = "base" if "base" in results["perplexity"] else next(iter(results["perplexity"]))
    report = results["perplexity"][name]
    ratio = report["effective_choices"] / report["perplexity"]
    places = [((r["first"] + r["last"]) / 2, math.exp(r["loss"]))
              for r in report["by_position"] if r["tokens"] >= 10]
    rows = [(escape(d), r["tokens"], f"{r['perplexity']:.1f}", f"{r['effective_choices']:.1f}",
             f"{r['bits_per_byte']:.3f}") for d, r in report["by_domain"].items()]
    return (f"<h3>Between how many tokens does it hesitate?</h3><p>The {escape(name)} model's "
            f"perplexity is <b>{report['perplexity']:.1f}</b>: it is as surprised as if it chose "
            f"among that many equally likely tokens. Its own guesses have the entropy of "
            f"{report['effective_choices']:.1f} choices, so it "
            + ("knows how unsure it should be" if abs(ratio - 1) < 0.15 else "is surer than it "
               "should be on text like this" if ratio < 1 else "is less sure than it could be")
            + f". Measured on {number(report['tokens'])} tokens of held-out documents, each read "
            "from its beginning.</p>"
            + figure(line_chart([Series("", places)], "place in the document", "perplexity",
                                log_x=True, log_y=True),
                     "By how many tokens of the document came before; it sees at most its context. "
                     "Few documents are long: the right end is noisy.")
            + (table(("domain", "tokens", "perplexity", "effective choices", "bits/byte"), rows,
                     raw=True) if len(rows) > 1 else ""))


def format_part(results: dict) -> str:
    """The heat table of one model by the way it is asked, and the published eight models."""
    fewest = min(r["k"] for r in results["formats"])
    rows = [r for r in results["formats"] if r["k"] == fewest]
    low, high = (f(r["accuracy"] for r in rows) for f in (min, max))
    scorers = list(dict.fromkeys(r["scorer"] for r in rows))
    body = []
    for style in dict.fromkeys(r["style"] for r in rows):
        cells = {r["scorer"]: r for r in rows if r["style"] == style}
        body.append([escape(STYLE_NAMES.get(style, style)),
                     *(heat(cells[s]["accuracy"], low, high) for s in scorers),
                     f'<td class="heat">{cells["letter"]["letter_share"]:.0%}</td>'
                     if "letter" in cells else "<td>–</td>"])
    n = rows[0]["n"]
    full = table(("format", "scorer", "shots", "accuracy", "95 %", "one place", "ECE", "shuffled"),
                 [(STYLE_NAMES.get(r["style"], r["style"]), r["scorer"], r["k"],
                   f"{r['accuracy']:.3f}", f"{r['low']:.2f} to {r['high']:.2f}",
                   f"{r['letter_share']:.0%}", f"{r['ece']:.2f}",
                   "–" if r["shuffled"] is None else f"{r['shuffled']:.3f}")
                  for r in results["formats"]])
    published = table(("model", *PUBLISHED_PROGRAMS), [
        (name, *(f"{v:.3f}" for v in values)) for name, values in PUBLISHED.items()])
    gap, cells = results["formats_spread"], {(r["style"], r["scorer"]): r for r in rows}
    ours = ""
    if {("helm", "letter"), ("harness_2023", "sum")} <= set(cells):
        ours = (f" Ours: {cells['helm', 'letter']['accuracy']:.3f} by HELM's letters, "
                f"{cells['harness_2023', 'sum']['accuracy']:.3f} by the harness's texts.")
    ways = len(results["formats"])
    return (f"<h3>One model, {ways} scores</h3>"
            f"<p>The same {n} questions with gold answers ({escape(results['formats_of'])}), the "
            "same weights; only the wording of the prompt and the arithmetic of the score change. "
            f"Accuracy runs from <b>{gap['worst']['accuracy']:.3f}</b> to "
            f"<b>{gap['best']['accuracy']:.3f}</b>; guessing gives 0.250, and half the width of a "
            f"95 % interval is about {0.85 / n ** 0.5:.2f}. The extremes of {ways} noisy numbers "
            "lie apart by chance alone, so best and worst are chosen on one half of the questions "
            f"and measured on the other: there the distance is <b>{gap['spread']:.3f}</b> "
            f"({gap['low']:.3f} to {gap['high']:.3f}).</p>"
            + table(("format", *(SCORER_NAMES.get(s, s) for s in scorers), "one letter"), body,
                    raw=True)
            + f"<p>{letters_sentence(rows)}</p>" + shots_sentence(results["formats"])
            + written_part(results.get("written", []))
            + "<details><summary>All cells with intervals, calibration error and the shuffled "
            f"options</summary>{full}</details>"
            "<details><summary>The published 0.637 and 0.488, read from the code that made them"
            "</summary><p>HELM and the original program ask for the <em>letter</em>: one lets the "
            "model write it, the other compares four probabilities. The evaluation harness of "
            "January 2023 showed the same options and then compared the summed log-probability of "
            "each answer's <em>text</em>, without its "
            "letter. LLaMA-65B: 0.637 and 0.488. Weak models show the reverse order, better on "
            f"texts than on letters.{ours}</p>{published}</details>")


def letters_sentence(rows: list[dict]) -> str:
    """What the letter answers say about the model: does it know what the letters stand for?"""
    said = ("The last column is the diagnosis: the share of letter answers that fall on one and "
            "the same letter; 25 % would be even.")
    shown = [r for r in rows if r["scorer"] == "letter" and r["style"] != "cloze"]
    stuck = all(r["low"] <= 0.25 and r["letter_share"] > 0.5 for r in shown)
    if shown and stuck:
        said += (" This model has not learned what the letters stand for: it mostly says one of "
                 "them, whatever the options are. Asked for the words, it shows what it knows.")
    return said


def shots_sentence(rows: list[dict]) -> str:
    """What worked examples in the prompt changed, over all formats and scorers; or nothing."""
    by_k = {k: [r["accuracy"] for r in rows if r["k"] == k] for k in sorted({r["k"] for r in rows})}
    if len(by_k) < 2:
        return ""
    said = ", ".join(f"{sum(values) / len(values):.3f} with {k}" for k, values in by_k.items())
    return (f"<p>Worked examples in the prompt, as many as its context holds: the mean accuracy "
            f"over all formats and scorers is {said}.</p>")


def written_part(rows: list[dict]) -> str:
    """The same model asked to write its answer, which a parser then reads; or nothing."""
    if not rows:
        return ""
    example = next((repr(text) for row in rows for text in row["examples"] if text.strip()), "")
    return ("<p>Asked to <em>write</em>, a model need not say a letter at all. What it wrote was "
            "read by a parser; an answer without a clear letter counts as wrong"
            + (f" (one of them: {escape(example)})" if example else "") + ".</p>"
            + table(("format", "shots", "accuracy", "95 %", "no clear letter"),
                    [(STYLE_NAMES.get(r["style"], r["style"]), r["k"], f"{r['accuracy']:.3f}",
                      f"{r['low']:.2f} to {r['high']:.2f}", f"{r['unclear']:.0%}") for r in rows]))


def arena_part(results: dict) -> str:
    """The leaderboard with intervals, Elo beside Bradley-Terry, and people's votes if any."""
    parts = []
    for key, title, who in (("arena", "The arena", "simulated voters: chapter 5's annotator, a "
                             "stated rule seen through noise"),
                            ("human", "Your own votes", "people, on the page of serve.py")):
        board = results.get(key)
        if not board or not board["votes"]:
            continue
        rows = board["bradley_terry"]
        chart = interval_chart([(m, r["rating"], r["low"], r["high"]) for m, r in rows.items()],
                               "Bradley-Terry rating (mean 1000), with 95 % intervals")
        parts.append(f"<h3>{title}</h3>" + figure(chart, f"{board['votes']} blind votes by {who}. "
                                                  "Overlapping intervals are not an order.")
                     + table(("model", "rank", "Bradley-Terry", "length-controlled", "Elo, K = 4"),
                             [(m, r["rank"], f"{r['rating']:.0f}", f"{r['length_controlled']:.0f}",
                               f"{board['elo'][m]:.0f}") for m, r in rows.items()])
                     + "".join(f"<p>What the votes cannot say: {escape(remark)}.</p>"
                               for remark in board.get("remarks", [])))
    arena = results["arena"]
    if not arena["votes"]:
        return missing("The arena (it takes two models)", "05_posttrain/sft.py")
    ranked = list(arena["bradley_terry"])
    first, last = ranked[0], ranked[-1]
    spread = ", ".join(f"{v:.0f} points at K = {k}" for k, v in arena["order_spread"].items())
    needed = ", ".join(f"{gap} points: {n} votes" for gap, n in arena["votes_needed"].items())
    if "elo" in arena and len(arena["elo"]) > 1:
        online, fitted = ([board[ends] for ends in (first, last)] for board in (arena["elo"], {
            m: r["rating"] for m, r in arena["bradley_terry"].items()}))
        parts.append(f"<p>From {escape(first)} to {escape(last)} it is {fitted[0] - fitted[1]:.0f} "
                     f"points by Bradley-Terry and {online[0] - online[1]:.0f} by Elo: at K = 4 a "
                     "vote moves at most 4 points, and Elo has not arrived yet.</p>"
                     if online[0] - online[1] < 0.8 * (fitted[0] - fitted[1]) else "")
    parts.append(f"<p>Elo depends on the order in which the votes came: shuffling them moves the "
                 f"ratings by {spread}. Bradley-Terry sees all votes at once and does not care. "
                 f"Votes on one pair to see a gap four times out of five: {needed}.</p>"
                 "<p>Vote yourself: <code>python 06_eval/serve.py</code>.</p>")
    return "".join(parts)


def judge_part(results: dict) -> str:
    """Judges against the arena, and three attacks on each judge."""
    parts = ["<h3>Judges, and how to fool them</h3>"]
    for name, row in results["judges"].items():
        interval = row["spearman_interval"]
        text = (f" (95 %, votes and questions drawn again: {interval[0]:.2f} to {interval[1]:.2f})"
                if interval else "")
        attacked = row["attacked"]
        parts.append(
            f"<p>The <b>{escape(name)}</b> ranks the models as the arena does with a Spearman "
            f"correlation of {number(row['spearman'], 2)}{text}. Its win rates against "
            f"{escape(row['baseline'])}:</p>"
            + table(("model", "win rate", "95 %", "length-controlled", "both orders agree",
                     "characters"),
                    [(m, f"{r['win_rate']:.2f}", f"{r['low']:.2f} to {r['high']:.2f}",
                      f"{r['length_controlled']:.2f}", f"{r['consistency']:.0%}",
                      f"{r['characters']:.0f}") for m, r in row["models"].items()])
            + f"<p>Three attacks on the answers of {escape(attacked['model'])}, judged against "
            f"{escape(attacked['against'])}:</p>"
            + table(("answers", "win rate", "95 %", "length-controlled", "both orders agree",
                     "characters"),
                    [(r["attack"], f"{r['win_rate']:.2f}", f"{r['low']:.2f} to {r['high']:.2f}",
                      f"{r['length_controlled']:.2f}", f"{r['consistency']:.0%}",
                      f"{r['characters']:.0f}") for r in attacked["rows"]]))
    parts.append("<p>A judge of content would not move when an answer is padded or said twice, and "
                 "would punish one that is cut in half.</p>")
    return "".join(parts)


def suite_part(results: dict) -> str:
    """HELM's grid, accuracy with calibration and robustness, and the mean win rate."""
    grid = results["suite"]
    models = list(next(iter(grid.values())))
    values = [cell["accuracy"] for column in grid.values() for cell in column.values()]
    rows = [[escape(scenario.replace("_", " ")),
             *(heat(column[m]["accuracy"], min(values), max(values),
                    f"±{(column[m]['high'] - column[m]['low']) / 2:.2f}") for m in models)]
            for scenario, column in grid.items()]
    more = [(metric.replace("ece", "calibration"), *(f"{by[m]:.2f}" for m in models))
            for metric, by in results["mean_win_rate"].items()]
    cells = {m: [column[m] for column in grid.values()] for m in models}
    means = [(title, *(number(sum(c[key] for c in cells[m]) / len(grid), 2) for m in models))
             for key, title in (("accuracy", "accuracy"), ("ece", "calibration error"),
                                ("robustness", "robustness: right also when mistyped"),
                                ("selective", "accuracy on the surest tenth"),
                                ("questions_per_second", "questions per CPU second"))]
    return ("<h3>Many scenarios, many metrics</h3><p>Questions about documentation that no model "
            "has read, in the cloze format, scored by PMI: what does this function do (wrong "
            "options from other packages, easy, or from its own, hard), which object is described, "
            "what are its arguments, which module holds it. No single number captures a model; the "
            "lower table adds the columns up as HELM does, by how often a model beats the others "
            "of <em>this</em> pool, and would change with the pool.</p>"
            + table(("accuracy", *models), rows, raw=True)
            + table(("mean over the scenarios", *models), means)
            + table(("mean win rate", *models), more))


def evaluation(out: Path) -> str:
    """All of chapter 6's measurements."""
    results = read(out / "06_eval" / "results.json")
    if not results:
        return missing("The evaluation", "06_eval/evaluate.py")
    quick = ("<p class=missing>Measured with --quick: a handful of questions, wide intervals.</p>"
             if results.get("quick") else "")
    return (quick + perplexity_part(results)
            + course_of_training(out / "04_model_pretrain" / "log.jsonl") + history()
            + "".join(part(results) for part in (format_part, suite_part, arena_part, judge_part)))
