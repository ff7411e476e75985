"""The ledger: every claim of the article, the command that measures it, and what came out.

    for claim in read_ledger(out("claims")): print(claim.id, claim.verdict)

A verdict is written by the command that measured it (`artifacts.record_claim`), never here.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from artifacts import VERDICTS

OPEN = "not yet measured"
# id: (the claim in the article's words, shortened; the command that measures it)
CLAIMS = {
    "next-token": ("Predicting the next token well needs grammar, facts and patterns",
                   "04_model_pretrain/pretrain.py"),
    "bpe-shapes": ("BPE's logic shapes everything downstream", "04_model_pretrain/vocabularies.py"),
    "architecture-least": ("The architecture is the part that matters least",
                           "04_model_pretrain/architectures.py"),
    "transformer-vs-lstm": ("Transformers have a better constant and slope than LSTMs",
                            "03_scaling/rivals.py"),
    "raw-web-filthy": ("Raw web data is filthy: it takes a brutal multi-step filter",
                       "02_data/build_corpus.py"),
    "quality-over-quantity": ("Data quality trumps quantity", "02_data/measure_filters.py"),
    "domain-mix": ("Domains are reweighted using scaling laws", "02_data/mix_domains.py"),
    "predictable": ("A model's performance is predictable before training it",
                    "04_model_pretrain/pretrain.py"),
    "tune-small": ("Tune on small models, then extrapolate to the one large run",
                   "03_scaling/hyperparameters.py"),
    "chinchilla-20": ("About 20 training tokens per parameter are compute-optimal",
                      "03_scaling/sweep.py"),
    "inference-150": ("Past 150 tokens per parameter, once inference is paid for",
                      "03_scaling/inference_aware.py"),
    "ten-thousand-gpus": ("10,000 GPUs for a month: which model do you train?",
                          "03_scaling/plan.py --gpus 10000 --days 30"),
    "base-continues": ("A base model continues your question instead of answering it",
                       "05_posttrain/compare.py"),
    "sft-few": ("A few thousand examples are enough: SFT teaches format, not knowledge",
                "05_posttrain/experiment.py sft-few"),
    "sft-hallucinates": ("Cloning answers that the model does not know teaches it to invent",
                         "05_posttrain/experiment.py sft-hallucinates"),
    "alpaca-52k": ("Instructions can be written by another model (Alpaca: 52,000)",
                   "05_posttrain/experiment.py alpaca-52k"),
    "rlhf-prefers": ("RLHF optimises for preference, past imitation", "05_posttrain/compare.py"),
    "dpo-equals-ppo": ("DPO reaches comparable quality to PPO", "05_posttrain/compare.py"),
    "perplexity-choices": ("Perplexity is the number of tokens the model hesitates between",
                           "06_eval/evaluate.py"),
    "perplexity-breaks": ("Perplexity stops meaning anything after alignment",
                          "06_eval/evaluate.py"),
    "prompt-format": ("The same model scores 0.637 or 0.488 on MMLU, by prompt format alone",
                      "06_eval/evaluate.py"),
    "arena-elo": ("Blind votes of people power an Elo leaderboard", "06_eval/evaluate.py"),
    "judge-98": ("An LLM judge agrees 98 % with the Chatbot Arena", "06_eval/evaluate.py"),
    "judge-length": ("Judges favour longer answers", "06_eval/evaluate.py"),
    "naive-112gb": ("A 7B model needs about 112 GB just to train naively",
                    "07_systems/benchmark.py --table memory"),
    "bf16": ("16-bit numbers halve memory and boost speed",
             "07_systems/benchmark.py --table precision"),
    "flash-1.7": ("FlashAttention alone gives about 1.7x end to end",
                  "07_systems/benchmark.py --table attention"),
    "zero-saves": ("Sharding the optimizer state saves memory",
                   "07_systems/benchmark.py --table zero"),
    "model-parallel": ("A model can be split by layer or by matrix",
                       "07_systems/benchmark.py --table parallel"),
    "moe": ("Mixture of experts: more parameters, same FLOPs",
            "07_systems/benchmark.py --table moe"),
}


@dataclass(frozen=True)
class Claim:
    """One line of the ledger. `verdict` is one of artifacts.VERDICTS or "not yet measured"."""

    id: str
    text: str
    made_by: str
    verdict: str = OPEN
    measured: str = ""
    value: object = None
    expected: str = ""
    command: str = ""
    interval: tuple | None = None
    details: dict = field(default_factory=dict)


def read_claim(path: Path) -> dict:
    """The recorded fields of one claim; empty if the file is missing, damaged or without a verdict
    that this repository knows: such a claim counts as not yet measured."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = isinstance(record, dict) and record.get("verdict") in VERDICTS
    return {key: record[key] for key in ("verdict", "measured", "value", "expected", "command",
                                         "interval", "details")
            if record.get(key) not in (None, "")} if known else {}


def read_ledger(folder: Path | str) -> list[Claim]:
    """All claims in the order of the article, measured or not; files of unknown ids come last."""
    folder = Path(folder)
    others = {path.stem: ("", "") for path in sorted(folder.glob("*.json"))
              if path.stem not in CLAIMS}
    return [Claim(claim, text or claim, made_by, **read_claim(folder / f"{claim}.json"))
            for claim, (text, made_by) in {**CLAIMS, **others}.items()]


def tally(ledger: list[Claim]) -> dict[str, int]:
    """How many claims have each verdict, in the order holds ... not yet measured."""
    return {verdict: sum(claim.verdict == verdict for claim in ledger)
            for verdict in (*VERDICTS, OPEN)}
