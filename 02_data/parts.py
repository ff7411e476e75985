"""Moving pages through the pipeline: sources in, part files between passes, work for every core.

A source is a WARC or WET file, a jsonl file, or plain text. Its records are worked off in parts of
a few hundred; each part becomes one file under the work folder, written whole. So a killed run goes
on with the first missing part, any number of processes gives the same bytes, several machines can
share one folder, and memory holds a few parts, never the crawl.
"""

import collections
import gzip
import hashlib
import itertools
import json
import multiprocessing
import os
import signal
import sys
import time
import zlib
from pathlib import Path
from typing import Callable, Iterable, Iterator
from urllib.parse import quote

from artifacts import BadInput, shown, whole
from warc import Problem, Record, read_warc

RECORDS_PER_PART = 256
END_OF_TEXT = "<|endoftext|>"
# What PDFs, pictures and packed files begin with, whatever the server calls them.
BINARY = (b"%PDF-", b"\x89PNG", b"GIF8", b"\xff\xd8\xff", b"PK\3\4", b"\x1f\x8b", b"\xd0\xcf\x11")


def find_sources(warc: list[Path], text: list[Path]) -> list[Path]:
    """All input files, in sorted order; BadInput if a path is missing or a folder holds none.

    A folder stands for the .warc, .warc.gz, .wet and .wet.gz files in it (in `warc`), or for the
    .txt, .jsonl and .json files (in `text`), at any depth.
    """
    endings = {"warc": (".warc", ".warc.gz", ".wet", ".wet.gz"),
               "text": (".txt", ".md", ".jsonl", ".jsonl.gz")}
    found = []
    for kind, paths in (("warc", warc), ("text", text)):
        for path in map(Path, paths):
            if not path.exists():
                raise BadInput(f"{shown(path)} does not exist: give a {kind} file or folder, "
                               "or run python 02_data/crawl.py to make the embedded crawl")
            files = sorted(f for f in path.rglob("*") if f.name.endswith(endings[kind])) \
                if path.is_dir() else [path]
            if not files:
                raise BadInput(f"{shown(path)} holds no {' or '.join(endings[kind])} file")
            found += files
    return sorted(set(found))


def addresses(sources: list[Path]) -> list[str]:
    """What a record without a URL is called: its file's path below the folder that all share.

    The path, not the name: a/part-0.jsonl and b/part-0.jsonl are two files, and the same on every
    machine. [Path("n/a/x.txt"), Path("n/b/x.txt")] -> ["file:///a/x.txt", "file:///b/x.txt"]
    """
    resolved = [path.resolve() for path in sources]
    shared = os.path.commonpath([path.parent for path in resolved])
    return [f"file:///{quote(path.relative_to(shared).as_posix())}" for path in resolved]


def read_source(path: Path, address: str = "") -> Iterator[tuple[str, str, bytes, str | None]]:
    """The records of one source: (kind, url, body, charset); kind "html", "text", or why not.

    `address` (of `addresses`; default: made from the name) stands for the URL of records without
    one, with their number or offset in the file.


    WARC responses that carry HTML are "html", WET conversions and text "text"; the rest have a kind
    that says why they are no page, so that it can be counted. A jsonl line gives "text" and perhaps
    "url"; a plain text file is cut at lines that hold only <|endoftext|>, or is one page.
    """
    name, address = path.name.lower(), address or addresses([path])[0]
    if name.endswith((".jsonl", ".jsonl.gz", ".json")):
        yield from _read_jsonl(path, address)
    elif ".warc" in name or ".wet" in name:
        problems: list[Problem] = []
        for record in read_warc(path, problems):
            if (kind := record_kind(record)) is not None:
                yield kind, record.url or f"{address}#{record.offset}", record.payload, \
                    record.charset
        for problem in problems:
            where = f"{path.name} byte {problem.offset}: {problem.reason}"
            yield "damaged record", where, b"", None
    else:
        data = path.read_bytes()
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(f"{shown(path)} is not UTF-8 text (byte {error.start}): convert it, for "
                           "example with iconv, or give HTML pages inside a WARC file")
        for i, piece in enumerate(data.split(f"\n{END_OF_TEXT}\n".encode())):
            yield "text", f"{address}#{i}", piece, None


def records_of(path: Path, address: str,
               alone: bool) -> Iterator[tuple[str, str, bytes, str | None]]:
    """The records of one source of a run; an unreadable file among many is one record that says so.

    What was read before it broke off stays. BadInput if the source is `alone`: nothing else to do.
    """
    try:
        yield from read_source(path, address)
    except (BadInput, OSError, EOFError, zlib.error) as error:
        if alone:
            raise error if isinstance(error, (BadInput, OSError)) else BadInput(
                f"{shown(path)} breaks off ({error}): fetch it again")
        yield "unreadable file", f"{path.name}: {error}", b"", None


