"""What the vocabulary is worth to a model: the same text read in bytes, or in longer tokens.

    python 04_model_pretrain/vocabulary.py              about 2 minutes on one core
    python 04_model_pretrain/vocabulary.py --recorded   read the recorded runs instead

Cuts one BPE tokenizer after 0, 768, 3,840 and 7,936 merges, trains one small model on the same text
with each, and scores the same held-out text in bits per byte: a number that does not depend on
how the text was cut. Every batch holds about the same bytes, so all take as many updates. Reads
out/02_data and the tokenizer; writes out/04_model_pretrain/vocabulary.json, and puts its half into
the claim bpe-shapes. But: one size of model, and a context of 256 tokens, so that long tokens also
see further back. That is part of what they are for.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from artifacts import (BadInput, command, need, out, read_json, record_claim, shown,
                       write_json)
from batches import PackedBatches, Shard
from bpe import Tokenizer, train_bpe
from flop_rate import flops_per_token
from gpt import GPT, GPTConfig
from pretokenize import count_pretokens
from training_loop import Recipe, mean_loss, train
from verdicts import bits_per_byte

RECORDED = Path(__file__).parent / "recorded" / "vocabulary.json"
SIZES = (256, 1024, 4096, 8192)
T, ROWS = 256, 4                        # rows of T tokens per batch, at 4,096 tokens
END = "<|endoftext|>"


def texts_of(shard: Shard, tokenizer: Tokenizer, most: int, seed: int) -> list[str]:
    """Documents of the shard in a seeded order, as text, up to `most` bytes."""
    found, used = [], 0
    for i in np.random.default_rng(seed).permutation(len(shard.start)):
        ids = shard.tokens[shard.start[i]:shard.start[i] + shard.length[i]]
        found.append(tokenizer.decode(ids[ids != shard.eot].tolist()))
        used += len(found[-1].encode())
        if used >= most:
            break
    return found


def cut(vocab: dict[int, bytes], merges: list, size: int) -> Tokenizer:
    """The tokenizer that stops after its first `size` - 256 merges: BPE's smaller self."""
    return Tokenizer({i: vocab[i] for i in range(size)}, merges[:size - 256], [END])


def shard_of(texts: list[str], tokenizer: Tokenizer) -> Shard:
    """The texts as a shard in memory, cut into this tokenizer's tokens."""
    shard, end = object.__new__(Shard), tokenizer.special_tokens[END]
    ids = [np.append(tokenizer.encode_to_numpy(text), end) for text in texts]
    shard.length = np.array([len(x) for x in ids])
    shard.tokens, shard.start = np.concatenate(ids), np.cumsum(shard.length) - shard.length
    shard.bytes = np.array([len(text.encode()) for text in texts])
    shard.domain, shard.mixture = np.zeros(len(texts), dtype=np.int64), None
    shard.eot, shard.vocab_size = end, tokenizer.vocab_size
    return shard


def read_with(tokenizer: Tokenizer, texts: list[str], held_out: list[str], rows: int, seed: int
              ) -> dict:
    """One small model that reads `texts` once in these tokens: what it cost, and bits per byte."""
    shard, judge = shard_of(texts, tokenizer), shard_of(held_out, tokenizer)
    torch.manual_seed(seed)
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, sequence_length=T, layers=2, width=64,
                          heads=1))
    batches = PackedBatches(shard, T, rows, seed)
    began = time.process_time()
    train(model, batches, len(batches), Recipe(), accumulate=max(1, rows * T // 1024))
    seconds = time.process_time() - began
    held = PackedBatches(judge, T, 8, shuffle=False)
    nats = mean_loss(model, held, len(held)) * judge.length.sum()
    tokens = len(batches) * rows * T
    return {"bits_per_byte": round(bits_per_byte(float(nats), int(judge.bytes.sum())), 4),
            "bytes_per_token": round(float(shard.bytes.sum() / shard.length.sum()), 3),
            "tokens": tokens, "updates": len(batches), "cpu_seconds": round(seconds, 1),
            "flops": flops_per_token(model) * tokens}


def claim(runs: dict[str, dict]) -> str:
    """Put the losses beside what chapter 1 measured about the same claim; gives the sentence."""
    bits = {int(size): run["bits_per_byte"] for size, run in runs.items()}
    best = min(bits, key=bits.get)
    sentence = (f"one small model on the same text needs {bits[best]:.3f} bits per byte with "
                f"{best:,} tokens, and " + ", ".join(
                    f"{value / bits[best] - 1:.1%} more with {size:,}"
                    for size, value in bits.items() if size != best))
    path = out("claims", "bpe-shapes.json")
    known = (read_json(path, "01_tokenizer/bpe_shapes.py") if path.exists() else
             {"measured": "", "value": {}, "verdict": "holds", "details": {}})
    spread = max(bits.values()) / bits[best] - 1
    record_claim(
        "bpe-shapes", measured="; ".join(filter(None, [known["measured"].split("; one small")[0],
                                                       sentence])),
        value=known["value"] | {"worst over best vocabulary": round(1 + spread, 3)},
        expected="what a token is decides what is easy, what is hard, and what is learned",
        verdict=known["verdict"] if spread > 0.02 else "holds in part",
        command="python 01_tokenizer/bpe_shapes.py and 04_model_pretrain/vocabulary.py",
        details=known["details"] | {"by_vocabulary": runs})
    return sentence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", default=out("02_data"))
    parser.add_argument("--tokenizer", default=out("01_tokenizer", "tokenizer.json"))
    parser.add_argument("--out", default=out("04_model_pretrain", "vocabulary.json"))
    parser.add_argument("--bytes", type=int, default=1_000_000, help="of text to train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recorded", action="store_true", help="use the recorded runs")
    args = parser.parse_args()
    if args.recorded:
        result = json.loads(RECORDED.read_text(encoding="utf-8"))
    else:
        torch.set_num_threads(1)
        ours = Tokenizer.load(need(args.tokenizer, "01_tokenizer/train_tokenizer.py"))
        texts, held_out = (texts_of(Shard(args.data, split), ours, most, args.seed)
                           for split, most in (("train", args.bytes), ("val", 250_000)))
        more = texts_of(Shard(args.data, "train"), ours, 4_000_000, args.seed)
        vocab, merges = train_bpe(count_pretokens(more), max(SIZES))
        if len(vocab) < max(SIZES):
            raise BadInput(f"the text gives only {len(vocab)} tokens of {max(SIZES)}: run python "
                           "02_data/build_corpus.py on more pages")
        tokenizers = {size: cut(vocab, merges, size) for size in SIZES}
        tokens = {size: sum(map(len, map(t.encode_to_numpy, texts)))
                  for size, t in tokenizers.items()}
        result = {"bytes": sum(len(text.encode()) for text in texts), "seed": args.seed,
                  "runs": {}}
        for size, tokenizer in tqdm(tokenizers.items(), unit="model"):
            # as many bytes in every batch: then all models make as many updates
            rows = max(1, round(ROWS * tokens[size] / tokens[4096]))
            result["runs"][str(size)] = read_with(tokenizer, texts, held_out, rows, args.seed)
    write_json(args.out, result)
    for size, run in result["runs"].items():
        print(f"{size:>6} tokens: {run['bytes_per_token']:.2f} bytes each, {run['updates']} "
              f"updates, {run['flops']:.2g} FLOPs, {run['cpu_seconds']:.0f} CPU-seconds -> "
              f"{run['bits_per_byte']:.3f} bits per byte")
    print(claim(result["runs"]) + f"\nwrote {shown(args.out)}")


if __name__ == "__main__":
    command(main)
