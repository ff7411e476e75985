"""Train the byte-level BPE tokenizer of this repository.

    python 01_tokenizer/train_tokenizer.py                  about half a minute on two cores

Reads: the documentation inside the installed packages; or --text FILES (UTF-8, a document each); or
--corpus out/02_data/corpus.jsonl.gz. Writes out/01_tokenizer/tokenizer.json, which HF tokenizers
opens too.
"""

import argparse
import gzip
import json
import time
import zlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Iterable, Iterator

from tqdm import tqdm

from artifacts import BadInput, CommandLine, Job, command, need, out, shown, within, write_json
from bpe import Tokenizer, train_bpe
from bpe_shapes import report_shapes
from docstrings import Document, sample_documentation
from byte_alphabet import printable
from pretokenize import count_pretokens, read_text
from tokenizer_figures import draw_compression, draw_merges, draw_tokens

SIDE_FILES = ("merges.png", "tokens.png", "compression.png", "compression.json", "shapes.json")
SPECIAL_TOKENS = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>")


def main() -> None:
    parser = CommandLine(__doc__)
    source = parser.add_argument_group("the text (default: documentation of installed packages)")
    either = source.add_mutually_exclusive_group()
    either.add_argument("--text", nargs="+", type=Path, metavar="FILE",
                        help="UTF-8 text files, each one document")
    either.add_argument("--corpus", type=Path, help="documents of chapter 2, a .jsonl(.gz) file")
    source.add_argument("--megabytes", type=within(above=0), default=8,
                        help="size of the default text")
    source.add_argument("--errors", choices=("strict", "replace"), default="strict",
                        help="bytes of --text that are not UTF-8: stop, or take U+FFFD for them")
    model = parser.add_argument_group("the tokenizer")
    model.add_argument("--vocab-size", type=within(int, low=1), default=4096,
                       help="tokens in all, with the 256 bytes and the special tokens")
    model.add_argument("--pattern", choices=("gpt2", "gpt4"), default="gpt2",
                       help="how text is split before merging")
    model.add_argument("--special", nargs="*", default=list(SPECIAL_TOKENS), metavar="TOKEN",
                       help="tokens that are never split nor merged")
    model.add_argument("--tie", choices=("greatest", "smallest_ids"), default="greatest",
                       help="which of two pairs of equal count is merged first")
    run = parser.add_argument_group("this run")
    run.add_argument("--out", type=Path, default=out("01_tokenizer", "tokenizer.json"))
    run.add_argument("--workers", type=within(int, low=1), default=2, help="processes")
    run.add_argument("--seed", type=int, default=0, help="unused: training has no randomness")
    run.add_argument("--quick", action="store_true", help="2 MB of text")
    run.add_argument("--fresh", action="store_true", help="make it again even if up to date")
    args = parser.parse_args()
    if args.quick:
        args.megabytes = min(args.megabytes, 2)
    inputs = list(args.text or []) + ([args.corpus] if args.corpus else [])
    job = Job(__file__, vars(args), reads=inputs, writes=[args.out, *(
        args.out.parent / name for name in SIDE_FILES)])
    if job.up_to_date():
        return

    train_bpe({}, args.vocab_size, args.special)      # what cannot work is said before the reading
    begin = time.perf_counter()
    seen = Seen()
    documents = seen.watch(tqdm(read_documents(args), desc="reading", unit=" documents",
                                leave=False))
    # Reading the packages keeps both processes busy already; files and corpora are counted by both.
    workers = args.workers if args.text or args.corpus else 1
    counts = count_pretokens(documents, args.pattern, args.special, workers, args.errors)
    if not counts:
        raise BadInput("the text is empty: there is nothing to learn merges from")
    vocab, merges = train_bpe(counts, args.vocab_size, args.special, args.tie)
    if len(vocab) < args.vocab_size:
        raise BadInput(f"this text allows only {len(vocab)} tokens: pass --vocab-size {len(vocab)} "
                       "or more text")
    tokenizer = Tokenizer(vocab, merges, args.special, args.pattern)
    tokenizer.save(args.out)
    print(f"{sum(seen.sizes.values()) / 1e6:.1f} MB in {seen.documents:,} documents, "
          f"{len(counts):,} distinct pre-tokens -> {tokenizer.vocab_size:,} tokens "
          f"in {time.perf_counter() - begin:.0f} s")
    show_longest(tokenizer)
    folder = args.out.parent
    numbers = draw_compression(tokenizer, seen.samples(), folder / "compression.png")
    print("bytes per token: " + ", ".join(f"{domain} {line[tokenizer.vocab_size]:.2f}"
                                          for domain, line in numbers.items()))
    draw_tokens(tokenizer, folder / "tokens.png")
    draw_merges(folder / "merges.png")
    write_json(folder / "compression.json", numbers)
    report_shapes(tokenizer, folder / "shapes.json")
    print(f"wrote {shown(args.out)}, and tokens.png and compression.png beside it\n"
          'next: python 01_tokenizer/show_tokens.py "any text"')
    job.done()


