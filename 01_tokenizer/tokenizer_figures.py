"""Three pictures of a tokenizer: merges as cells, a text in tokens, compression by vocabulary."""

from pathlib import Path
from typing import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bpe import Tokenizer
from bpe_shapes import bytes_per_token, shrunk
from bpe_textbook import FOUR_WORDS, encode, token_bytes, train
from show_tokens import token_names

PASTELS = ("#fbd5d5", "#d5f0d5", "#d8dcf8", "#fbeec2", "#e8d5f4", "#cdeeee")
SAMPLE = """numpy.argsort(a, axis=-1, kind=None)
    Returns the indices that would sort an array.
for i in range(10):
        total += values[i] ** 2   # squared
1234567 + 89 = 1234656, 3.14159, 0x1f
unbelievable, antidisestablishmentarianism
Die Straße führt über Köln nach Zürich.
Привет, мир! Καλημέρα κόσμε."""


def draw_merges(path: Path, merges: int = 7) -> Path:
    """Draw the lesson's four words as cells, a row per merge: each cell is a token; `path`."""
    words, learned = list(dict.fromkeys(FOUR_WORDS.split())), train(FOUR_WORDS, 256 + merges)
    tokens = [token.decode("latin-1") for token in token_bytes(learned)]
    figure, axes = plt.subplots(figsize=(7.2, 0.42 * (merges + 2)), dpi=150)
    axes.set_xlim(-4.2, sum(map(len, words)) + len(words)), axes.set_ylim(merges + 0.6, -0.6)
    axes.axis("off")
    for row in range(merges + 1):
        new = 255 + row                       # the token that this row's merge made
        label = " + ".join(side.decode() for side in learned[row - 1]) if row else "bytes"
        axes.text(-0.5, row, label, family="DejaVu Sans Mono", fontsize=9, ha="right", va="center")
        column = 0
        for word in words:
            for token in encode(word, learned[:row]):
                wide = len(tokens[token])
                shade = "#fbc9a0" if token == new and row else "#dfe6f3" if token > 255 else "white"
                axes.add_patch(plt.Rectangle((column + 0.04, row - 0.36), wide - 0.08, 0.72,
                                             facecolor=shade, edgecolor="#555555", linewidth=0.8))
                axes.text(column + wide / 2, row, tokens[token], family="DejaVu Sans Mono",
                          fontsize=9, ha="center", va="center")
                column += wide
            column += 1
    return _save(figure, path)


def draw_tokens(tokenizer: Tokenizer, path: Path, text: str = SAMPLE, width: int = 64) -> Path:
    """Draw `text` with a box of changing colour behind every token; returns `path`."""
    names = token_names(tokenizer, tokenizer.encode(text))
    # Every letter gets a cell on a grid: (row, column, letter, its token's number, first of it?).
    row, column, cells = 0, 0, []
    for number, name in enumerate(names):
        if column + len(name) > width >= len(name):      # a token of bytes stays in one row
            row, column = row + 1, 0
        for k, letter in enumerate(name):
            if column == width:
                row, column = row + 1, 0
            cells.append((row, column, letter, number, k == 0))
            row, column = (row + 1, 0) if letter == "⏎" else (row, column + 1)
    figure, axes = plt.subplots(figsize=(width * 0.125, (row + 2) * 0.27), dpi=150)
    axes.set_xlim(0, width), axes.set_ylim(row + 0.6, -0.6), axes.axis("off")
    for row, column, letter, number, first in cells:
        gap = 0.1 if first else 0             # a thin line between tokens of one row
        axes.add_patch(plt.Rectangle((column + gap, row - 0.42), 1 - gap, 0.84,
                                     color=PASTELS[number % len(PASTELS)], linewidth=0))
        axes.text(column + 0.5, row, letter, family="DejaVu Sans Mono", fontsize=10,
                  color="#999999" if letter == "⏎" else "black", ha="center", va="center")
    size = len(text.encode())
    axes.set_title(f"{size} bytes in {len(names)} tokens ({size / len(names):.2f} bytes per "
                   f"token), vocabulary {tokenizer.vocab_size:,}", fontsize=9, loc="left")
    return _save(figure, path)


def draw_compression(tokenizer: Tokenizer, domains: Mapping[str, Sequence[str]],
                     path: Path) -> dict:
    """Plot bytes per token by vocabulary size, a line per domain; returns {domain: {size: x}}."""
    sizes = [256 + len(tokenizer.special_tokens)]
    while sizes[-1] < tokenizer.vocab_size:
        sizes.append(min(1 << sizes[-1].bit_length(), tokenizer.vocab_size))
    small = {size: shrunk(tokenizer, size) for size in sizes}
    numbers = {domain: {size: round(bytes_per_token(small[size], texts), 3) for size in sizes}
               for domain, texts in domains.items()}
    figure, axes = plt.subplots(figsize=(6, 3.8), dpi=150)
    for domain, line in sorted(numbers.items(), key=lambda item: -item[1][sizes[-1]]):
        axes.plot(list(line), list(line.values()), marker="o", markersize=3, label=domain)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8)
    axes.set_xlabel("vocabulary (tokens)"), axes.set_ylabel("bytes per token")
    axes.set_title("Each doubling of the vocabulary buys less", fontsize=10)
    axes.grid(alpha=0.3), axes.legend(fontsize=7, frameon=False)
    figure.tight_layout()
    _save(figure, path)
    return numbers


def _save(figure: plt.Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # No date in the file: the same tokenizer gives the same bytes.
    figure.savefig(path, metadata={"Software": None} if path.suffix == ".png" else {"Date": None})
    plt.close(figure)
    return path
