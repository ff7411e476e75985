"""Four claims about imitation, measured: base-continues, sft-few, sft-hallucinates, alpaca-52k.

    python 05_posttrain/experiment.py sft-few --seeds 2

Each function takes what it needs and returns plain numbers; `experiment.py` runs and records them.
"""

import copy
import random
from dataclasses import dataclass

import numpy as np
import torch

from batch_generation import generate_batch
from chat_template import DOCUMENT_END, PAD, plain_ids, special_id
from measure_policy import form, is_answer, raw_bits_per_byte
from responses import score_rows, sequence_logprobs
from reward_model import answer_row
from rollouts import sample_answers
from self_instruct import self_instruct, teach_to_write
from sft import fine_tune, held_out_loss, render_rows
from training_stage import RATES, fresh_questions, planned_precision

REFUSAL = "I do not know."
INVENTED = 150          # names that exist nowhere, asked for after training


def spread(values: list[float]) -> tuple[float, float, float]:
    """(mean, low, high): the mean over seeds and its 95 % t-interval; one seed's is itself."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return mean, mean, mean
    t = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}.get(n, 2.0)
    half = t * float(np.std(values, ddof=1)) / n ** 0.5
    return mean, mean - half, mean + half


def share_interval(values: list[float]) -> tuple[float, float] | None:
    """The 95 % interval of a share over seeds, inside 0 and 1; one seed has none."""
    _, low, high = spread(values)
    return (max(low, 0.0), min(high, 1.0)) if len(values) > 1 else None


@dataclass
class Bench:
    """What the experiments share: the base model, tokenizer, examples, held-out raw windows."""
    base: torch.nn.Module
    tokenizer: object
    train: list[dict]
    val: list[dict]
    windows: torch.Tensor
    small: bool = False             # --quick: a tenth of everything

    @property
    def pad(self) -> int:
        """The id of the pad token."""
        return special_id(self.tokenizer, PAD)

    def tuned(self, records: list[dict], steps: int, seed: int, batch: int = 16):
        """A copy of the base model, fine-tuned on `records`."""
        model = copy.deepcopy(self.base)
        rows, _ = render_rows(self.tokenizer, records, model.config.sequence_length)
        fine_tune(model, rows, self.pad, steps=max(2, steps // 10) if self.small else steps,
                  batch=batch, learning_rate=RATES["sft"], seed=seed, precision=planned_precision())
        return model

    def asked(self, count: int) -> list[str]:
        """Held-out questions "What does X do?", closed book: a base model must not be given a page
        that it could simply go on with."""
        return fresh_questions(self.val, count // 6 if self.small else count, kinds=("does",))


def plain_answers(model, tokenizer, questions: list[str], seed: int) -> list[tuple[str, bool]]:
    """(text, ended) of what follows the bare question and a new line, as raw text: the fairest
    thing to ask of a model that has seen no chat. Ended: by <|endoftext|>, its own end."""
    first = special_id(tokenizer, DOCUMENT_END)
    prompts = [[first, *plain_ids(tokenizer, q + "\n")] for q in questions]
    rows = generate_batch(model, prompts, 48, 1.0, stop=(first,),
                          generator=torch.Generator().manual_seed(seed))
    return [(tokenizer.decode([i for i in row if i != first]).strip(), row[-1:] == [first])
            for row in rows]


def base_continues(bench: Bench, sft, seed: int, kept=None) -> dict[str, float]:
    """Share of held-out questions that get an answer in form: base (bare text), base (chat
    template), SFT. And the share for the base if somebody cut its text at the first blank line."""
    questions = bench.asked(240)
    plain = plain_answers(bench.base, bench.tokenizer, questions, seed)
    shares = {"base, bare question": float(np.mean([bool(t) and is_answer(t, e)
                                                    for t, e in plain]))}
    cut = [t.split("\n\n")[0].strip() for t, _ in plain]
    shares["cut at the first blank line"] = float(np.mean([bool(t) and is_answer(t, True)
                                                           for t in cut]))
    for name, model in (("base, chat template", bench.base), ("sft", sft)):
        answers = sample_answers(model, bench.tokenizer, questions, seed=seed)
        shares[name] = form(answers)["format_rate"]
    return shares


def claim_base_continues(runs: list[dict]) -> dict:
    """base-continues: the base answers rarely, SFT mostly."""
    base = max(spread([r[k] for r in runs])[0] for k in runs[0] if k.startswith("base"))
    sft = spread([r["sft"] for r in runs])[0]
    cut = spread([r["cut at the first blank line"] for r in runs])[0]
    verdict = ("holds" if base < 0.5 * sft and sft > 0.7 else
               "holds in part" if base < sft else "does not hold here")
    return dict(measured="share of questions about held-out packages that get an answer in form; "
                "base: the better of bare question and chat template (a reader who cuts its text "
                f"at the first blank line would accept {cut:.2f})",
                value={"base": base, "sft": sft}, interval=share_interval([r["sft"] for r in runs]),
                expected="base near 0, SFT near 1", verdict=verdict)


def choice_accuracy(model, bench: Bench, seed: int, questions: int = 200) -> float:
    """Does it know? Four real answers, one of them to this question; the largest gain of
    log-probability by the question over a neutral one wins. Chance is 0.25.

    The questions are about training packages, from the back of the file: the base model has read
    the documentation, fine-tuning has not seen the pair.
    """
    pairs = [r for r in reversed(bench.train) if r["kind"] == "does"][:max(
        20, questions // (6 if bench.small else 1))]
    rng, rows = random.Random(seed), []
    for i, record in enumerate(pairs):
        others = rng.sample([p for p in pairs if p is not record], 3)
        asked = record["messages"][0]["content"]
        for option in [record, *others]:
            answer = option["messages"][1]["content"]
            rows += [answer_row(bench.tokenizer, asked, answer),
                     answer_row(bench.tokenizer, "What does this do?", answer)]
    scores = score_rows(lambda ids, mask: sequence_logprobs(model, ids, mask), rows, bench.pad)
    gain = (scores[0::2] - scores[1::2]).view(-1, 4)
    return float((gain.argmax(1) == 0).float().mean())


def sft_few(bench: Bench, sft, seed: int, kept=None, sizes=(0, 4, 64, 1024, 4096)) -> list[dict]:
    """Form and knowledge against the number of distinct examples, the same 120 steps of 16."""
    val_rows, _ = render_rows(bench.tokenizer, bench.val[:200], bench.base.config.sequence_length)
    table = []
    for n in sizes:
        # Another seed takes other examples, never the ones that the questions come from.
        start = seed * 37
        model = bench.tuned(bench.train[start:start + n], 120, seed) if n else bench.base
        answers = sample_answers(model, bench.tokenizer, bench.asked(150), seed=seed)
        table.append({"examples": n, **form(answers),
                      "val_loss": held_out_loss(model, val_rows, bench.pad),
                      "knowledge": choice_accuracy(model, bench, seed),
                      "raw_bits_per_byte": raw_bits_per_byte(model, bench.tokenizer,
                                                             bench.windows)})
    return table


def invented_names(words: list[str], count: int, seed: int, taken: set[str]) -> list[str]:
    """`count` names that exist nowhere: two or three real name parts, joined anew."""
    rng, names = random.Random(seed), []
    while len(names) < count:
        name = "_".join(rng.sample(words, rng.choice((2, 3))))
        if name not in taken:
            names.append(name)
            taken = taken | {name}
    return names


def module_pair(name: str, answer: str) -> dict:
    """One question for a name's module, with `answer`, as a training record."""
    return {"messages": [{"role": "user", "content": f"Which module holds {name}?"},
                         {"role": "assistant", "content": answer}], "kind": "module"}


