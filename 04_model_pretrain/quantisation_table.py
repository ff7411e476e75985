"""What few bits cost: size, bits per byte and speed of one model in each kind of block.

    python 04_model_pretrain/quantisation_table.py                # out's base.pt, a minute
    python 04_model_pretrain/quantisation_table.py smollm2        # a published model, 8 minutes

Every matrix is written in blocks and read back (quantisation.py), norms and biases stay as they
are; then the model reads the same held-out text, each token once, in windows of half a context.
Speed is that of `TalkingGPT`, which keeps weights in 32, 16, 8 or 4 bits while it talks. Reads
tokenizer.json, the shards of out/02_data and a checkpoint; writes
out/04_model_pretrain/quantisation_NAME.json.
"""

import copy
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from artifacts import CommandLine, Job, command, out, shown, within, write_json
from batches import IGNORE, Shard
from bpe import Tokenizer
from checkpoint import load_model
from fast_decoding import TalkingGPT, can_talk
from generate import generate
from gpt import GPT
from held_out import LN2
from published_models import WHEELS, load_published
from quantisation import BLOCKS, WRITTEN, dequantise, quantise
from training_loop import mean_loss


@torch.no_grad()
def in_blocks(model: GPT, kind: str) -> tuple[GPT, int]:
    """(a copy whose matrices are those of `kind`, in float32; bytes that its tensors take so).

    A row that is no whole number of blocks, and what is no matrix, stays in 32 bits.
    """
    again, size, seen = copy.deepcopy(model), 0, set()
    for parameter in again.parameters():
        if parameter.data_ptr() in seen:
            continue                            # a head that shares the embedding's matrix
        seen.add(parameter.data_ptr())
        numbers, width = BLOCKS[kind]
        if parameter.dim() == 2 and parameter.shape[1] % numbers == 0:
            blocks = quantise(parameter.numpy(), kind)
            parameter.copy_(torch.from_numpy(np.array(dequantise(blocks, kind))))
            size += parameter.numel() // numbers * width
        else:
            size += parameter.numel() * 4
    return again, size


def read_text(folder: Path | str, vocab: dict[int, bytes], most: int) -> tuple[str, int]:
    """Held-out documents of the shards, drawn at random, about `most` bytes: (text, its bytes)."""
    shard, parts, total = Shard(folder, "val"), [], 0
    for i in np.random.default_rng(0).permutation(len(shard.start)):
        ids = shard.tokens[shard.start[i]:shard.start[i] + shard.length[i]]
        parts.append(b"".join(vocab[t] for t in ids.tolist() if t != shard.eot).decode("utf-8",
                                                                                       "replace"))
        total += len(parts[-1].encode("utf-8"))
        if total >= most:
            break
    text = "\n\n".join(parts)
    return text, len(text.encode("utf-8"))


def total_nats(model: GPT, ids: list[int], T: int) -> float:
    """Nats of all tokens but the first, each with at least T / 2 tokens before it, if there are."""
    half, total = T // 2, 0.0
    for counted in range(1, len(ids), half):
        begin, end = max(0, counted - half), min(counted + half, len(ids))
        window = torch.tensor([ids[begin:end]])
        targets = window[:, 1:].clone()
        targets[:, :counted - begin - 1] = IGNORE
        batch = (window[:, :-1], targets)
        total += mean_loss(model, lambda step: batch, 1, "fp32") * (end - counted)
    return total


def tokens_per_second(model: GPT, bits: int, ids: list[int]) -> float:
    """Tokens per CPU second of writing 32 tokens behind 32, the median of three."""
    talking, speeds = TalkingGPT(model.config, model.state_dict(), bits), []
    for _ in range(3):
        began = time.process_time()
        written = len(list(generate(talking, ids[:32], 32, temperature=0)))
        speeds.append(written / (time.process_time() - began))
    return statistics.median(speeds)


def table_of(model: GPT, ids: list[int], size: int, kinds: tuple[str, ...]) -> list[dict]:
    """A row for each kind: bits a number, megabytes, bits per byte, and that over float32's."""
    rows, T = [], min(model.config.sequence_length, 512)
    for kind in tqdm(kinds, desc="kinds", unit=" kinds"):
        again, stored = in_blocks(model, kind)
        bits = total_nats(again, ids, T) / LN2 / size
        rows.append({"kind": kind, "bits": 8 * BLOCKS[kind][1] / BLOCKS[kind][0],
                     "megabytes": stored / 1e6, "bits_per_byte": bits})
    for row in rows:
        row["ratio"] = row["bits_per_byte"] / rows[0]["bits_per_byte"]
    return rows


def main() -> None:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("model", nargs="?", default=out("04_model_pretrain", "base.pt"),
        help="a checkpoint of ours, a GGUF file, a folder, or a name: " + ", ".join(WHEELS))
    add("--tokenizer", default=out("01_tokenizer", "tokenizer.json"), help="of the shards")
    add("--data", default=out("02_data"), help="folder with val.bin")
    add("--bytes", type=within(int, low=100), help="of held-out text (default: 200,000; of a "
        "published model 20,000)")
    add("--out", help="the table (default: out/04_model_pretrain/quantisation_NAME.json)")
    add("--fresh", action="store_true", help="measure again even if up to date")
    args = parser.parse_args()
    torch.set_num_threads(1)
    own = Path(args.model).suffix == ".pt"
    target = Path(args.out or out("04_model_pretrain",
                                  f"quantisation_{Path(args.model).stem}.json"))
    job = Job(__file__, {"model": str(args.model), "bytes": args.bytes, "fresh": args.fresh},
              reads=[args.tokenizer, args.data, *([args.model] if own else [])], writes=[target])
    if job.is_current():
        return print(f"{shown(target)} is up to date (--fresh measures again)")
    tokenizer = Tokenizer.load(args.tokenizer)
    text, size = read_text(args.data, tokenizer.vocab, args.bytes or (200_000 if own else 20_000))
    if own:
        model = load_model(args.model)[0]
    else:
        model, tokenizer, _ = load_published(args.model)
    ids = list(tokenizer.encode(text))
    rows = table_of(model, ids, size, WRITTEN)
    speeds = {bits: tokens_per_second(model, bits, ids) for bits in (32, 16, 8, 4)
              if can_talk(model.config)}
    for row in rows:
        print("{kind:<5} {bits:4.1f} bits  {megabytes:7.1f} MB  {bits_per_byte:.4f} bits per byte  "
              "{ratio:.4f}".format(**row))
    print("tokens per CPU second: "
          + ", ".join(f"{bits} bits {speed:.1f}" for bits, speed in speeds.items()))
    write_json(target, {"model": Path(args.model).name, "tokens": len(ids), "bytes": size,
                        "rows": rows, "tokens_per_cpu_second": speeds})
    job.done()
    print(f"wrote {shown(target)}")


if __name__ == "__main__":
    command(main)
