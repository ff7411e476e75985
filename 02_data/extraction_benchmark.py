"""Our reading of web pages beside the best tools: quality, speed, long pages, archives.

    python 02_data/extraction_benchmark.py                      # archives and long pages
    python 02_data/extraction_benchmark.py --pages FOLDER       # quality and speed as well

FOLDER is laid out as Scrapinghub's article-extraction-benchmark: html/ID.html.gz, and a file
ground-truth.json with {"ID": {"articleBody": text}}. trafilatura and warcio are measured in the
same run where they can be imported; nothing else needs them. Times are CPU seconds of one process.
Writes out/02_data/extraction_benchmark.json.

On some pages of a few hundred kilobytes, Python 3.11's html.parser and the best extractors that we
tried (2026) worked for tens of seconds, or came back empty: their time grows with the square of the
page. Ours must grow with the page whatever is on it: here pages of harmless pieces show the rate,
and the functions that look ahead have tests that count what they look at.
"""

import gzip
import importlib
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Callable

from tqdm import tqdm

from artifacts import CommandLine, BadInput, command, out, read_json, shown, write_json
from extract import extract_text
from warc import WarcWriter, read_warc

# Pages of one kind of piece: repeated up to the size asked for.
PIECES = {"paragraphs": "<p>hello, </p>", "lists": "<ul><li>one</li><li>two</li></ul>",
          "tables": "<table><tr><td>x</td></tr></table>", "links": "<a href=x>link</a> ",
          "sections": "<div class=a><h2>Title</h2><p>One line, or two.</p></div>",
          "formulae": "a <math><mi>x</mi></math>, ", "code": "<pre>a = 1\n</pre>"}


def four_grams(text: str) -> Counter:
    """The bag of lower-cased word 4-grams; of a shorter text, the one row of all its words.

    "a b c d e" -> {(a b c d): 1, (b c d e): 1}
    """
    words = re.findall(r"\w+", text.lower())
    if len(words) < 4:
        return Counter([tuple(words)] if words else [])
    return Counter(zip(words, words[1:], words[2:], words[3:]))


def precision_recall(truth: str, got: str) -> tuple[float, float]:
    """Precision and recall of one page as the published scorer counts them.

    True positives are the intersection of the two bags. Two empty texts agree (1, 1); nothing
    extracted from a page that has a text is (0, 0).
    """
    wanted, found = four_grams(truth), four_grams(got)
    both = sum((wanted & found).values())
    if not wanted or not found:
        return (1.0, 1.0) if wanted == found else (0.0, 0.0)
    return both / sum(found.values()), both / sum(wanted.values())


def measure_tool(extract: Callable[[bytes], str], pages: list[tuple[bytes, str]],
                 name: str) -> dict:
    """F1 of the mean precision and the mean recall, and pages a CPU second."""
    precision = recall = seconds = 0.0
    for page, truth in tqdm(pages, desc=name, mininterval=1):
        start = time.process_time()
        text = extract(page) or ""
        seconds += time.process_time() - start
        p, r = precision_recall(truth, text)
        precision, recall = precision + p / len(pages), recall + r / len(pages)
    return {"f1": 2 * precision * recall / (precision + recall or 1), "precision": precision,
            "recall": recall, "pages_per_second": len(pages) / seconds}


def load_pages(folder: Path) -> list[tuple[bytes, str]]:
    """(page, text that a person marked) of each page in the benchmark's layout."""
    truth = read_json(folder / "ground-truth.json", "with --pages FOLDER of the benchmark")
    pages = [(gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()),
              entry["articleBody"]) for name, entry in sorted(truth.items())
             if (folder / "html" / f"{name}.html.gz").exists()]
    if not pages:
        raise BadInput(f"{shown(folder)} has no html/*.html.gz that ground-truth.json names")
    return pages


def measure_long(sizes: tuple[int, ...] = (1 << 16, 1 << 20, 1 << 22)) -> dict[str, list[float]]:
    """CPU seconds for each kind of page at each size in bytes."""
    times = {}
    for name, piece in tqdm(PIECES.items(), desc="long pages", mininterval=1):
        times[name] = []
        for size in sizes:
            page = (piece * (size // len(piece))).encode()
            start = time.process_time()
            extract_text(page)
            times[name].append(round(time.process_time() - start, 3))
    return times


def peer(name: str) -> ModuleType | None:
    """A tool to compare with; without it, or where it cannot be imported, one line says so."""
    try:
        return importlib.import_module(name)
    except Exception as error:      # a peer's broken installation may raise anything
        reason = " ".join(str(error).split())[:99]
        print(f"without {name}: {type(error).__name__}: {reason}")
        return None


def measure_archives(records: int = 20_000, rounds: int = 3) -> dict:
    """Records a CPU second, bodies read and decoded: ours, and warcio's in the same run; the best
    of `rounds` that take turns."""
    body = b"<html><body>" + b"<p>A paragraph of an ordinary page.</p>" * 60 + b"</body></html>"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pages.warc.gz"
        with WarcWriter(path) as warc:
            for i in range(records):
                warc.response(f"https://site.example/{i}", body + b"%d" % (i * 7919))

        def ours() -> int:
            return sum(len(record.payload) for record in read_warc(path))

        def warcio() -> int:
            iterator = peer("warcio.archiveiterator").ArchiveIterator
            with open(path, "rb") as file:
                return sum(len(record.content_stream().read()) for record in iterator(file))

        tools, best = {"ours": ours}, {}
        if peer("warcio.archiveiterator"):
            tools["warcio"] = warcio
        for _ in range(rounds):
            for name, tool in tools.items():
                start = time.process_time()
                tool()
                rate = (records + 1) / (time.process_time() - start)
                best[name] = max(best.get(name, 0), rate)
    return best


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--pages", type=Path, help="folder of pages with their marked texts")
    parser.add_argument("--out", type=Path, default=out("02_data", "extraction_benchmark.json"))
    parser.add_argument("--quick", action="store_true", help="smaller archives and pages")
    args = parser.parse_args()
    result: dict = {"archives": measure_archives(3000 if args.quick else 20_000),
                    "long pages": measure_long((1 << 14, 1 << 16) if args.quick else
                                               (1 << 16, 1 << 20, 1 << 22))}
    for name, rate in result["archives"].items():
        print(f"archives   {name:12} {rate:10,.0f} records/s")
    for name, times in result["long pages"].items():
        print(f"long pages {name:20} " + "  ".join(f"{t:6.2f} s" for t in times))
    if args.pages:
        pages = load_pages(args.pages)
        result["extraction"] = {"ours": measure_tool(extract_text, pages, "ours")}
        if trafilatura := peer("trafilatura"):
            result["extraction"]["trafilatura"] = measure_tool(
                lambda page: trafilatura.extract(page, include_comments=False), pages, "peer")
        for name, row in result["extraction"].items():
            print(f"extraction {name:12} F1 {row['f1']:.4f}  precision {row['precision']:.4f}  "
                  f"recall {row['recall']:.4f}  {row['pages_per_second']:.0f} pages/s")
    write_json(args.out, result)
    print(f"wrote {shown(args.out)}")


if __name__ == "__main__":
    command(main)