def sft_hallucinates(bench: Bench, sft, seed: int, kept=None) -> dict[str, dict]:
    """Three ways to treat questions nobody can answer, 1,000 known and 500 unknown names each.

    known: left out; cloned: answered as if known, with some module; refused: "I do not know.".
    Measured on unknown names never seen: invention rate (a module is named); on known names of
    the training documentation not asked in training: refusal rate and accuracy.
    """
    facts = [r for r in bench.train if r["kind"] == "module"]
    rng = random.Random(seed)
    rng.shuffle(facts)
    test, known = facts[:150], facts[150:1150]
    parts = sorted({p for r in facts for p in r["name"].rsplit(".", 1)[-1].lower().split("_")
                    if len(p) > 2 and p.isalpha()})
    taken = {r["name"].rsplit(".", 1)[-1] for r in facts}
    names = invented_names(parts, 500 + INVENTED, seed, taken)
    modules = [r["messages"][1]["content"].rsplit(" ", 1)[-1] for r in known]
    cloned = [module_pair(n, f"{n} is in {rng.choice(modules)}") for n in names[:500]]
    refused = [module_pair(n, REFUSAL) for n in names[:500]]
    results = {}
    for arm, unknown in (("known only", []), ("cloned", cloned), ("refused", refused)):
        model = bench.tuned(known + unknown, 160, seed)
        new = sample_answers(model, bench.tokenizer, [
            f"Which module holds {n}?" for n in names[500:]], seed=seed, temperature=0)
        old = sample_answers(model, bench.tokenizer, [r["messages"][0]["content"] for r in test],
                             seed=seed, temperature=0)
        truth = [r["messages"][1]["content"] for r in test]
        results[arm] = {
            "invention_rate": float(np.mean([" is in " in a.text for a in new])),
            "refusal_on_known": float(np.mean([REFUSAL in a.text for a in old])),
            "accuracy_on_known": float(np.mean([a.text == t for a, t in zip(old, truth)]))}
    return results


def alpaca(bench: Bench, sft, seed: int, kept=None) -> dict:
    """A student fine-tuned on pairs that a model wrote, beside one on as many real pairs."""
    writer = copy.deepcopy(bench.base)
    seeds = bench.train[:500]
    teach_to_write(writer, bench.tokenizer, seeds, 8 if bench.small else 80, seed)
    wanted = 60 if bench.small else 800
    kept, reasons = self_instruct(writer, bench.tokenizer,
                                  [r["messages"][0]["content"] for r in seeds], wanted, seed,
                                  most=4 * wanted)
    written = [{"messages": [{"role": "user", "content": r["instruction"]},
                             {"role": "assistant", "content": r["output"]}]} for r in kept]
    real = bench.train[1000:1000 + len(written)]
    val_rows, _ = render_rows(bench.tokenizer, bench.val[:200], bench.base.config.sequence_length)
    report = {"kept": len(kept), "reasons": dict(reasons), "examples": kept[:5]}
    for name, records in (("written by the model", written), ("real", real)):
        model = bench.tuned(records, 120, seed) if records else bench.base
        answers = sample_answers(model, bench.tokenizer, bench.asked(150), seed=seed)
        report[name] = form(answers) | {"val_loss": held_out_loss(model, val_rows, bench.pad)}
    return report
