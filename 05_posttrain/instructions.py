"""Questions and answers out of the documentation: the examples that fine-tuning imitates.

    python 05_posttrain/instructions.py                  # about 10 seconds
    python 05_posttrain/instructions.py --alpaca FILE    # an Alpaca or ShareGPT file instead

Every answer is really in the text it was made from (a test holds this): we write questions only.
Whole packages are held out, so that no question about a package in training is in the test set,
and an answer that occurs on both sides leaves the training side.

Reads out/02_data/corpus.jsonl.gz; writes sft_train.jsonl and sft_val.jsonl, one
{"messages", "package", "kind", "name"} a line, shuffled once: every later stage takes its
examples from the front, and its fresh prompts from the back.
"""

import gzip
import hashlib
import json
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Iterable, Iterator

from artifacts import CommandLine, BadInput, Job, command, need, out, shown, whole
from doc_entries import Entry, entries, first_sentence, returns_sentence
from instruction_files import load_instructions
from made_up import LONGEST_ARGUMENTS, class_or_function, listed, made_up_pairs
from open_book import opened, page_entry
from option_ranges import parsed

# How often each kind of question may be asked, as a share of the whole: about the documentation,
# and about things that do not exist (made_up.py). "open" has its page in front (open_book.py).
SHARES = {"does": 0.15, "open": 0.29, "returns": 0.04, "module": 0.06, "kind": 0.055,
          "arguments": 0.055}
MADE_UP = {"open": 0.08, "arguments": 0.17, "kind": 0.08, "repeat": 0.02}
# The held-out ones, of a thousand: enough of each kind for an interval.
HELD_OUT = {"does": 0.2, "open": 0.34, "returns": 0.05, "module": 0.07, "kind": 0.15,
            "arguments": 0.15}


def argument_names(arguments: str) -> list[str]:
    """The names in a signature: "self, a, axis=-1, *args, **kw" -> ["a", "axis", "args", "kw"].

    Defaults and annotations are dropped, brackets inside them do not split; `self`, `cls`, bare
    `*` and `/` are no arguments.
    """
    names, depth, word = [], 0, ""
    for c in arguments + ",":
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            name = word.split("=")[0].split(":")[0].strip().lstrip("*")
            names += [name] if name.isidentifier() and name not in ("self", "cls") else []
            word = ""
        else:
            word += c
    return names


def questions_about(entry: Entry) -> Iterator[tuple[str, str, str]]:
    """(kind, question, answer) for one documented object, each answer taken from its text.

    Private names (a leading underscore) are skipped, and so is what the text does not answer.
    """
    name = entry.full_name
    if any(part.startswith("_") for part in name.split(".")):
        return
    sentence = first_sentence(entry.doc)
    if sentence and not entry.is_class:
        yield "does", f"What does {name} do?", sentence
    elif sentence:
        yield "does", f"What is {name}?", sentence
    returned = returns_sentence(entry.doc)
    if returned:
        yield "returns", f"What does {name} return?", returned
    if not entry.owner:
        yield "module", f"Which module holds {entry.name}?", f"{entry.name} is in {entry.module}."
        what = "class" if entry.is_class else "function"
        yield "kind", f"Is {name} a class or a function?", class_or_function(name, what)
    names = argument_names(entry.arguments)
    if (1 <= len(names) <= 4 and not entry.is_class
            and len(entry.arguments) < LONGEST_ARGUMENTS):
        yield ("arguments", f"List the arguments of {entry.name}({entry.arguments}).",
               listed(names))


