"""What `evaluate.py` measures, a function a table: models and data go in, plain values come out.

Perplexity of every checkpoint, answers to the same questions, an arena of simulated voters, judges
and their attacks. The voters are chapter 5's annotator: a stated rule seen through honest noise, so
that what they reward is known. Votes of people come from `serve.py` and are shown apart.
"""

import json
from pathlib import Path
from typing import Callable, Mapping, Sequence

import numpy as np

from annotator import label_pairs
from arena import bradley_terry, elo, votes_needed
from artifacts import BadInput, need, read_json, shown
from contestants import Contestant, answer_all
from gold_rule import gold_scores
from judge import attack_table, compare, length_controlled_jointly, rank_correlation, win_rate
from perplexity import evaluate_perplexity
from style_control import style_control


def read_lines(path: Path | str, made_by: str) -> list[dict]:
    """The records of a jsonl file; BadInput with file and line where one is damaged."""
    records = []
    with open(need(path, made_by), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise BadInput(f"{shown(path)}, line {number}: {error}")
    return records


def held_out_documents(folder: Path | str, vocab: Mapping[int, bytes], limit: int,
                       seed: int = 0) -> dict:
    """Held-out documents of chapter 2's shards: up to `limit` tokens, whole documents, at random.

    Returns {"documents": lists of ids, "bytes": [...], "domains": [...], "start": id of
    <|endoftext|>}. Documents of over 600 tokens are cut. `vocab` (id -> bytes) counts the bytes of
    exactly the tokens that are kept.
    """
    index = read_json(Path(folder) / "index.json", "02_data/build_corpus.py")
    ids = np.fromfile(need(Path(folder) / "val.bin", "02_data/build_corpus.py"),
                      dtype=index["dtype"])
    table = index["splits"]["val"]["documents"]
    names = index["domains"]
    chosen: dict = {"documents": [], "bytes": [], "domains": [], "start": index["eot"]}
    taken = 0
    for i in np.random.default_rng(seed).permutation(len(table["start"])):
        text = ids[table["start"][i]:table["start"][i] + table["length"][i]]
        kept = text[text != index["eot"]][:600].tolist()
        if not kept or taken >= limit:
            continue
        chosen["documents"].append(kept)
        chosen["bytes"].append(sum(len(vocab[token]) for token in kept))
        domain = table["domain"][i]
        chosen["domains"].append(names[domain] if isinstance(domain, int) else str(domain))
        taken += len(kept)
    if not chosen["documents"]:
        raise BadInput(f"{shown(folder)}/val.bin holds no documents: run python "
                       "02_data/build_corpus.py")
    return chosen


def perplexity_table(models: Mapping[str, Contestant], held_out: dict,
                     progress: Callable = lambda items, **_: items) -> dict[str, dict]:
    """{model: evaluate_perplexity's report} on the same held-out documents."""
    return {name: evaluate_perplexity(models[name].model, held_out["documents"],
                                      start=held_out["start"], byte_counts=held_out["bytes"],
                                      domains=held_out["domains"])
            for name in progress(list(models), desc="perplexity", unit=" models")}


def answer_table(models: Mapping[str, Contestant], tokenizer, questions: Sequence[str], seed: int,
                 progress: Callable = lambda items, **_: items) -> dict[str, list[dict]]:
    """{model: answers to the same questions}, each answer with its points under the gold rule."""
    table = {}
    for name in progress(list(models), desc="answers", unit=" models"):
        answers = answer_all(models[name], tokenizer, questions, seed)
        points = gold_scores(list(questions), [a["text"] for a in answers],
                             [a["ended"] for a in answers])
        table[name] = [answer | {"gold": round(p, 4)} for answer, p in zip(answers, points)]
    return table


def hold_arena(answers: Mapping[str, Sequence[dict]], seed: int) -> list[dict]:
    """Battles between all pairs of models on all questions, voted on by the annotator.

    The side of each model is random, as on the page; the voter sees no names. Equal points: a tie.
    """
    rng, battles = np.random.default_rng(seed), []
    names = sorted(answers)
    for i, one in enumerate(names):
        for other in names[i + 1:]:
            sides = rng.integers(0, 2, len(answers[one]))
            pairs = [(one, other) if side else (other, one) for side in sides]
            left = [answers[a][q] for q, (a, _) in enumerate(pairs)]
            right = [answers[b][q] for q, (_, b) in enumerate(pairs)]
            labels = label_pairs([a["question"] for a in left], [a["text"] for a in left],
                                 [b["text"] for b in right],
                                 [(a["ended"], b["ended"]) for a, b in zip(left, right)],
                                 seed=int(rng.integers(2 ** 31)))
            for (a, b), x, y, label in zip(pairs, left, right, labels):
                winner = "tie" if label is None else "a" if label["first_wins"] else "b"
                battles.append({"model_a": a, "model_b": b, "winner": winner,
                                "prompt": x["question"], "answer_a": x["text"],
                                "answer_b": y["text"]})
    # People do not vote pair by pair: mixed, as the online Elo ratings will see them.
    return [battles[i] for i in rng.permutation(len(battles))]


def board(battles: Sequence[dict], bootstrap: int = 200, seed: int = 0) -> dict:
    """Elo, Bradley-Terry with intervals, and length-controlled Bradley-Terry of the same votes.

    Also order_spread: how far Elo ratings move when the same votes come in another order.
    Without votes (there is one model only) the tables are empty.
    """
    needed = {gap: votes_needed(gap) for gap in (20, 50, 100, 200)}
    if not battles:
        return {"votes": 0, "elo": {}, "order_spread": {}, "leader_found": {},
                "bradley_terry": {}, "remarks": [], "votes_needed": needed}
    # A model that lost every battle would have no lowest rating: a wide prior (standard deviation
    # 550 points) keeps it finite, and moves others by less than a point.
    fit = bradley_terry(battles, bootstrap=bootstrap, prior=0.1, seed=seed)
    lengths = np.array([[[len(b["answer_a"]), len(b["answer_b"])]] for b in battles], dtype=float)
    styled, weight = style_control(battles, lengths)
    rng = np.random.default_rng(seed)
    shuffles = {k: [elo([battles[i] for i in rng.permutation(len(battles))], k=k)
                    for _ in range(40)] for k in (4, 16, 32)}
    leaders = {k: float(np.mean([max(r, key=r.get) == next(iter(fit)) for r in rounds]))
               for k, rounds in shuffles.items()}
    spread = {k: float(np.mean([np.std([r[m] for r in rounds]) for m in fit]))
              for k, rounds in shuffles.items()}
    return {"votes": len(battles), "elo": elo(battles), "order_spread": spread,
            "leader_found": leaders, "length_coefficient": float(weight[0]),
            "bradley_terry": {m: {"rating": fit[m], "low": fit.low[m], "high": fit.high[m],
                                  "rank": fit.rank[m], "length_controlled": styled[m]}
                              for m in fit},
            "remarks": fit.remarks, "votes_needed": needed}


def rating_draws(battles: Sequence[dict], names: Sequence[str], rounds: int = 200,
                 seed: int = 0) -> list[list[float]]:
    """Arena ratings of `names` after other votes: the battles are drawn with replacement."""
    rng, draws = np.random.default_rng(seed), []
    for _ in range(rounds if battles else 0):
        fit = bradley_terry([battles[i] for i in rng.integers(0, len(battles), len(battles))],
                            prior=0.1)
        draws.append([fit.get(name, 1000.0) for name in names])
    return draws


def judge_table(judges: Mapping[str, Callable], answers: Mapping[str, Sequence[dict]],
                battles: Sequence[dict], baseline: str) -> dict[str, dict]:
    """For each judge: every model against the baseline, both orders, and what attacks do to it.

    Also its rank correlation with the arena of these `battles`, with an interval over both: the
    questions that the judge saw and the votes are drawn with replacement.
    """
    table, names = {}, sorted(answers)
    fit = bradley_terry(battles, prior=0.1)
    arena, draws = [fit.get(name, 1000.0) for name in names], rating_draws(battles, names)
    questions = [a["question"] for a in answers[baseline]]
    texts = {name: [a["text"] or "(nothing)" for a in rows] for name, rows in answers.items()}
    for judge_name, judge in judges.items():
        compared = {name: compare(judge, questions, texts[name], texts[baseline])
                    for name in names}
        models = {}
        for name, controlled in zip(names, length_controlled_jointly(list(compared.values()))):
            verdicts = compared[name]
            rate, low, high = win_rate(verdicts.preferences)
            models[name] = {"win_rate": rate, "low": low, "high": high,
                            "length_controlled": controlled,
                            "consistency": float(verdicts.consistent.mean()),
                            "first_wins": verdicts.first_wins, "failed": verdicts.failed,
                            "characters": float(verdicts.lengths.mean())}
        # A judge that failed on some questions has columns of different length: no bootstrap.
        columns = [compared[name].preferences for name in names]
        same = len({len(column) for column in columns}) == 1
        rates = [models[name]["win_rate"] for name in names]
        rng, rhos = np.random.default_rng(0), []
        for ratings in draws if same and len(names) > 2 else []:
            rows = rng.integers(0, len(columns[0]), len(columns[0]))
            rhos.append(rank_correlation([column[rows].mean() for column in columns], ratings))
        rhos = [rho for rho in rhos if rho == rho]      # nan: that draw knew no order
        other = next((name for name in ("dpo", "ppo", "base") if name in answers), baseline)
        table[judge_name] = {
            "baseline": baseline, "models": models, "spearman": rank_correlation(rates, arena),
            "spearman_interval": np.percentile(rhos, [2.5, 97.5]).tolist() if rhos else None,
            "attacked": {"model": baseline, "against": other, "rows": attack_table(
                judge, questions, texts[baseline], texts[other])}}
    return table
