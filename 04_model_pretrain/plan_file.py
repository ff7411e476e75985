"""The plan that a run follows: chapter 3's plan.json, with flags in place of its values.

    plan = make_plan(args, vocab_size, {"tokenizer_sha256": ..., "corpus_sha256": ...})

A plan decides everything that is computed, so two runs of one plan give the same bytes on a CPU.
"""

import argparse
from dataclasses import dataclass, fields, replace
from pathlib import Path

from artifacts import BadInput, read_json, shown
from gpt import GPTConfig
from model_families import PORTABLE
from training_loop import Recipe

PLAN = "03_scaling/plan.py"


@dataclass(frozen=True)
class Plan:
    """All that decides what a run computes: the fields of plan.json that matter here."""
    model: GPTConfig
    recipe: Recipe
    steps: int
    rows: int                       # sequences per batch
    seed: int = 0
    precision: str = "fp32"
    compile: bool = False
    threads: int = 0                # 0: as many as torch takes
    forecast: dict | None = None
    speed: float = 0.0              # tokens per second that the plan counts on; 0: not measured

    @property
    def tokens(self) -> int:
        """Tokens the run takes in, padding included."""
        return self.steps * self.rows * self.model.sequence_length


def make_plan(args: argparse.Namespace, vocab_size: int, hashes: dict) -> Plan:
    """The plan that the file and the flags say together.

    A plan made for another tokenizer or corpus is refused: its forecast and its token count would
    be about other data. A flag that changes what is computed takes the forecast away.
    """
    if args.tokens and not Path(args.plan).exists():
        plan = Plan(GPTConfig(vocab_size=vocab_size), Recipe(), steps=1, rows=16)
    else:
        raw = read_json(args.plan, PLAN)
        for name, digest in hashes.items():
            if raw.get(name, digest) != digest:
                raise BadInput(f"{shown(args.plan)} was made for another "
                               f"{name.removesuffix('_sha256')}: run python {PLAN}")
        try:
            plan = Plan(GPTConfig(**raw["model"]),
                        Recipe(**raw["optimizer"] | {"learning_rate": raw["learning_rate"]}),
                        raw["steps"], raw["batch_tokens"] // raw["sequence_length"], raw["seed"],
                        raw["precision"], raw["compile"], raw["threads"], raw.get("forecast"),
                        raw.get("tokens_per_second", 0.0))
        except (KeyError, TypeError, ValueError) as why:
            raise BadInput(f"{shown(args.plan)} is not a plan for this code "
                           f"({type(why).__name__}: {why}): run python {PLAN}") from why
    return with_flags(plan, args)


def with_flags(plan: Plan, args: argparse.Namespace) -> Plan:
    """`plan` with every flag that was given in place of its value."""
    for name in ("tokens", "rows", "sequence_length", "layers", "width", "heads"):
        value = getattr(args, name, None)
        if value is not None and value < 1:
            raise BadInput(f"--{name.replace('_', '-')} {value} must be at least 1")
    def given(cls) -> dict:
        names = {f.name for f in fields(cls)} & vars(args).keys()
        return {n: vars(args)[n] for n in names if vars(args)[n] is not None}
    shape = PORTABLE.get(getattr(args, "shape", None), {})
    try:
        changed = replace(plan, model=replace(plan.model, **shape | given(GPTConfig)),
                          recipe=replace(plan.recipe, **given(Recipe)), **given(Plan))
    except ValueError as why:
        raise BadInput(f"these flags make no model: {why}") from why
    tokens = args.tokens or plan.tokens
    steps = max(1, tokens // (changed.rows * changed.model.sequence_length))
    if args.tokens is None and changed.tokens == plan.tokens:
        steps = plan.steps
    changed = replace(changed, steps=steps)
    same = replace(changed, precision=plan.precision, compile=plan.compile, threads=plan.threads)
    return changed if same == plan else replace(changed, forecast=None)
