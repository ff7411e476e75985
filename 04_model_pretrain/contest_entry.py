"""The course's own recipe as an entry of the contest: a small GPT, AdamW, a linear fall to zero.

    python learn.py contest --minutes 5        runs it in a clean copy, and judges it

`train` watches the CPU clock: it measures what a step costs and plans as many as fit. Copy this
file and make it better: width, optimizer (Muon), schedule, n-grams, the order of documents.
"""

import time
from pathlib import Path

import torch
from torch import Tensor

from batches import PackedBatches, Shard
from gpt import GPT, GPTConfig
from optimizers import AdamW, clip_gradients, linear_schedule

CONTEXT, ROWS, RATE = 256, 8, 3e-3


def train(folder: Path, seconds: float) -> GPT:
    """A GPT trained on folder/train.bin until `seconds` of CPU time are used."""
    torch.manual_seed(0)
    began = time.process_time()
    shard = Shard(folder, "train")
    model = GPT(GPTConfig(vocab_size=shard.vocab_size, sequence_length=CONTEXT, layers=4,
                          width=128, heads=4))
    batches = PackedBatches(shard, CONTEXT, ROWS)
    optimizer = AdamW(model.parameters(), lr=RATE, weight_decay=0.1)
    step = 0
    while (used := (time.process_time() - began) / seconds) < 0.97:
        # the schedule runs on the clock: a thousandth of the time is a step of it
        share = linear_schedule(int(1000 * used), 1000, warmup=20)
        for group in optimizer.param_groups:
            group["lr"] = RATE * share
        ids, targets = batches(step)
        loss = model(ids, targets)[1]
        loss.backward()
        clip_gradients(list(model.parameters()), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            print(f"curve {used * seconds:.1f} {loss.item():.4f}", flush=True)
        step += 1
    return model.eval()


def next_log_probabilities(model: GPT, ids: Tensor) -> Tensor:
    """ids (T,) -> (T, V): row t holds log p(next token | ids[:t + 1])."""
    return model(ids[None])[0][0].float().log_softmax(-1)
