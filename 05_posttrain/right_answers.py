"""How many answers are right? Every kind of question, about packages that no stage was trained on.

    python 05_posttrain/right_answers.py        # about 1 minute; --quick half a minute

Temperature 0: the likeliest answer, once. Right is right word for word, and ended. Open and closed
are the same questions, "What does X do?", with and without the page in front: what no amount of
fine-tuning can teach about a package that was never read, the context can. Arguments and names
stand in the question itself. Base models get the bare text, and one line of what follows counts.

Reads sft_val.jsonl and the checkpoints that exist; writes answers.json: shares with 95 % intervals,
token F1, and examples, right beside wrong; the report opens with it.
"""

from collections import defaultdict
from pathlib import Path

import torch

from artifacts import BadInput, CommandLine, Job, command, out, shown, write_json
from batch_generation import generate_batch
from chat_template import DOCUMENT_END, plain_ids, special_id
from gold_judge import wilson
from open_book import sentence_of, token_f1
from option_ranges import parsed
from rollouts import sample_answers
from side_by_side import side_by_side
from training_stage import (add_common, add_workers, open_model, open_tokenizer,
                            read_conversations, result)

KINDS = {"arguments": "List the arguments of f(a, b=1).", "kind": "Is X a class or a function?",
         "open": "What does X do? (open book: its page is in front)",
         "does": "What does X do? (closed book)", "module": "Which module holds X?",
         "returns": "What does X return?"}
STAGES = ("base", "sft", "rft", "dpo", "reinforce", "ppo", "grpo")
NEW_TOKENS = 72


def checkpoints(base: Path, folder: Path) -> dict[str, Path]:
    """{name: path} of the stages that exist, the base model first."""
    paths = {name: base if name == "base" else folder / f"{name}.pt" for name in STAGES}
    return {name: path for name, path in paths.items() if path.exists()}


def held_out_questions(records: list[dict], most: int) -> list[dict]:
    """At most `most` questions of each kind, from the front: {"kind", "question", "answer"}."""
    by_kind = defaultdict(list)
    for record in records:
        asked, *_, said = (m["content"] for m in record["messages"])
        by_kind[record["kind"]].append({"kind": record["kind"], "question": asked, "answer": said})
    return [question for kind in KINDS for question in by_kind[kind][:most]]


@torch.no_grad()
def base_answers(model, tokenizer, questions: list[str]) -> list[tuple[str, bool]]:
    """(first line, ended) of what a base model goes on with behind the bare text."""
    first = special_id(tokenizer, DOCUMENT_END)
    room = model.config.sequence_length - NEW_TOKENS
    prompts = [[first, *plain_ids(tokenizer, q + "\n")[-room:]] for q in questions]
    rows = []
    for start in range(0, len(prompts), 64):
        rows += generate_batch(model, prompts[start:start + 64], NEW_TOKENS, 0.0, stop=(first,))
    lines = [tokenizer.decode([i for i in row if i != first]).strip().split("\n")[0].strip()
             for row in rows]
    return [(line, True) for line in lines]


def answered(name: str, path: Path, tokenizer_path: Path, questions: list[str]) -> list[tuple]:
    """(text, ended) for every question, at temperature 0: what one process does."""
    model, _ = open_model(path, tokenizer_path, "05_posttrain/sft.py")
    tokenizer = open_tokenizer(tokenizer_path)
    if name == "base":
        return base_answers(model, tokenizer, questions)
    answers = sample_answers(model, tokenizer, questions, seed=0, temperature=0.0,
                             max_new_tokens=NEW_TOKENS, batch=64)
    return [(a.text, a.ended) for a in answers]


def shares(questions: list[dict], answers: list[tuple[str, bool]]) -> dict[str, dict]:
    """{kind: {"exact", "interval", "f1", "questions"}}: the share that is right word for word and
    ended, its 95 % interval (Wilson), and the mean token F1."""
    table = {}
    for kind in dict.fromkeys(q["kind"] for q in questions):
        part = [(q, a) for q, a in zip(questions, answers) if q["kind"] == kind]
        exact = sum(text == q["answer"] and ended for q, (text, ended) in part) / len(part)
        table[kind] = {"exact": exact, "interval": wilson(exact, len(part)),
                       "f1": sum(token_f1(sentence_of(t), sentence_of(q["answer"]))
                                 for q, (t, _) in part) / len(part),
                       "questions": len(part)}
    return table


def examples(questions: list[dict], answers: dict[str, list], each: int = 2) -> list[dict]:
    """Of every kind the first `each` questions that the SFT model answers rightly and the first
    `each` that it does not, with everybody's answers."""
    judge = "sft" if "sft" in answers else next(iter(answers))
    kept = []
    for kind in KINDS:
        for right in (True, False):
            found = [i for i, q in enumerate(questions) if q["kind"] == kind
                     and (answers[judge][i][0] == q["answer"]) == right]
            kept += [questions[i] | {"right": right, "answers": {
                name: said[i][0] for name, said in answers.items()}} for i in found[:each]]
    return kept


def print_table(table: dict[str, dict[str, dict]], kinds: list[str]) -> None:
    """Exact shares, a row per kind, a column per model; below, the F1 of open and closed."""
    print(f"{'exactly right':52}" + "".join(f"{name:>10}" for name in table))
    for kind in kinds:
        print(f"{KINDS[kind]:52}" + "".join(f"{row[kind]['exact']:10.2f}"
                                            for row in table.values()))
    for kind in (k for k in ("open", "does") if k in kinds):
        print(f"{'token F1, ' + ('open' if kind == 'open' else 'closed') + ' book':52}"
              + "".join(f"{row[kind]['f1']:10.2f}" for row in table.values()))


def main() -> None:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--base", type=Path, default=out("04_model_pretrain", "base.pt"))
    add("--folder", type=Path, default=result(""), help="where this chapter's checkpoints lie")
    add("--out", type=Path, default=result("answers.json"))
    add("--questions", type=int, default=150, help="most questions of a kind")
    add_common(parser)
    add_workers(parser)
    args = parsed(parser)
    if args.quick:
        args.questions, args.workers = min(args.questions, 12), 1
    torch.set_num_threads(args.threads)
    paths, asked_of = checkpoints(args.base, args.folder), args.folder / "sft_val.jsonl"
    job = Job(__file__, vars(args), reads=[args.tokenizer, asked_of, *paths.values()],
              writes=[args.out])
    if job.up_to_date():
        return
    questions = held_out_questions(read_conversations(asked_of, "05_posttrain/instructions.py"),
                                   args.questions)
    if not questions or not paths:
        raise BadInput(f"{shown(asked_of)} asks nothing of a known kind, or there is no checkpoint:"
                       " run python 05_posttrain/instructions.py and sft.py")
    texts = [q["question"] for q in questions]
    answers = dict(zip(paths, side_by_side(answered, [
        (name, path, args.tokenizer, texts) for name, path in paths.items()], args.workers,
        "answering")))
    table = {name: shares(questions, said) for name, said in answers.items()}
    kinds = [kind for kind in KINDS if kind in next(iter(table.values()))]
    print_table(table, kinds)
    write_json(args.out, {"kinds": {kind: KINDS[kind] for kind in kinds}, "models": table,
                          "examples": examples(questions, answers)})
    print(f"wrote {shown(args.out)}")
    job.done()


if __name__ == "__main__":
    command(main)