class Seen:
    """What went by on its way to the counter: documents, sizes, and the start of every domain.

    Text streams through, so that memory holds the distinct pre-tokens and these samples only.
    """

    def __init__(self, sample_size: int = 100_000):
        self.documents, self.sample_size = 0, sample_size
        self.sizes, self.texts = Counter(), defaultdict(str)

    def watch(self, documents: Iterable[tuple[str, str | Path]]) -> Iterator[str | Path]:
        """Pass the texts and files of (domain, text or file) on, and note them."""
        for domain, item in documents:
            is_file = isinstance(item, Path)
            self.documents += 1
            self.sizes[domain] += item.stat().st_size if is_file else len(item)
            if len(self.texts[domain]) < self.sample_size:
                text = next(read_text(item, "replace"), "") if is_file else item
                self.texts[domain] += "\n" + text[:self.sample_size]
            yield item

    def samples(self, number: int = 5) -> dict[str, list[str]]:
        """The samples of the largest domains, as domain -> texts."""
        return {domain: [self.texts[domain]] for domain, _ in self.sizes.most_common(number)}


def read_documents(args: argparse.Namespace) -> Iterator[tuple[str, str | Path]]:
    """(domain, text or file) of every document that the options ask for."""
    if args.text:
        yield from ((path.name, path) for path in args.text)
    elif args.corpus:
        yield from read_corpus(args.corpus)
    else:
        yield from sample_documentation(int(args.megabytes * 1e6), args.workers)


def read_corpus(path: Path) -> Iterator[Document]:
    """(domain, text) of every line of a JSON-lines file, gzip or plain, with a "text" in each.

    Empty lines and a byte order mark, which editors and Windows leave, are no documents.
    """
    need(path, "02_data/build_corpus.py")
    with open(path, "rb") as file:
        opened = gzip.open if file.read(2) == b"\x1f\x8b" else open     # whatever its name says
    number = 0
    try:
        # utf-8-sig: without the mark. newline="\n": U+2028 inside a text ends no line.
        with opened(path, "rt", encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                record = json.loads(line)
                if not isinstance(record, dict) or not isinstance(record.get("text"), str):
                    raise ValueError(f"no text in {line[:40]!r}")
                yield str(record.get("domain") or "text"), record["text"]
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput(f"{shown(path)} is damaged at line {number or 1} ({error!r}): "
                       "mend it, or run python 02_data/build_corpus.py") from None


def show_longest(tokenizer: Tokenizer, number: int = 8) -> None:
    """Print the longest tokens that are not special, in the printable alphabet."""
    names = set(tokenizer.special_tokens.values())
    tokens = [token for i, token in tokenizer.vocab.items() if i not in names]
    longest = sorted(tokens, key=lambda token: (-len(token), token))[:number]
    print("longest tokens:  " + "  ".join(map(printable, longest)))


if __name__ == "__main__":
    command(main)
