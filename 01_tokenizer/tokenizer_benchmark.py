"""How fast are a hundred readable lines? Our trainers and encoder beside the compiled ones.

    python 01_tokenizer/tokenizer_benchmark.py              5 MB, under a minute
    python 01_tokenizer/tokenizer_benchmark.py --megabytes 50 --vocab 8192 32768    several minutes

The text is Python source of the installed packages, documents joined by <|endoftext|>. All numbers
are CPU seconds of one process, contestants take turns, the best of --repeats counts, and every
output is compared before a number is printed. The peers tokenizers, tiktoken, rustbpe, gigabpe and
regex take part if they are installed; nothing else here needs them. Writes
out/01_tokenizer/benchmark.json. Left out: several processes, whose sum of work is the same.
"""

import argparse
import importlib
import json
import os
import random
import tempfile
import time
import unicodedata
from pathlib import Path
from typing import Callable

os.environ.setdefault("RAYON_NUM_THREADS", "1")           # HF on one thread, as we are

import numpy as np

from artifacts import CommandLine, command, out, shown, within, write_json
from bpe import Tokenizer
from bpe_cells import train_cells
from bpe_hybrid import train_hybrid
from bpe_training import train_bpe, train_textbook
from docstrings import source_files
from byte_alphabet import unprintable
from pretokenize import PATTERNS, compiled, count_pretokens, split

END = "<|endoftext|>"


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--megabytes", type=within(above=0), default=5, help="size of the text")
    parser.add_argument("--vocab", type=int, nargs="+", default=[8192], help="vocabulary sizes")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS),
                        help="sections to run")
    parser.add_argument("--repeats", type=int, default=2, help="turns; the best one counts")
    parser.add_argument("--out", type=Path, default=out("01_tokenizer", "benchmark.json"))
    parser.add_argument("--quick", action="store_true", help="1 MB")
    args = parser.parse_args()
    if args.quick:
        args.megabytes = 1
    documents = python_sources(int(args.megabytes * 1e6))
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in args.only:
        for label, value in SECTIONS[name](documents, args).items():
            results[label] = value
    write_json(args.out, results)
    print(f"wrote {shown(args.out)}")


def python_sources(limit: int) -> list[str]:
    """Source files of the installed packages, in an order that is random but always the same.

    Without files that spell the end mark, or a letter newer than this Python's Unicode: there the
    contestants would rightly differ.
    """
    documents, total = [], 0
    for _, path in source_files():
        if total >= limit:
            break
        text = path.read_bytes().decode("utf-8", "replace")
        unknown = (unicodedata.category(c) == "Cn" for c in set(text) if not c.isascii())
        if END not in text and not any(unknown):
            documents.append(text)
            total += path.stat().st_size
    return documents


