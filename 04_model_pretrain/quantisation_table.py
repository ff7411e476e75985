"""What few bits cost: size, bits per byte and speed of one model in each kind of block.

    python 04_model_pretrain/quantisation_table.py                # out's base.pt, a minute
    python 04_model_pretrain/quantisation_table.py smollm2        # a published model, 8 minutes

Every matrix is written in blocks and read back (quantisation.py), norms and biases stay as they
are; then the model reads held-out documents as pretraining measures them (`held_out_bits`). Speed
is that of `TalkingGPT`, which keeps weights in 32, 16, 8 or 4 bits while it talks. Reads
tokenizer.json, the shards of out/02_data and a checkpoint; writes
out/04_model_pretrain/quantisation_NAME.json.
"""

import copy
import statistics
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from tqdm import tqdm

from artifacts import CommandLine, Job, command, out, shown, within, write_json
from batches import Shard
from bpe import Tokenizer
from checkpoint import load_model
from fast_decoding import TalkingGPT, can_talk
from generate import generate
from gpt import GPT
from held_out import held_out_bits
from published_models import WHEELS, load_published
from quantisation import BLOCKS, WRITTEN, dequantise, quantise


@torch.no_grad()
def in_blocks(model: GPT, kind: str) -> tuple[GPT, int]:
    """(a copy whose matrices are those of `kind`, in float32; bytes that its tensors take so).

    A row that is no whole number of blocks, and what is no matrix, stays in 32 bits.
    """
    again, size = copy.deepcopy(model), 0
    for parameter in again.parameters():
        numbers, width = BLOCKS[kind]
        if parameter.dim() == 2 and parameter.shape[1] % numbers == 0:
            blocks = quantise(parameter.numpy(), kind)
            parameter.copy_(torch.from_numpy(np.array(dequantise(blocks, kind))))
            size += parameter.numel() // numbers * width
        else:
            size += parameter.numel() * 4
    return again, size


def held_out_part(folder: Path | str, most: int, tokenizer: Tokenizer, other: Tokenizer | None,
                  eot: int) -> SimpleNamespace:
    """Held-out documents drawn at random, about `most` bytes, in the ids of `other` (None: those of
    `tokenizer`, which has written the shards): what `held_out_bits` reads of a Shard. `eot` ends
    each document."""
    shard, rows, sizes = Shard(folder, "val"), [], []
    for i in np.random.default_rng(0).permutation(len(shard.start)):
        ids = [t for t in shard.tokens[shard.start[i]:][:shard.length[i]].tolist()
               if t != shard.eot]
        text = tokenizer.decode(ids)
        rows.append([*(ids if other is None else other.encode(text)), eot])
        sizes.append(len(text.encode("utf-8")))
        if sum(sizes) >= most:
            break
    length = np.array([len(row) for row in rows])
    return SimpleNamespace(tokens=np.concatenate(rows), start=np.cumsum(length) - length,
                           length=length, bytes=np.array(sizes), eot=eot)


def tokens_per_second(model: GPT, bits: int, ids: list[int]) -> float:
    """Tokens per CPU second of writing 32 tokens behind 32, the median of three."""
    talking, speeds = TalkingGPT(model.config, model.state_dict(), bits), []
    for _ in range(3):
        began = time.process_time()
        written = len(list(generate(talking, ids[:32], 32, temperature=0)))
        speeds.append(written / (time.process_time() - began))
    return statistics.median(speeds)


def table_of(model: GPT, part: SimpleNamespace, kinds: tuple[str, ...]) -> list[dict]:
    """A row for each kind: bits a number, megabytes, bits per byte, and that over float32's."""
    rows, T = [], min(model.config.sequence_length, 512)
    for kind in tqdm(kinds, desc="kinds", unit=" kinds"):
        again, stored = in_blocks(model, kind)
        rows.append({"kind": kind, "bits": 8 * BLOCKS[kind][1] / BLOCKS[kind][0],
                     "megabytes": stored / 1e6, "bits_per_byte": held_out_bits(again, part, T)})
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
    tokenizer, other = Tokenizer.load(args.tokenizer), None
    if own:
        model, eot = load_model(args.model)[0], tokenizer.special_tokens["<|endoftext|>"]
    else:
        model, other, settings = load_published(args.model)
        eot = settings["end_ids"][0]
    part = held_out_part(args.data, args.bytes or (200_000 if own else 20_000), tokenizer, other,
                         eot)
    rows = table_of(model, part, WRITTEN)
    speeds = {bits: tokens_per_second(model, bits, part.tokens.tolist()) for bits in (32, 16, 8, 4)
              if can_talk(model.config)}
    for row in rows:
        print("{kind:<5} {bits:4.1f} bits  {megabytes:7.1f} MB  {bits_per_byte:.4f} bits per byte  "
              "{ratio:.4f}".format(**row))
    print("tokens per CPU second: "
          + ", ".join(f"{bits} bits {speed:.1f}" for bits, speed in speeds.items()))
    write_json(target, {"model": Path(args.model).name, "tokens": len(part.tokens),
                        "bytes": int(part.bytes.sum()),
                        "rows": rows, "tokens_per_cpu_second": speeds})
    job.done()
    print(f"wrote {shown(target)}")


if __name__ == "__main__":
    command(main)
