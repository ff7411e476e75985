"""Rung 1 of training: text in, a GPT trained, text out, in one page without options.

    python 04_model_pretrain/textbook_loop.py                 the lessons of this repository
    python 04_model_pretrain/textbook_loop.py my_notes.txt    any UTF-8 text: about a minute

Reads a text as bytes, so that there is no tokenizer to explain; writes nothing. `training_loop.py`
is the same loop for a long run: it can be stopped, split over machines, and told how to train.
But: one file, no held-out text, and a model that learns little more than to spell.
"""

import math
from pathlib import Path

import torch

from artifacts import BadInput, CommandLine, command
from gpt import GPT, GPTConfig


def train(model, batches, steps: int, learning_rate: float) -> list[float]:
    """Train `model` in place; returns the loss of each batch in nats per token, before its update.

    `batches(step) -> (ids, targets)`, both (B, T). AdamW with betas 0.9 and 0.95 and no decay; the
    rate rises over the first 2 % of the steps and falls in a line to zero; a gradient longer than
    1 is shortened to 1. The very losses of `training_loop.train` with that recipe.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95),
                                  weight_decay=0.0)
    warmup = math.ceil(0.02 * steps)
    losses = []
    model.train()
    for step in range(steps):
        ids, targets = batches(step)
        logits, loss = model(ids, targets)      # guess every next token, and be told
        optimizer.zero_grad()
        loss.backward()                         # which way would each weight have helped?
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        share = (step + 1) / warmup if step < warmup else (steps - step) / steps
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * share
        optimizer.step()                        # a small step that way
        losses.append(loss.item())
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step:4}  loss {losses[-1]:.3f} nats per byte")
    return losses


@torch.no_grad()
def continue_text(model, text: bytes, new: int) -> bytes:
    """`text` and `new` more bytes, each drawn from what the model expects next."""
    model.eval()
    for _ in range(new):
        context = torch.tensor([list(text[-model.config.sequence_length:])])
        probabilities = model(context)[0][0, -1].softmax(0)
        text += bytes([int(torch.multinomial(probabilities, 1))])
    return text


def learn_bytes(text: bytes, steps: int) -> GPT:
    """A GPT of two layers that has read `steps` batches of 16 pieces of `text`, drawn at random."""
    data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=256, sequence_length=128, layers=2, width=96, heads=3))

    def batches(step: int):
        starts = torch.randint(len(data) - 128, (16, 1))
        rows = data[starts + torch.arange(129)]                 # (B, T + 1)
        return rows[:, :-1], rows[:, 1:]                        # the target is the next byte

    train(model, batches, steps, learning_rate=4e-3)
    return model


def main() -> None:
    """Train on the files named, or on this repository's lessons, and show what was learned."""
    parser = CommandLine(__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="texts to read (default: the lessons)")
    lessons = sorted(Path(__file__).resolve().parent.parent.glob("0*/README.md"))
    text = b"\n".join(path.read_bytes() for path in parser.parse_args().files or lessons)
    if len(text) < 1000:
        raise BadInput(f"{len(text)} bytes are too few to learn from: give a text of 1,000 or more")
    print(f"{len(text):,} bytes; a model that knows nothing would need {math.log(256):.3f} nats "
          "each")
    torch.set_num_threads(1)        # so small a model gains nothing from threads that wait
    model = learn_bytes(text, steps=300)
    print(continue_text(model, b"The model ", 200).decode(errors="replace"))


if __name__ == "__main__":
    command(main)