def record_kind(record: Record) -> str | None:
    """What a WARC record is to us: "html", "text", why it is no page, or None to pass over it."""
    if record.type == "conversion":
        return "text"
    if record.type not in ("response", "resource"):
        return None           # requests, metadata, the file's own header
    if record.status and record.status != 200:
        return f"HTTP status {record.status}"
    mime = record.content_type.split(";")[0].strip()
    if record.payload.startswith(BINARY):
        return f"not HTML: a file called {mime or 'nothing'}"
    if "html" in mime or (not mime and record.payload[:512].lstrip()[:1] == b"<"):
        return "html"
    return "text" if mime == "text/plain" else f"not HTML: {mime or 'unknown type'}"


def _read_jsonl(path: Path, address: str) -> Iterator[tuple[str, str, bytes, None]]:
    opener = gzip.open if path.name.endswith(".gz") else open
    good = 0
    with opener(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                value = json.loads(line)
                text = value["text"]
                yield "text", str(value.get("url") or f"{address}#{number}"), \
                    text.encode("utf-8", "replace"), None
                good += 1
            except (ValueError, KeyError, TypeError, AttributeError):
                yield "broken line", f"{address}#{number}", b"", None
    if not good:
        raise BadInput(f'{shown(path)} has no line of the form {{"text": "..."}}: is it jsonl?')


def bounded_map(function: Callable, tasks: Iterable, workers: int,
                initializer: Callable | None = None, initargs: tuple = ()) -> Iterator:
    """`map(function, tasks)` on `workers` processes, in order, with few tasks in flight.

    multiprocessing's own imap reads all tasks at once and would hold the crawl in memory.
    """
    if workers <= 1:
        if initializer:
            initializer(*initargs)
        yield from map(function, tasks)
        return
    # spawn works alike on every system, and no lock is copied half-held
    with multiprocessing.get_context("spawn").Pool(
            workers, _start_worker, (initializer, initargs)) as pool:
        waiting: collections.deque = collections.deque()
        for task in tasks:
            waiting.append(pool.apply_async(function, (task,)))
            if len(waiting) >= 3 * workers:
                yield waiting.popleft().get()
        while waiting:
            yield waiting.popleft().get()


def _start_worker(initializer: Callable | None, initargs: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)      # Ctrl-C is for the parent, which ends us
    if initializer:
        initializer(*initargs)


def batched(items: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` items, the last one shorter: batched("abc", 2) -> ["a", "b"], ["c"]."""
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


def write_pages(path: Path, pages: Iterable[dict]) -> Path:
    """Write pages as gzipped jsonl, whole, and the same bytes each time (no date in the header)."""
    with whole(path, "wb") as raw:
        with gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as file:
            for page in pages:
                line = json.dumps(page, ensure_ascii=False)
                file.write(line.encode("utf-8", "replace") + b"\n")
    return path


def read_pages(path: Path) -> Iterator[dict]:
    """The pages of a gzipped jsonl file, in order."""
    with gzip.open(path, "rb") as file:
        for line in file:
            yield json.loads(line)


def wait_for(done: Callable[[], bool], what: str, hours: float = 24) -> None:
    """Wait until `done()`: how one process learns of others. After a minute, say for what.

    Ranks may start, and end a pass, hours apart; a day without one is an error.
    """
    began, pause, told = time.monotonic(), 0.1, False
    while not done():
        waited = time.monotonic() - began
        if waited > 3600 * hours:
            raise BadInput(f"gave up after {hours:g} hours of waiting for {what}: is every rank "
                           "running?")
        if waited > 60 and not told:
            print(f"waiting for {what}", file=sys.stderr)
            told = True
        time.sleep(pause)
        pause = min(2 * pause, 5)


def finish(work: Path, rank: int, world: int, stage: str) -> None:
    """Say that this process is through with a pass; rank 0 waits for the others."""
    (work / f"{stage}.{rank}-of-{world}").touch()
    if rank == 0:
        others = [work / f"{stage}.{r}-of-{world}" for r in range(world)]
        wait_for(lambda: all(path.exists() for path in others), f"the other ranks' {stage}")


def decide(work: Path, rank: int, stage: str, decision: Callable[[], None]) -> None:
    """Let rank 0 take a decision over all parts, once; the others wait for it."""
    done = work / f"decided.{stage}"
    if rank == 0 and not done.exists():
        decision()
        done.touch()
    wait_for(done.exists, f"rank 0 to decide what is {stage}")


def name_of(source: int, part: int) -> str:
    """The name that puts part files in input order."""
    return f"{source:05d}-{part:05d}"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
