"""Is clean data worth more than much data? A small transformer on what each filter lets through.

    python 02_data/measure_filters.py            makes the training sets, and a first answer
    python 04_model_pretrain/data_quality.py     this answer: about 9 minutes on two cores
    python 04_model_pretrain/data_quality.py --recorded      a committed run of it, at once

The same model and recipe, from the same seeds, on equally many tokens of raw HTML, of HTML without
its tags, of extracted text, of what passed the page rules, and of the finished corpus; then on more
and dirtier tokens: four times as many of HTML, twice as many of extracted text. The judge is
held-out clean text that none of the sets quotes. Reads out/02_data/steps; writes
out/04_model_pretrain/data_quality.json and .png, and the claim quality-over-quantity.
Chapter 2's counting model only remembers; this one generalises.
"""

import os
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from artifacts import (CommandLine, Job, command, need, out, read_json, record_claim, shown, within,
                       write_json)
from batches import PackedBatches, Shard
from funnel import save_figure
from gpt import GPT, GPTConfig
from parts import bounded_map
from run_table import measured_here
from training_loop import Recipe, mean_loss, train
from verdicts import bits_per_byte

CLAIM, COMMAND = "quality-over-quantity", "python 04_model_pretrain/data_quality.py"
RECORDED = Path(__file__).parent / "recorded" / "data_quality.json"
STAGES = ("raw HTML", "tags stripped", "extracted", "page rules", "corpus")
MORE = {"raw HTML, 4 times the tokens": ("raw HTML", 4),
        "extracted, twice the tokens": ("extracted", 2)}
ROWS, T = 8, 128
JUDGED = 40             # batches of 16 rows of held-out text: about 80,000 tokens