def read_corpus(path: Path) -> Iterator[dict]:
    """The records of the corpus; BadInput names the file if it is no gzip of JSON lines."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
    except (EOFError, gzip.BadGzipFile, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{shown(path)} is damaged ({error}): delete it and run "
                       "python 02_data/build_corpus.py") from None


def make_pairs(documents: Iterable[dict], at_most: int = 3) -> list[dict]:
    """All question-answer pairs of the corpus, each with package, kind, name and split.

    A question that comes up twice is asked once; an answer is used for at most `at_most`
    questions of a package, or the stock phrases of large packages would be most of the data.
    """
    asked, used, pairs = set(), Counter(), []
    for document in documents:
        for entry in entries(document):
            for kind, question, answer in questions_about(entry):
                used[entry.package, answer] += 1
                if question in asked or used[entry.package, answer] > at_most:
                    continue
                asked.add(question)
                pairs.append({"messages": [{"role": "user", "content": question},
                                           {"role": "assistant", "content": answer}],
                              "package": entry.package, "kind": kind, "name": entry.full_name,
                              "split": document["split"],
                              "page": page_entry(entry) if kind == "does" else None})
    return pairs


def hold_out_packages(pairs: list[dict], share: float = 0.04, least: int = 300) -> set[str]:
    """The packages whose questions are for testing only.

    First those that chapter 2 held out whole, so that the base model never read them; then, if
    they give too few questions, whole packages in the order of the hash of their name.
    """
    splits, sizes = defaultdict(set), Counter()
    for pair in pairs:
        splits[pair["package"]].add(pair["split"])
        sizes[pair["package"]] += 1
    held_out = {package for package, seen in splits.items() if seen == {"val"}}
    wanted = max(share * len(pairs), min(least, len(pairs) // 10))
    # One huge package must not swallow the training side.
    rest = sorted((p for p in sizes if p not in held_out and sizes[p] < len(pairs) / 4),
                  key=lambda p: hashlib.sha256(p.encode()).digest())
    while rest and sum(sizes[p] for p in held_out) < wanted:
        held_out.add(rest.pop(0))
    return held_out


def split_by_package(pairs: list[dict], held_out: set[str]) -> tuple[list[dict], list[dict], int]:
    """(train, val, number of twins dropped). val is every pair of a held-out package; a training
    pair whose answer of four words or more occurs in val word for word is a twin, and goes."""
    val = [pair for pair in pairs if pair["package"] in held_out]
    answers = {pair["messages"][-1]["content"].lower() for pair in val}
    train = [pair for pair in pairs if pair["package"] not in held_out]
    kept = [pair for pair in train if len(pair["messages"][-1]["content"].split()) < 4
            or pair["messages"][-1]["content"].lower() not in answers]
    return kept, val, len(train) - len(kept)


def open_half(pairs: list[dict], seed: int) -> list[dict]:
    """Of the questions "What does X do?", which are asked with the page in front and which without:
    of three whose entry fits a page two are opened, by the hash of their name. Nothing is asked
    both ways, or the closed half would be told.
    """
    opens = [p for p in pairs if p.get("page")
             and hashlib.sha256(f"{seed} {p['name']}".encode()).digest()[0] < 170]
    names = {p["name"] for p in opens}
    rest = [p for p in pairs if p["kind"] != "does" or p["name"] not in names]
    return rest + opened(opens, random.Random(seed))


def mix_kinds(pairs: list[dict], seed: int, limit: int,
              shares: dict[str, float] = SHARES) -> list[dict]:
    """At most `limit` pairs, shuffled, the kinds in the proportions of `shares` where there are
    enough of each."""
    shuffled = sorted(pairs, key=lambda p: p["messages"][0]["content"])
    random.Random(seed).shuffle(shuffled)
    by_kind = defaultdict(list)
    for pair in shuffled:
        by_kind[pair["kind"]].append(pair)
    size = min(limit, len(by_kind["does"]) / shares["does"] if by_kind["does"] else limit)
    mixed = [pair for kind, share in shares.items() for pair in by_kind[kind][:round(share * size)]]
    random.Random(seed + 1).shuffle(mixed)
    return mixed


def write_pairs(path: Path, pairs: list[dict]) -> None:
    """One JSON object a line, whole or not at all."""
    with whole(path) as file:
        for pair in pairs:
            file.write(json.dumps({k: v for k, v in pair.items() if k not in ("split", "page")},
                                  ensure_ascii=False) + "\n")


def from_file(path: Path) -> list[dict]:
    """The conversations of an Alpaca, ShareGPT or messages file as pairs, a tenth as "val"."""
    conversations, skipped = load_instructions(path)
    for reason, (count, first) in sorted(skipped.items()):
        print(f"skipped {count} records: {reason} (the first is record {first})")
    return [{"messages": messages, "package": f"part{i % 10}", "kind": "does", "name": str(i),
             "split": "val" if i % 10 == 0 else "train"}
            for i, messages in enumerate(conversations)]


def main() -> None:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--corpus", type=Path, default=out("02_data", "corpus.jsonl.gz"))
    add("--alpaca", type=Path, help="an Alpaca, ShareGPT or messages file to use instead")
    add("--train", type=Path, default=out("05_posttrain", "sft_train.jsonl"))
    add("--val", type=Path, default=out("05_posttrain", "sft_val.jsonl"))
    add("--limit", type=int, default=25_000, help="most training pairs to keep")
    add("--seed", type=int, default=0)
    add("--quick", action="store_true", help="keep 4,000 pairs")
    add("--fresh", action="store_true", help="make again even if up to date")
    args = parsed(parser)
    inputs = [args.alpaca or args.corpus]
    job = Job(__file__, vars(args), reads=inputs, writes=[args.train, args.val])
    if job.up_to_date():
        return
    if args.alpaca:
        pairs = from_file(args.alpaca)
    else:
        pairs = make_pairs(read_corpus(need(args.corpus, "02_data/build_corpus.py")))
    if not pairs:
        raise BadInput(f"{shown(inputs[0])} holds no documented object to ask about")
    held_out = hold_out_packages(pairs)
    train, val, twins = split_by_package(pairs, held_out)
    limit = 4_000 if args.quick else args.limit
    if args.alpaca:
        train, val = (mix_kinds(part, args.seed, most) for part, most in ((train, limit),
                                                                          (val, 1_000)))
    else:
        # The held-out questions are asked both ways: that is the comparison.
        val = mix_kinds(val + opened([p for p in val if p["kind"] == "does"],
                                     random.Random(args.seed)), args.seed, 1_000, HELD_OUT)
        real = mix_kinds(open_half(train, args.seed), args.seed, limit)
        counts = {kind: round(share / sum(SHARES.values()) * len(real))
                  for kind, share in MADE_UP.items()}
        train = real + made_up_pairs(counts, args.seed, real)
        random.Random(args.seed + 2).shuffle(train)
    write_pairs(args.train, train)
    write_pairs(args.val, val)
    kinds = Counter(pair["kind"] for pair in train)
    print(f"{len(pairs):,} pairs found; {len(train):,} for training, {len(val):,} held out "
          f"({len(held_out)} whole packages), {twins:,} twins dropped")
    print("kinds: " + ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common()))
    for pair in train[:4]:
        print(f"  {pair['messages'][0]['content']}\n    {pair['messages'][-1]['content']}")
    print(f"wrote {shown(args.train)} and {shown(args.val)}")
    job.done()


if __name__ == "__main__":
    command(main)