def peer(name: str):
    """The module of a peer, or None if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"({name} is not installed: left out)")
        return None


def turns(contestants: dict[str, Callable], repeats: int) -> tuple[dict[str, float], dict]:
    """The least CPU seconds of each contestant, who take turns, and what each returned."""
    seconds, results = {}, {}
    for _ in range(repeats):
        for name, run in contestants.items():
            begin = time.process_time()
            results[name] = run()
            spent = time.process_time() - begin
            seconds[name] = min(spent, seconds.get(name, spent))
    return seconds, results


def show(title: str, seconds: dict[str, float], against: str, faster: bool = False) -> dict:
    """Print and return the seconds and the ratio to one contestant, of time or of speed."""
    print(title)
    table = {}
    for name, value in seconds.items():
        ratio = None
        if against in seconds:
            ratio = seconds[against] / value if faster else value / seconds[against]
        table[name] = {"cpu_seconds": round(value, 4), "ratio": ratio and round(ratio, 3)}
        print(f"  {name:28s} {value:9.3f} s" + (f"   {ratio:5.2f} x {against}" if ratio else ""))
    return {title: table}


def training(documents: list[str], args: argparse.Namespace) -> dict:
    """Text in memory to merges: ours by three rungs, HF's and rustbpe's trainer."""
    tables, joined = {}, END.join(documents)
    hf, rust, giga = peer("tokenizers"), peer("rustbpe"), peer("gigabpe")
    megabytes = len(joined.encode()) / 1e6
    # gigabpe reads files, splits them at line feeds, and knows no special token in them.
    lines = [line + "\n" for text in documents for line in text.removesuffix("\n").split("\n")]

    def ours(trainer: Callable, size: int) -> list:
        counts = count_pretokens([joined], special_tokens=[END])
        return train_bpe(counts, size, [END], "smallest_ids", trainer=trainer)[1]

    for size in args.vocab:
        contestants = {"ours, cells (taught)": lambda: ours(train_cells, size),
                       "ours, hybrid (fast)": lambda: ours(train_hybrid, size)}
        if hf:
            contestants["HF tokenizers"] = lambda: train_hf(hf, documents, size)
        if giga:
            contestants["gigabpe (by lines)"] = lambda: train_giga(giga, lines, size)
        if rust:
            contestants["rustbpe"] = lambda: train_rust(rust, documents, size)
        seconds, merges = turns(contestants, args.repeats)
        assert merges["ours, cells (taught)"] == merges["ours, hybrid (fast)"]
        if hf:
            assert merges["ours, hybrid (fast)"] == merges["HF tokenizers"], "merges differ from HF"
        if giga:
            by_lines = train_bpe(count_pretokens(lines), size, [END], "smallest_ids")[1]
            assert merges["gigabpe (by lines)"] == by_lines, "merges differ from gigabpe"
        if rust:
            assert merges["rustbpe"] == as_rustbpe(joined, size), "tokens differ from rustbpe"
        tables |= show(f"training, {megabytes:.0f} MB, {size:,} tokens, merges equal", seconds,
                       "HF tokenizers")
    # The textbook loop only finishes on small jobs.
    small = [joined[:130_000]]
    seconds, merges = turns({name: lambda t=trainer: train_bpe(count_pretokens(
        small, special_tokens=[END]), 500, trainer=t)[1] for name, trainer in (
            ("textbook", train_textbook), ("cells", train_cells), ("hybrid", train_hybrid))},
        args.repeats)
    assert merges["textbook"] == merges["cells"] == merges["hybrid"]
    return tables | show("training, 130 KB, 500 tokens, merges equal", seconds, "textbook")


def train_hf(hf, documents: list[str], size: int) -> list[tuple[bytes, bytes]]:
    """The merges of HF's Rust trainer on one thread, documents in memory: its fastest feed."""
    tokenizer = hf.Tokenizer(hf.models.BPE())
    tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(documents, hf.trainers.BpeTrainer(
        vocab_size=size, special_tokens=[END], show_progress=False,
        initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet()))
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(unprintable(a), unprintable(b)) for a, b in merges]


def train_giga(giga, lines: list[str], size: int) -> list[tuple[bytes, bytes]]:
    """The merges of gigabpe on one thread; writing the file that it reads is in its time."""
    text = "".join(lines).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "text.txt")
        path.write_bytes(text)
        # Its vocabulary begins with the bytes that occur, ours with all 256.
        merges = giga.train_bpe([str(path)], vocab_size=size - 256 + len(set(text)),
                                pretokenizer="bytelevel", special_tokens=[END], threads=1)[1]
    return [(unprintable(a), unprintable(b)) for a, b in merges]


def train_rust(rust, documents: list[str], size: int) -> list[bytes]:
    """The tokens of rustbpe's trainer, in order of rank."""
    tokenizer = rust.Tokenizer()
    tokenizer.train_from_iterator(iter(documents), size - 1, pattern=PATTERNS["gpt2"])
    return [bytes(token) for token, _ in tokenizer.get_mergeable_ranks()]


def as_rustbpe(joined: str, size: int) -> list[bytes]:
    """The same by ours, which only needs its rule: the smallest ids, bytes by their value."""
    counts = count_pretokens([joined], special_tokens=[END])
    tokens = [bytes([b]) for b in range(256)]
    train_hybrid({piece.encode(): n for piece, n in counts.items()}, size - 257, list(range(256)),
                 lambda a, b: a << 32 | b, lambda a, b: tokens.append(tokens[a] + tokens[b]))
    return tokens


