"""DocMMLU: four-choice questions with gold answers, from documentation the model never read.

    python 06_eval/doc_mmlu.py              # 10 s, reads out/02_data/corpus.jsonl.gz

writes out/06_eval/docmmlu/<scenario>/{dev,val,test}/<package>_<split>.csv, each scenario in
exactly the layout of MMLU's archive, so that any MMLU program can run it. Five scenarios:
summary_easy (what does X do? wrong options from other packages), summary_hard (from the same
package), name (which object is described?), arguments, module. Only documents of the split "val"
are used, and no answer whose line stands anywhere in the training split. The right answer is A, B,
C and D equally often, so that a constant letter scores 25 %.
Leaves out: a check by people. A distractor can be accidentally right: "Return a copy." often is.
"""

import gzip
import json
import random
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Sequence

from artifacts import BadInput, CommandLine, Job, command, need, out, shown, within, write_json
from doc_entries import Entry, entries, first_sentence
from mmlu import Question, write_questions

SCENARIOS = ("summary_easy", "summary_hard", "name", "arguments", "module")


@dataclass(frozen=True)
class Fact:
    """One documented object with the one line that says what it is."""

    entry: Entry
    summary: str


def read_corpus(path: Path | str) -> Iterator[dict]:
    """The records of a corpus.jsonl.gz, one dict a document; BadInput with the line if damaged."""
    number = 0
    try:
        with gzip.open(need(path, "02_data/build_corpus.py"), "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield json.loads(line)
    except (json.JSONDecodeError, EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise BadInput(f"{shown(path)}, line {number}: {error}; delete it and run python "
                       "02_data/build_corpus.py")


def held_out_facts(documents: Iterator[dict]) -> tuple[list[Fact], int]:
    """(facts, leaked): one fact per held-out object and summary; `leaked` counts those left out.

    A fact leaks when the first line of its text stands as a line in a training document: inherited
    and copied docstrings do, and the model may have learned them by heart.
    """
    held_out, trained_lines = [], set()
    for document in documents:
        if document["split"] == "val":
            held_out.append(document)
        else:
            trained_lines.update(hash(line.strip().lower())
                                 for line in document["text"].split("\n") if len(line) > 12)
    facts, leaked, seen = [], 0, set()
    for document in held_out:
        for entry in entries(document):
            summary = first_sentence(entry.doc)
            if not summary or summary.lower() in seen or entry.name.startswith("_"):
                continue
            seen.add(summary.lower())
            line = entry.doc.strip().split("\n")[0].strip().lower()
            if hash(line) in trained_lines:
                leaked += 1
            else:
                facts.append(Fact(entry, summary))
    return facts, leaked


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[:limit - 4].rsplit(",", 1)[0] + ", ..."


def ask(fact: Fact, scenario: str) -> tuple[str, str]:
    """(question, right option) of one fact in one scenario."""
    entry = fact.entry
    if scenario.startswith("summary"):
        call = f"{entry.full_name}({_short(entry.arguments)})"
        return f"What is {call}?" if entry.is_class else f"What does {call} do?", fact.summary
    if scenario == "name":
        return f"Which of these is described so: {fact.summary}", entry.full_name
    if scenario == "arguments":
        return f"What are the arguments of {entry.full_name}?", f"({_short(entry.arguments)})"
    return f"Which module holds {'.'.join(filter(None, (entry.owner, entry.name)))}?", entry.module


def distractors(right: str, pool: Sequence[str], rng: random.Random, tried: int = 24) -> list[str]:
    """Three wrong options out of `pool`: different from `right` and each other, of similar length.

    Of `tried` random candidates the three closest in length are taken, so that the length of an
    option does not give the answer away. Fewer than three different ones: an empty list.
    Example: right "abc", pool ["abc", "abd", "abe", "abf", "a very long one"] -> abd, abe, abf in
    some order.
    """
    # A sample without repetition, the right answer taken out: it must not stand there twice.
    different = sorted(set(pool) - {right})
    candidates = rng.sample(different, min(tried, len(different)))
    # Close in length first; the sample's random order decides between equals.
    candidates.sort(key=lambda option: abs(len(option) - len(right)))
    chosen = candidates[:3] if len(candidates) >= 3 else []
    rng.shuffle(chosen)
    return chosen


def build_scenario(facts: Sequence[Fact], scenario: str, seed: int) -> list[Question]:
    """All questions of one scenario that can be asked with three honest wrong options.

    The subject is the package. The right option stands first: see `place_answers`.
    """
    pool_of, everywhere, modules_of = defaultdict(list), [], defaultdict(set)
    for fact in facts:
        option = ask(fact, scenario)[1]
        pool_of[fact.entry.package].append(option)
        everywhere.append((fact.entry.package, option))
        modules_of[fact.entry.name].add(fact.entry.module)
    questions = []
    for fact in facts:
        entry = fact.entry
        if scenario == "arguments" and (entry.is_class or len(entry.arguments) < 7):
            continue        # a class has bases; "()" and "(self)" are the arguments of too many
        if scenario == "module" and len(modules_of[entry.name]) > 1:
            continue        # two modules would be right
        rng = random.Random(f"{seed} {scenario} {entry.full_name}")
        text, right = ask(fact, scenario)
        if scenario == "summary_easy":
            pool = [option for package, option in rng.sample(everywhere, min(400, len(everywhere)))
                    if package != entry.package]
        else:
            pool = pool_of[entry.package]
        wrong = distractors(right, pool, rng)
        if len(wrong) < 3:
            continue
        questions.append(Question(entry.package, text, (right, *wrong), 0))
    return questions


def place_answers(questions: Sequence[Question], rng: random.Random) -> list[Question]:
    """The same questions with the right option at A, B, C and D equally often (within one).

    Places come in random order, so that they cannot be predicted from the one before. The wrong
    options keep their order. Example: 4 questions -> answers like 2, 0, 3, 1.
    """
    placed = []
    for start in range(0, len(questions), 4):
        # Each four questions use each place once: a constant guess scores 25 %, not 27 %.
        for q, place in zip(questions[start:start + 4], rng.sample(range(4), 4)):
            # The wrong ones keep their order; the right one is put in between them.
            wrong = [option for i, option in enumerate(q.options) if i != q.answer]
            options = (*wrong[:place], q.options[q.answer], *wrong[place:])
            placed.append(Question(q.subject, q.question, options, place))
    return placed


def split_questions(questions: Sequence[Question], limit: int, seed: int, smallest: int = 12
                    ) -> dict[str, dict[str, list[Question]]]:
    """{subject: {"dev": 5, "val": a tenth, "test": the rest}}; small packages share a subject.

    Packages with under `smallest` questions become the subject "other_packages". At most `limit`
    test questions in all, spread evenly over the subjects. Too few questions for one subject:
    an empty dict.
    """
    by_subject = defaultdict(list)
    for q in questions:
        by_subject[q.subject].append(q)
    small = [s for s, group in by_subject.items() if len(group) < smallest]
    rest = [Question("other_packages", q.question, q.options, q.answer)
            for s in sorted(small) for q in by_subject.pop(s)]
    if len(rest) >= smallest:
        by_subject["other_packages"] = rest
    share, result = limit, {}
    # Smallest subjects first: what they leave unused goes to the larger ones.
    for left, subject in enumerate(sorted(by_subject, key=lambda s: (len(by_subject[s]), s))):
        group = by_subject[subject]
        random.Random(f"{seed} {subject}").shuffle(group)
        val = min(max(1, len(group) // 10), 20)
        take = min(len(group) - 5 - val, share // (len(by_subject) - left))
        share -= take
        parts = {"dev": group[:5], "val": group[5:5 + val], "test": group[5 + val:5 + val + take]}
        result[subject] = {split: place_answers(part, random.Random(f"{seed} {subject} {split}"))
                           for split, part in parts.items()}
    return dict(sorted(result.items()))


def write_archive(folder: Path, subjects: dict[str, dict[str, list[Question]]]) -> None:
    """Write MMLU's layout under `folder`, replacing what was there; no subjects, no folder."""
    shutil.rmtree(folder, ignore_errors=True)
    for subject, splits in subjects.items():
        for split, questions in splits.items():
            write_questions(folder / split / f"{subject}_{split}.csv", questions)


def build_doc_mmlu(corpus: Path | str, folder: Path | str, limit: int = 400, seed: int = 0,
                   progress: Callable = lambda items, **_: items) -> dict:
    """Build all scenarios from a corpus into `folder`; returns what was made, by scenario.

    BadInput when the held-out documentation does not give 12 questions in any scenario.
    """
    facts, leaked = held_out_facts(progress(read_corpus(corpus), desc="reading", unit=" documents"))
    summary = {"facts": len(facts), "left_out_because_trained_on": leaked, "scenarios": {}}
    found = {scenario: split_questions(build_scenario(facts, scenario, seed), limit, seed)
             for scenario in SCENARIOS}
    for scenario, subjects in found.items() if any(found.values()) else ():
        write_archive(Path(folder) / scenario, subjects)
        if not subjects:        # what an earlier corpus gave is gone as well
            continue
        summary["scenarios"][scenario] = {
            "subjects": len(subjects), **{split: sum(len(s[split]) for s in subjects.values())
                                          for split in ("dev", "val", "test")}}
    if not summary["scenarios"]:
        raise BadInput(f"{shown(corpus)} has {len(facts)} held-out documented objects, too few for "
                       "12 questions: run python 02_data/build_corpus.py on more pages")
    write_json(Path(folder) / "about.json", summary)
    return summary


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--corpus", default=out("02_data", "corpus.jsonl.gz"))
    parser.add_argument("--out", default=out("06_eval", "docmmlu"), help="where to write")
    parser.add_argument("--limit", type=within(int, low=1), default=400,
                        help="test questions a scenario")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="at most 80 questions a scenario")
    parser.add_argument("--fresh", action="store_true", help="build even if up to date")
    args = parser.parse_args()
    target = Path(args.out) / "about.json"
    job = Job(__file__, vars(args), reads=[args.corpus], writes=[target])
    if job.up_to_date():
        return
    from tqdm import tqdm
    summary = build_doc_mmlu(args.corpus, args.out, min(args.limit, 80) if args.quick else
                             args.limit, args.seed, tqdm)
    print(f"{summary['facts']} held-out facts; {summary['left_out_because_trained_on']} left out "
          "because their line stands in the training split")
    for scenario, counts in summary["scenarios"].items():
        print(f"  {scenario:13} {counts['test']:4} test questions, {counts['subjects']} subjects")
    print(f"wrote {shown(args.out)}")
    job.done(path for name in summary["scenarios"]
             for path in sorted((Path(args.out) / name).rglob("*.csv")))


if __name__ == "__main__":
    command(main)
