"""The report's fifth section: base, SFT, PPO, DPO in one table, and answers side by side."""

from pathlib import Path

from page_parts import answer_cards, escape, missing, number, short, table
from report_training import folded, pictures, read


def perplexity_and_voters(results: dict) -> str:
    """In a sentence: do perplexity and the voters agree on the base model and the leader?"""
    board, bits = results["arena"]["bradley_terry"], results["perplexity"]
    leader = next(iter(board), "base")
    if "base" not in bits or leader == "base":
        return "The same held-out text and the same questions for every model."
    rise = bits[leader]["bits_per_byte"] - bits["base"]["bits_per_byte"]
    if rise > 0:
        return (f"One table shows the article's warning. From base to {escape(leader.upper())} the "
                f"bits per byte of raw documentation <em>rise</em> by {rise:.2f}, and yet voters "
                f"prefer {escape(leader.upper())}: perplexity measures a job that an assistant no "
                "longer has.")
    return (f"Here the voters' favourite, {escape(leader)}, also predicts raw documentation better "
            "than the base model does.")


def post_training(out: Path) -> str:
    """Base, SFT, PPO and DPO in one table, answers side by side, and chapter 5's figures."""
    results = read(out / "06_eval" / "results.json")
    if not results:
        return missing("The comparison of the stages", "06_eval/evaluate.py")
    board, rows = results["arena"]["bradley_terry"], []
    judge = "reward model" if "reward model" in results["judges"] else next(iter(results["judges"]))
    judges, tokens, n = results["judges"][judge], 0, 0
    for name, report in results["perplexity"].items():
        answers, r = results["answers"][name], board.get(name, {})
        judged = judges["models"].get(name, {})
        n, tokens = len(answers), report["tokens"]
        rows.append((name, f"{report['bits_per_byte']:.3f}", f"{report['perplexity']:.1f}",
                     f"{sum(a['gold'] for a in answers) / n:+.2f}",
                     f"{r['rating']:.0f} <small>{r['low']:.0f} to {r['high']:.0f}</small>"
                     if r else "–", f"{judged['win_rate']:.2f}" if judged else "–",
                     f"{sum(a['ended'] for a in answers) / n:.0%}",
                     f"{sum(len(a['text'].split()) for a in answers) / n:.0f}"))
    parts = [f"<p>{perplexity_and_voters(results)}</p>",
             table(("model", "bits/byte", "perplexity", "gold rule", "arena (95 %)", "judge",
                    "ends", "words"), rows, raw=True),
             f"<p class=soft>Bits per byte and perplexity: {number(tokens)} tokens, a part of the "
             "held-out documents (the number in chapter 4 is of all). "
             f"Gold rule: chapter 5's stated points for form and relevance of {n} "
             "answers to held-out questions, never seen in training. Arena: "
             f"{number(results['arena']['votes'])} blind votes of simulated voters. Judge: win "
             f"rate against {escape(judges['baseline'])} by the {judge}, both orders"
             + ("; PPO was trained to please this very judge, so of PPO it is no witness"
                if judge == "reward model" and "ppo" in board else "")
             + ". Ends: answers that stop by themselves.</p>",
             "<h3>The first questions, side by side</h3>"
             "<p class=soft>Not picked: the first four held-out questions, one draw each.</p>"]
    names = list(results["answers"])
    for i, reference in list(enumerate(results.get("references", [])))[:4]:
        question = results["answers"][names[0]][i]["question"]
        parts.append(f'<p class="question">{escape(question)} <span>The documentation says: '
                     f"{escape(reference)}</span></p>" + answer_cards(
                         [(name, short(results["answers"][name][i]["text"])) for name in names]))
    return "".join(parts) + folded("PPO at work, and quality against distance",
                                   pictures(out / "05_posttrain"))