def coding(documents: list[str], args: argparse.Namespace) -> dict:
    """Encoding and decoding beside tiktoken, both with the vocabulary trained here."""
    counts = count_pretokens(documents)
    vocab, merges = train_bpe(counts, 50_256, tie="smallest_ids")
    tokenizer = Tokenizer(vocab, merges)

    def cold() -> list[np.ndarray]:
        tokenizer.forget()
        return [tokenizer.encode_to_numpy(text) for text in documents]

    encoders = {"ours, cold cache": cold,
                "ours, warm cache": lambda: [tokenizer.encode_to_numpy(t) for t in documents]}
    tiktoken = peer("tiktoken")
    if tiktoken:
        theirs = tiktoken.Encoding("ours", pat_str=PATTERNS["gpt2"],
                                   mergeable_ranks={token: i for i, token in vocab.items()},
                                   special_tokens={END: len(vocab)})    # none at all: slower
        # Without its search for special tokens: its fastest way.
        encoders["tiktoken"] = lambda: [theirs.encode_to_numpy(text, disallowed_special=())
                                        for text in documents]
    seconds, results = turns(encoders, args.repeats)
    same = list(results.values())
    assert all(np.array_equal(a, b) for other in same[1:] for a, b in zip(same[0], other))
    megabytes = sum(len(text.encode()) for text in documents) / 1e6
    tables = show(f"encoding to numpy, {megabytes:.0f} MB, ids equal", seconds, "tiktoken", True)
    ids = [array.tolist() for array in same[0]]
    decoders = {"ours": lambda: [tokenizer.decode(x) for x in ids]}
    if tiktoken:
        decoders["tiktoken"] = lambda: [theirs.decode(x) for x in ids]
    seconds, results = turns(decoders, args.repeats)
    assert all(texts == documents for texts in results.values())
    tables |= show(f"decoding, {megabytes:.0f} MB, text equal", seconds, "tiktoken", True)
    return tables | hard_pieces(tokenizer, theirs if tiktoken else None, args.repeats)


def hard_pieces(tokenizer: Tokenizer, theirs, repeats: int) -> dict:
    """One pre-token of 100 KB, and of 1 MB: nothing may take minutes."""
    rng = random.Random(0)
    pieces = {"one letter": "a" * 100_000, "spaces": " " * 100_000, "digits":
              "".join(rng.choices("0123456789", k=100_000)), "letters": "".join(rng.choices(
                  "abcdefghijklmnopqrstuvwxyz", k=100_000)),
              "=- halves": "=" * 50_000 + "-" * 50_000,
              "CJK": "".join(chr(rng.randint(0x4e00, 0x9fff)) for _ in range(33_000)),
              "emoji": "🙂" * 25_000, "one letter, 1 MB": "a" * 1_000_000}
    seconds, ids = turns({name: lambda p=piece: tokenizer.encode(p) for name, piece in
                          pieces.items()}, repeats)
    for name, piece in pieces.items():
        assert theirs is None or ids[name] == theirs.encode(piece), name
    return show("one piece of 100 KB, ids equal", seconds, "")


def splitting(documents: list[str], args: argparse.Namespace) -> dict:
    """Our two patterns on `re` beside the same patterns on the regex package."""
    regex, tables = peer("regex"), {}
    emoji = [" 🙂 ".join(text[k:k + 200] for k in range(0, len(text), 200)) for text in documents]
    for pattern in PATTERNS:
        for kind, texts in (("plain", documents), ("with emoji", emoji)):
            compiled(pattern), compiled(pattern, True)
            runs = {"ours on re": lambda: [len(split(text, pattern)) for text in texts]}
            if regex:
                theirs = regex.compile(PATTERNS[pattern]).findall
                runs["regex"] = lambda: [len(theirs(text)) for text in texts]
            seconds, pieces = turns(runs, args.repeats)
            assert len({tuple(counted) for counted in pieces.values()}) == 1
            tables |= show(f"splitting, {pattern}, {kind}, pieces equal", seconds, "regex", True)
    return tables


SECTIONS = {"training": training, "coding": coding, "splitting": splitting}

if __name__ == "__main__":
    command(main)
