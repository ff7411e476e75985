"""The exam of chapter 6: who sits it, what all are asked, and who judges; opened once, in full.

    exam = open_exam(args, paths)       # args: the options of evaluate.py
    exam.models, exam.questions, exam.scenarios

What can be wrong with the files is wrong here, in one line, before anything is measured. No table
is made here: `evaluate.py` lists them, `measurements.py` makes them.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from tqdm import tqdm

from artifacts import BadInput, shown
from bpe import Tokenizer
from contestants import Contestant, open_contestants
from doc_mmlu import SCENARIOS, build_doc_mmlu
from generated_answers import read_number
from judge_models import AddressJudge, LikelihoodJudge, RewardJudge
from measurements import held_out_documents, read_lines
from mmlu import Question, load_mmlu
from reward_model import load_reward_model
from suite import load_choices


@dataclass(frozen=True)
class Exam:
    """All that the tables are made from."""
    tokenizer: Tokenizer
    models: dict[str, Contestant]           # by name, base first
    held_out: dict                          # documents for perplexity
    questions: list[str]                    # asked of every model
    references: list[str]                   # their right answers
    scenarios: dict[str, list[Question]]    # of the suite
    formats_of: str                         # the scenario that is asked in thirty ways,
    formats: list[Question]                 # its questions,
    examples: dict[str, list[Question]]     # its worked examples, by subject,
    shots: list[int]                        # and how many of these a prompt shows
    numbers: list[tuple[str, float]]        # questions with a number as answer, if any were given
    reward: Path                            # the reward model, if it exists
    judge_at: tuple[str, str] | None        # address and model's name of one more judge
    bootstrap: int                          # resamples of the votes, for intervals
    seed: int

    @property
    def networks(self) -> dict[str, Any]:
        """The models without what is known about them."""
        return {name: contestant.model for name, contestant in self.models.items()}

    @property
    def base(self) -> Any:
        """Who is asked in thirty ways: the base model."""
        return self.networks.get("base", next(iter(self.networks.values())))

    @property
    def baseline(self) -> str:
        """Whose answers all others are compared with: SFT's."""
        return "sft" if "sft" in self.models else next(iter(self.models))

    def judges(self) -> dict[str, Callable]:
        """{name: judge}: how likely the baseline finds an answer, the reward model, an address."""
        judges: dict[str, Callable] = {
            "likelihood": LikelihoodJudge(self.models[self.baseline].model, self.tokenizer)}
        if self.reward.exists():
            judges["reward model"] = RewardJudge(load_reward_model(self.reward), self.tokenizer)
        if self.judge_at:
            judges[self.judge_at[0]] = AddressJudge(*self.judge_at)
        return judges


def open_exam(args: argparse.Namespace, paths: dict[str, Path]) -> Exam:
    """The exam that the options of evaluate.py ask for, of the checkpoints at `paths`."""
    tokenizer = Tokenizer.load(args.tokenizer)
    models = open_contestants(paths, args.tokenizer)
    asked = conversations(args.questions, args.asked)
    archives = {Path(args.mmlu).name: load_mmlu(args.mmlu)} if args.mmlu else doc_mmlu(args)
    formats_of, archive = next(iter(archives.items()))
    return Exam(
        tokenizer, models, held_out_documents(args.data, tokenizer.vocab, args.tokens, args.seed),
        [messages[0]["content"] for messages in asked],
        [messages[1]["content"] for messages in asked],
        scenarios_of(archives, args.scenario, args.scenario_questions),
        formats_of, spread_over(archive, args.choices),
        {subject: splits["dev"] for subject, splits in archive.items()},
        args.shots, number_questions(args.numbers)[:args.choices] if args.numbers else [],
        Path(args.reward),
        (args.judge_address, args.judge_model) if args.judge_address else None,
        40 if args.quick else 200, args.seed)


def conversations(path: Path | str, limit: int) -> list[list[dict]]:
    """Up to `limit` held-out conversations that ask what something does."""
    records = read_lines(path, "05_posttrain/instructions.py")
    asked = [r["messages"] for r in records if r.get("kind", "does") == "does"][:limit]
    if not asked:
        raise BadInput(f"{shown(path)} has no questions: run python 05_posttrain/instructions.py")
    return asked


def number_questions(path: Path | str) -> list[tuple[str, float]]:
    """(question, right number) of a jsonl file such as GSM8K's, {"question", "answer"}, the answer
    ending in "#### 42". BadInput names the record of one that has no number."""
    found = []
    for number, record in enumerate(read_lines(path, "06_eval/evaluate.py with another file"), 1):
        record = record if isinstance(record, dict) else {}
        asked, right = record.get("question"), read_number(str(record.get("answer", "")))
        if not isinstance(asked, str) or right is None:
            raise BadInput(f"{shown(path)}, record {number}: a question and an answer that ends "
                           "with a number are needed, as GSM8K has them")
        found.append((asked, right))
    return found


def doc_mmlu(args: argparse.Namespace) -> dict[str, dict]:
    """{scenario: archive} of our own benchmark, built from the corpus in MMLU's layout."""
    made = Path(args.out) / "docmmlu"
    build_doc_mmlu(Path(args.data) / "corpus.jsonl.gz", made, 80 if args.quick else 400,
                   args.seed, tqdm)
    return {name: load_mmlu(made / name) for name in SCENARIOS if (made / name).is_dir()}


def scenarios_of(archives: dict[str, dict], more: list[str], limit: int
                 ) -> dict[str, list[Question]]:
    """{scenario: up to `limit` questions} of the archives and of `more` files of choices."""
    suite = {name: spread_over(archive, limit) for name, archive in archives.items()}
    for path in more:
        questions, skipped = load_choices(path)
        if not questions:
            raise BadInput(f"{shown(path)} holds no four-choice question ({skipped} of others)")
        suite[new_name(Path(path), suite)] = questions[:limit]
    return suite


def spread_over(subjects: dict[str, dict[str, list[Question]]], limit: int) -> list[Question]:
    """Up to `limit` test questions, taken in turn from every subject."""
    rows, taken = [subjects[name]["test"] for name in sorted(subjects)], []
    for place in range(max(map(len, rows))):
        taken += [row[place] for row in rows if place < len(row)]
    return taken[:limit]


def new_name(path: Path, taken: dict) -> str:
    """The file's name without ending, as a scenario's name; with its folders as far as needed to
    differ from the names taken: arc/test.jsonl and obqa/test.jsonl are two scenarios."""
    parts = path.resolve().with_suffix("").parts
    for length in range(1, len(parts) + 1):
        if (name := "/".join(parts[-length:])) not in taken:
            return name
    raise BadInput(f"{shown(path)} is given twice as --scenario")