def train_one(job: tuple[str, str, int, int]) -> tuple[str, float]:
    """(name, bits per byte on the judge) of one model: job = (name, folder, tokens, seed)."""
    name, folder, tokens, seed = job
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    shard, judge = Shard(folder, "train"), Shard(folder, "val")
    model = GPT(GPTConfig(vocab_size=shard.vocab_size, sequence_length=T, layers=2, width=64,
                          heads=2))
    batches = PackedBatches(shard, T, ROWS, seed, use_mixture=False)
    train(model, batches, tokens // (ROWS * T), Recipe())
    held = PackedBatches(judge, T, 16, use_mixture=False)        # the same rows for every model
    loss = mean_loss(model, held, min(JUDGED, len(held)))
    return name, bits_per_byte(loss * float(judge.length.sum() / judge.bytes.sum()), 1)


def worth_of(results: dict[str, list[float]]) -> float | None:
    """How many tokens of extracted text one of the corpus is worth; None if more do not help.

    The loss falls by a fixed amount for each doubling (over so short a way), and that fall was
    measured: 2^((extracted - corpus) / (extracted - extracted with twice the tokens)).
    """
    once, twice, clean = (float(np.mean(results[name])) for name in
                          ("extracted", "extracted, twice the tokens", "corpus"))
    return 2 ** ((once - clean) / (once - twice)) if once > twice else None


def verdict_of(results: dict[str, list[float]]) -> tuple[str, np.ndarray]:
    """The verdict on quality-over-quantity, and by seed how many bits the corpus gains.

    At equal tokens the corpus must beat HTML and extracted text by more than two standard
    deviations over seeds; and it must beat more of each. "holds" if all, "holds in part" if equal
    tokens are won, or more tokens of HTML are.
    """
    clean = np.array(results["corpus"])
    gaps = [np.array(results[name]) - clean for name in ("raw HTML", "extracted")]
    equal = all(gap.mean() > 2 * gap.std() and gap.mean() > 0 for gap in gaps)
    beyond = [clean.mean() < np.mean(results[name]) for name in MORE]
    return ("holds" if equal and all(beyond) else "holds in part" if equal or beyond[0] else
            "does not hold here"), gaps[1]


def draw(path: Path, results: dict[str, list[float]], tokens: int) -> None:
    """Bits per byte of each training set, seeds as points."""
    import matplotlib.pyplot as plt
    figure, axis = plt.subplots(figsize=(8, 3.4))
    for i, (name, values) in enumerate(results.items()):
        axis.barh(i, np.mean(values), color="#b8683c" if name in MORE else "#4878a8")
        axis.plot(values, [i] * len(values), "k.", ms=4)
        axis.text(max(values), i, f"  {np.mean(values):.3f}", va="center", fontsize=8)
    axis.set_yticks(range(len(results)), list(results), fontsize=8)
    axis.set(xlabel=f"bits per byte on held-out clean text after {tokens / 1e6:g}M tokens "
             "(lower is better)", xlim=(0, 1.15 * max(map(max, results.values()))))
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def show(results: dict[str, list[float]], tokens: int, path: Path, flag: str = "") -> None:
    """Print the results, write them and their figure, record the claim with its verdict.

    Chapter 2's first answer, by a model that only counts, stays beside it in the claim's details.
    """
    for name, values in results.items():
        print(f"{name:28} {np.mean(values):.4f} +- {np.std(values):.4f} bits per byte")
    (verdict, gap), worth = verdict_of(results), worth_of(results)
    write_json(path, {"bits_per_byte": results, "tokens": tokens, "worth": worth})
    draw(path.with_suffix(".png"), results, tokens)
    first = out("claims", f"{CLAIM}.json")
    first = read_json(first, "02_data/measure_filters.py") if first.exists() else {}
    counted = first.get("details", {}).get("counting model", first.get("value"))
    record_claim(
        CLAIM, measured=("a recorded run: " if flag else "") + "bits per byte on held-out clean "
        f"text of the same 2-layer transformer after {tokens:,} tokens of each step's output, and "
        f"after more of HTML and of extracted text, {len(results['corpus'])} seeds",
        value={name: round(float(np.mean(v)), 4) for name, v in results.items()},
        interval=(float(gap.min()), float(gap.max())),
        expected="the corpus beats every earlier step at equal tokens, and even more of it",
        verdict=verdict, command=COMMAND + flag,
        details={"gap_extracted_minus_corpus": gap.tolist(), "worth_in_extracted_tokens": worth,
                 "counting model": counted})
    if worth:
        print(f"one token of the corpus teaches as much as {worth:.2f} of extracted text")
    print(f"{CLAIM}: {verdict}\nwrote {shown(path)} and its figure")


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--steps", type=Path, default=out("02_data", "steps"),
                        help="training sets, made by 02_data/measure_filters.py")
    parser.add_argument("--out", type=Path, default=out("04_model_pretrain", "data_quality.json"))
    parser.add_argument("--tokens", type=within(int, low=1), default=400_000, help="for each run")
    parser.add_argument("--seeds", type=within(int, low=1), default=3)
    parser.add_argument("--workers", type=within(int, low=1), default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="30,000 tokens, two seeds")
    parser.add_argument("--fresh", action="store_true", help="train again even if up to date")
    parser.add_argument("--recorded", action="store_true", help="show the committed run")
    args = parser.parse_args()
    if args.recorded:
        if measured_here(CLAIM, COMMAND):
            print(f"{CLAIM}: measured here, the recorded run is not needed")
        else:
            kept = read_json(RECORDED, "04_model_pretrain/data_quality.py")
            show(kept["bits_per_byte"], kept["tokens"], args.out, " --recorded")
        return
    if args.quick:
        args.tokens, args.seeds = min(args.tokens, 30_000), min(args.seeds, 2)
    folders = {name: args.steps / name.replace(" ", "_") for name in STAGES}
    inputs = [need(folder / "index.json", "02_data/measure_filters.py")
              for folder in folders.values()]
    job = Job(__file__, vars(args), reads=inputs, writes=[args.out, args.out.with_suffix(".png")])
    if job.up_to_date():
        return

    jobs = [(name, str(folders[name]), args.tokens, seed)
            for name in STAGES for seed in range(args.seeds)]
    jobs += [(name, str(folders[stage]), times * args.tokens, seed)
             for name, (stage, times) in MORE.items() for seed in range(args.seeds)]
    results: dict[str, list[float]] = {}
    for name, bits in tqdm(bounded_map(train_one, jobs, args.workers), total=len(jobs),
                           unit="run", desc="train on each step's output", disable=None):
        results.setdefault(name, []).append(bits)
    show(results, args.tokens, args.out)
    job.done()


if __name__ == "__main__":
    command(main)
