"""What is the tokenizer worth to a model? One small GPT, trained with four sizes of vocabulary.

    python 04_model_pretrain/vocabularies.py                about 5 minutes on one core
    python 04_model_pretrain/vocabularies.py --quick        under a minute, one seed
    python 04_model_pretrain/vocabularies.py --recorded     a committed run of the first, at once

The second half of the claim `bpe-shapes` (chapter 1 measures the first, before any model). Bytes
alone, 1,024, 4,096 and 8,192 tokens are the first merges of one training, so that nothing else
differs. Each is compared in bits per byte on the same held-out documents, twice: for an equal
amount of text read, and for equal CPU time. Reads out/01_tokenizer/tokenizer.json and out/02_data;
writes out/04_model_pretrain/vocabularies.json and .png. Small models read through a window of 128
tokens: part of what a longer token gives them is a longer view.
"""

import json
import time
from pathlib import Path

import matplotlib
import numpy as np
import torch
from tqdm import tqdm

from artifacts import CommandLine, Job, command, out, record_claim, shown, within, write_json
from batches import PackedBatches, Shard
from bpe import Tokenizer, train_bpe
from bpe_shapes import shrunk
from gpt import GPT, GPTConfig
from pretokenize import count_pretokens
from training_loop import mean_loss, train
from verdicts import bits_per_byte

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RECORDED = Path(__file__).parent / "recorded" / "vocabularies.json"
SIZES = (0, 1024, 4096, 8192)           # 0: the 256 bytes and the special tokens alone
ROWS, T = 8, 128


def texts_of(shard: Shard, tokenizer: Tokenizer, limit: int, seed: int = 0) -> list[str]:
    """Documents of a shard as text, in random order, until they have `limit` bytes together."""
    texts = []
    for number in np.random.default_rng(seed).permutation(len(shard.start)).tolist():
        if limit <= 0:
            break
        begin = shard.start[number]
        ids = shard.tokens[begin:begin + shard.length[number]].tolist()
        texts.append(tokenizer.decode(ids[:-1] if ids[-1] == shard.eot else ids))
        limit -= len(texts[-1].encode())
    return texts


def tokenizers(first: Tokenizer, texts: list[str], sizes: tuple[int, ...]) -> list[Tokenizer]:
    """A tokenizer of each size with the special tokens of `first`; the small ones begin the large.

    Smaller than asked for if the texts allow no more merges.
    """
    counts = count_pretokens(texts, first.pattern)
    vocab, merges = train_bpe(counts, max(sizes), list(first.special_tokens))
    whole = Tokenizer(vocab, merges, list(first.special_tokens), first.pattern)
    return [shrunk(whole, size) for size in sizes]


def shard_in_memory(texts: list[str], tokenizer: Tokenizer, end: str = "<|endoftext|>") -> Shard:
    """A Shard of these documents, as chapter 2 would have written it with this tokenizer."""
    eot = tokenizer.special_tokens[end]
    ids = [np.append(tokenizer.encode_to_numpy(text), eot) for text in texts]
    shard = object.__new__(Shard)
    shard.tokens, shard.eot, shard.vocab_size = np.concatenate(ids), eot, tokenizer.vocab_size
    shard.length = np.array([len(x) for x in ids])
    shard.start = np.cumsum(shard.length) - shard.length
    shard.bytes = np.array([len(text.encode()) for text in texts])
    shard.domain, shard.mixture = np.zeros(len(ids), np.int64), None
    return shard


def trained(shard: Shard, held_out: Shard, steps: int, seed: int) -> tuple[float, float, int]:
    """(bits per byte on all of `held_out`, CPU seconds of training, parameters) of a small GPT."""
    torch.manual_seed(seed)
    model = GPT(GPTConfig(vocab_size=shard.vocab_size, sequence_length=T, layers=2, width=64,
                          heads=2))
    began = time.process_time()
    train(model, PackedBatches(shard, T, ROWS, seed), steps)
    seconds = time.process_time() - began
    batches = PackedBatches(held_out, T, 16, shuffle=False)
    nats = mean_loss(model, batches, len(batches)) * float(held_out.length.sum())
    return (bits_per_byte(nats, int(held_out.bytes.sum())), seconds,
            sum(p.numel() for p in model.parameters()))


def compare(train_texts: list[str], held_texts: list[str], first: Tokenizer, read: int,
            seeds: int, sizes: tuple[int, ...] = SIZES) -> dict:
    """{vocabulary: measurements}, at `read` bytes of text and at the time that the median took."""
    table, bar = {}, tqdm(total=2 * seeds * len(sizes), unit="run")
    for tokenizer in tokenizers(first, train_texts, sizes):
        shards = [shard_in_memory(texts, tokenizer) for texts in (train_texts, held_texts)]
        per_token = shards[0].bytes.sum() / shards[0].length.sum()
        steps = max(1, int(read / per_token / (ROWS * T)))
        runs = []
        for seed in range(seeds):
            runs.append(trained(*shards, steps, seed))
            bar.update()
        bits, seconds, parameters = zip(*runs)
        table[tokenizer.vocab_size] = {
            "shards": shards, "steps": steps, "bytes_per_token": round(float(per_token), 3),
            "parameters": parameters[0], "cpu_seconds": round(float(np.mean(seconds)), 3),
            "equal_text": [round(b, 4) for b in bits]}
    budget = float(np.median([row["cpu_seconds"] for row in table.values()]))
    for row in table.values():
        steps = max(1, int(row["steps"] * budget / row["cpu_seconds"]))
        shards = row.pop("shards")
        row["equal_time"] = []
        for seed in range(seeds):
            row["equal_time"].append(round(trained(*shards, steps, seed)[0], 4))
            bar.update()
    bar.close()
    return table


