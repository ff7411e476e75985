"""The family of models and recipes that the law is about: one rule from a width to a whole run.

    config = model_of(192, vocab_size=4096, sequence_length=256)    # 4 layers, 3 heads of 64
    rows = batch_rows(tokens=500_000, sequence_length=256)          # sequences per batch

A law only forecasts the recipe that it was fitted on. So the sweep's small models and the main
run's large one follow the same rules: depth and heads from the width, batch from the tokens,
everything else (chapter 4's `Recipe`) equal. But: the rules are for small models on few cores.
"""

from flops import training_flops
from gpt import GPTConfig

NGRAM_ROWS = 32_768         # the same table for every size: memory that costs hardly any FLOPs
PART = 1024                 # tokens per forward pass: small parts stay in a core's cache
WIDTHS = (32, 48, 64, 96, 128, 192, 256, 320, 384, 512, 640, 768)


def model_of(width: int, vocab_size: int, sequence_length: int, ngram_rows: int = NGRAM_ROWS
             ) -> GPTConfig:
    """The GPT of this width: one layer for each 48 channels (at least 2), heads of about 64, and
    always two or more, since every second one has late keys and copies. (Width 128 with 4 heads
    of 32 instead of 2 of 64: 1.2 % more bits per byte, and it copies later.)

    Width and depth grow together (Kaplan et al. 2020 found the loss flat in their ratio over a
    wide range). Width 32: 2 layers, 2 heads; 128: 3 and 2; 192: 4 and 3; 256: 5 and 4.
    """
    return GPTConfig(vocab_size=vocab_size, sequence_length=sequence_length,
                     layers=max(2, round(width / 48)), width=width,
                     heads=max(2, width // 64), tied=True, late_keys=True, ngram_rows=ngram_rows)


def batch_rows(tokens: float, sequence_length: int) -> int:
    """Sequences per batch for a run of `tokens`: about 600 updates, a power of two, 4 to 16.

    Few tokens need small batches, or there are too few updates to learn anything: 300,000 tokens
    at width 64 gave 5.01 nats in rows of 4, 5.21 of 8, 5.58 of 16. Many tokens can afford fuller
    matrices. 400,000 tokens of 256: 4; 1,000,000: 8; 4,000,000: 16.
    """
    wished = tokens / (600 * sequence_length)
    rows = 4
    while rows < 16 and rows * 2 ** 0.5 < wished:       # the nearest power of two, by ratio
        rows *= 2
    return rows


def steps_for(config: GPTConfig, budget: float) -> tuple[int, int]:
    """(steps, rows) of a run of this model that costs about `budget` FLOPs."""
    per_token = training_flops(config, 1)
    tokens = budget / per_token
    rows = batch_rows(tokens, config.sequence_length)
    return max(1, round(tokens / (rows * config.sequence_length))), rows


def parts_of(rows: int, sequence_length: int) -> int:
    """In how many parts to take a batch of these rows, for about PART tokens each."""
    return max(1, rows * sequence_length // PART)