def verdict_of(table: dict) -> tuple[str, dict[str, float]]:
    """Whether the vocabulary matters more than the seed, and its spread (worst over best, less 1).

    "holds" if both spreads are over 2 % and over twice that of any one vocabulary's seeds.
    """
    spreads, clear = {}, []
    for name in ("equal_text", "equal_time"):
        means = [float(np.mean(row[name])) for row in table.values()]
        noise = max(max(row[name]) / min(row[name]) - 1 for row in table.values())
        spreads[name] = round(max(means) / min(means) - 1, 4)
        clear.append(spreads[name] > max(0.02, 2 * noise))
    return ("holds" if all(clear) else "holds in part" if any(clear) else "does not hold here",
            spreads)


def draw(table: dict, path: Path) -> None:
    """Bits per byte by vocabulary, for equal text and for equal time, a dot per seed."""
    figure, axes = plt.subplots(figsize=(5.6, 3.6), dpi=150)
    sizes = list(table)
    for name, marker in (("equal_text", "o"), ("equal_time", "s")):
        line, = axes.plot(sizes, [np.mean(table[size][name]) for size in sizes], marker=marker,
                          label=name.replace("_", " "))
        for size in sizes:
            axes.plot([size] * len(table[size][name]), table[size][name], ".",
                      color=line.get_color(), markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xlabel("vocabulary (tokens)"), axes.set_ylabel("bits per byte, held out")
    axes.grid(alpha=0.3), axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def record(table: dict, settings: str) -> str:
    """Record `bpe-shapes`: this half, and chapter 1's beside it if that has been measured."""
    verdict, spreads = verdict_of(table)
    value = {f"bits per byte, {name.replace('_', ' ')}": {
        f"{size:,}": round(float(np.mean(row[name])), 3) for size, row in table.items()}
        for name in ("equal_text", "equal_time")}
    details = {"vocabularies": table}
    first = out("claims", "bpe-shapes.json")
    before = json.loads(first.read_text(encoding="utf-8")) if first.exists() else {}
    shapes = before.get("details", {}).get("shapes", before)
    if shapes:
        value, details = shapes["value"] | value, details | {"shapes": shapes}
        verdict = verdict if verdict == shapes["verdict"] else "holds in part"
    record_claim("bpe-shapes", value=value, verdict=verdict, details=details,
                 measured=f"bits per byte of one small model by vocabulary, {settings}: the worst "
                          f"needs {spreads['equal_text']:.1%} more than the best for equal text, "
                          f"{spreads['equal_time']:.1%} for equal time"
                          + ("; " + shapes["measured"] if shapes else ""),
                 expected="the vocabulary moves the loss by more than 2 % and than twice the seed",
                 command="python 04_model_pretrain/vocabularies.py")
    return f"bpe-shapes: {verdict} ({spreads['equal_text']:.1%}, {spreads['equal_time']:.1%})"


def show(table: dict, path: Path, settings: str) -> None:
    """Print the table, write it and its figure, and record the claim."""
    print(f"{'vocabulary':>10}  bytes/token  parameters  CPU s  bits per byte: equal text, time")
    for size, row in table.items():
        print(f"{size:10,}  {row['bytes_per_token']:11.2f}  {row['parameters']:10,}  "
              f"{row['cpu_seconds']:5.1f}  {np.mean(row['equal_text']):25.3f} "
              f"{np.mean(row['equal_time']):7.3f}")
    write_json(path, table)
    draw(table, path.with_suffix(".png"))
    print(record(table, settings))
    print(f"wrote {shown(path)} and .png")


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--data", type=Path, default=out("02_data"))
    parser.add_argument("--tokenizer", type=Path, default=out("01_tokenizer", "tokenizer.json"))
    parser.add_argument("--out", type=Path, default=out("04_model_pretrain", "vocabularies.json"))
    parser.add_argument("--megabytes", type=within(above=0), default=1,
                        help="text that each model reads")
    parser.add_argument("--seeds", type=within(int, low=1), default=2)
    parser.add_argument("--quick", action="store_true", help="0.2 MB, one seed")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--recorded", action="store_true", help="show the committed run (1 MB)")
    args = parser.parse_args()
    if args.recorded:
        table = {int(size): row for size, row in
                 json.loads(RECORDED.read_text(encoding="utf-8")).items()}
        show(table, args.out, "1 MB read, 2 seeds, a recorded run")
        return
    if args.quick:
        args.megabytes, args.seeds = min(args.megabytes, 0.2), 1
    inputs = [args.tokenizer, *(args.data / n for n in ("train.bin", "val.bin", "index.json"))]
    job = Job(__file__, vars(args), reads=inputs, writes=[args.out, args.out.with_suffix(".png")])
    if job.up_to_date():
        return
    torch.set_num_threads(1)
    first, read = Tokenizer.load(args.tokenizer), int(args.megabytes * 1e6)
    # Six times what is read for equal text: the fastest vocabulary must not read twice either.
    train_texts = texts_of(Shard(args.data, "train"), first, 6 * read)
    held_texts = texts_of(Shard(args.data, "val"), first, min(200_000, read))
    table = compare(train_texts, held_texts, first, read, args.seeds)
    show(table, args.out, f"{args.megabytes:g} MB read, {args.seeds} seed(s)")
    job.done()


if __name__ == "__main__":
    command(main)
