"""What stands at the door of the pipeline: web archives, jsonl, plain text, single HTML pages.

    for kind, url, body, charset in read_source(Path("crawl.warc.gz")): ...

A file is what its first bytes say, whatever its name: an ARC file or a PDF that is called .txt is
no text. A record is (kind, url, body, charset): kind "html" or "text", or in words why it is no
page, so that it can be counted. Files of any size are read in pieces of a few megabytes.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import re
import zlib
from pathlib import Path
from typing import IO, Iterator
from urllib.parse import quote

from archive_bytes import GZIP, Problem, packing_of
from artifacts import BadInput, shown
from http_body import zstandard
from warc import START, Record, read_warc

Source = tuple[str, str, bytes, str | None]
END_OF_TEXT = "<|endoftext|>"
PACKED = (".gz", ".bz2", ".xz", ".zst")
LARGEST_PIECE = 4 << 20      # bytes; a longer text without <|endoftext|> is cut at a line end
TEXTS = (".txt", ".md", ".jsonl", ".ndjson", ".jsonlines", ".html", ".htm", ".xhtml")
PAGES = tuple(name + end for name in (".html", ".htm", ".xhtml") for end in ("", *PACKED))
ENDINGS = {"warc": (".warc", ".wet", ".arc", ".wacz", ".warc.gz", ".wet.gz", ".arc.gz",
                    ".warc.zst", ".warc.lz4", ".warc.bz2", ".warc.xz"),
           "text": (*TEXTS, *(name + end for name in (*TEXTS, ".json") for end in PACKED))}
# What other files begin with, whatever their name or the server calls them.
BINARY = ((b"%PDF-", "PDF"), (b"\x89PNG", "picture"), (b"GIF8", "picture"),
          (b"\xff\xd8\xff", "picture"), (b"PK\3\4", "zip"), (b"\x1f\x8b", "gzip"),
          (b"\xd0\xcf\x11", "Office document"), (b"\x7fELF", "program"), (b"MZ\x90", "program"),
          (b"PAR1", "Parquet table"), (b"OggS", "sound"), (b"ID3", "sound"), (b"wOFF", "font"),
          (b"wOF2", "font"), (b"RIFF", "picture or sound"), (b"SQLite format 3", "database"),
          (b"ARROW1", "Arrow table"), (b"\x93NUMPY", "numpy array"), (b"{\\rtf", "RTF document"),
          (b"%!PS", "PostScript file"), (b"\xca\xfe\xba\xbe", "program"), (b"\x89HDF", "HDF table"),
          (b"\x1aE\xdf\xa3", "film"), (b"fLaC", "sound"), (b"Obj\x01", "Avro file"),
          (b"FEA1", "Feather table"), (b"AT&TFORM", "DjVu document"), (b"II*\0", "picture"),
          (b"MM\0*", "picture"), (b"!<arch>", "archive of programs"), (b"GGUF", "model"),
          (b"\x1f\x9d", "file packed with compress"), (b"LZIP", "file packed with lzip"),
          (b"From: <Saved by", "web page saved as MHTML"), (b"MIME-Version:", "mail"))
# Types that servers send with pages too: then the page itself says what it is.
VAGUE = ("text/xml", "application/xml", "application/octet-stream", "unknown/unknown", "*/*",
         "application/unknown", "application/x-unknown-content-type", "none", "unknown", "text")
ADDRESS = re.compile(r"[^\W_]\.[^\W_]|://")
PAGE = re.compile(rb"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
WEB = re.compile(r"(?:https?|ftp|file|warc):|[^:/]*$|//", re.IGNORECASE)


def find_sources(warc: list[Path], text: list[Path]) -> list[Path]:
    """All input files, in sorted order; BadInput if a path is missing or a folder holds none.

    A folder stands for the files in it, at any depth, whose names end in one of ENDINGS.
    """
    found = []
    for kind, paths in (("warc", warc), ("text", text)):
        for path in map(Path, paths):
            if not path.exists():
                raise BadInput(f"{shown(path)} does not exist: give a {kind} file or folder, "
                               "or run python 02_data/crawl.py to make the embedded crawl")
            files = sorted(f for f in path.rglob("*")
                           if f.name.lower().endswith(ENDINGS[kind]) and f.is_file()) \
                if path.is_dir() else [path]
            if not files:
                raise BadInput(f"{shown(path)} holds no {' or '.join(ENDINGS[kind])} file")
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


def format_of(path: Path) -> str:
    """"archive", "jsonl", "html" or "text": what a file is by its first bytes, then by its name.

    BadInput, with the name of the format, for what is none of these.
    """
    name = path.name.lower()
    named_archive = name.endswith(ENDINGS["warc"]) or (
        (".warc" in name or ".wet" in name) and not name.endswith(ENDINGS["text"]))
    head = first_bytes(path)
    if named_archive or packing_of(head) or START.match(head) or head.startswith(b"filedesc://"):
        return "archive"         # open_archive undoes its packing, or says which one it is
    kind = next((kind for magic, kind in BINARY if head.startswith(magic)), None)
    if head[257:262] == b"ustar":
        kind = "tar archive"
    elif kind == "gzip":
        raise BadInput(f"{shown(path)} is a gzip file that breaks off, or is damaged: fetch it "
                       "again")
    elif head.startswith((b"\xff\xfe", b"\xfe\xff")) and begins_like_a_page(
            head.replace(b"\0", b"")[2:]):
        return "html"
    elif not kind and head.lstrip().startswith((b"<?xml", b"<svg")) \
            and not begins_like_a_page(head):
        kind = "XML file"
    elif not kind and head.count(0) > len(head) / 100:
        wide = head.startswith((b"\xff\xfe", b"\xfe\xff"))
        kind = "text in UTF-16" if wide else "file with zero bytes"
    if kind:
        raise BadInput(f"{shown(path)} is a {kind}, not text in UTF-8: leave it out, or give what "
                       "it holds as .jsonl, .txt, .html or .warc.gz")
    if holds_json(head) or any(x in (".jsonl", ".json", ".ndjson", ".jsonlines")
                               for x in Path(name).suffixes[-2:]):
        return "jsonl"
    named_page = name.endswith(PAGES) and head.lstrip().startswith(b"<")
    return "html" if named_page or begins_like_a_page(head) else "text"


def first_bytes(path: Path, count: int = 4096) -> bytes:
    """How a file begins once it is unpacked; as it lies there if that cannot be done."""
    try:
        with _opened(path) as file:
            return file.read(count)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        with open(path, "rb") as file:
            return file.read(count)


def holds_json(head: bytes) -> bool:
    """Is the first line an object with a "text"? Of a longer line the beginning says it."""
    line, ended, _ = head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    if not line.startswith(b"{") or b'"text"' not in line:
        return False
    try:
        return isinstance(json.loads(line), dict) if ended else True
    except (ValueError, RecursionError):
        return False


def begins_like_a_page(head: bytes) -> bool:
    """Is the first tag one of a page's, after blanks, remarks and an XML declaration?"""
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    while head.startswith((b"<!--", b"<?xml")):
        end = b"-->" if head.startswith(b"<!--") else b"?>"
        head = head.partition(end)[2].lstrip()
    return bool(PAGE.match(head))


def read_source(path: Path, address: str = "", verify_digests: bool = False) -> Iterator[Source]:
    """The records of one source: (kind, url, body, charset); kind "html", "text", or why not.

    `address` (of `addresses`; default: made from the name) stands for the URL of records without
    one, with their number or offset in the file.

    With `verify_digests`, records of an archive whose bytes are not what their digest was made of
    are "damaged record". WARC responses that carry HTML are "html", WET conversions "text".
    A jsonl line gives "text" and perhaps "url"; an HTML file is one page; a plain text file is cut
    at lines that hold only <|endoftext|>.
    """
    address, form = address or addresses([path])[0], format_of(path)
    if form == "archive":
        yield from _read_archive(path, address, verify_digests)
    elif form == "jsonl":
        with _opened(path) as lines:
            yield from _read_jsonl(path, lines, address)
    elif form == "html":
        with _opened(path) as file:
            yield "html", address, file.read(16 << 20), None
    else:
        with _opened(path) as lines:
            for i, piece in enumerate(pieces_of(lines)):
                try:
                    piece.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise BadInput(f"{shown(path)} is not UTF-8 text (byte {error.start} of piece "
                                   f"{i}): convert it, for example with iconv, or give HTML pages "
                                   "inside a WARC file")
                yield "text", f"{address}#{i}", piece, None


def _opened(path: Path) -> IO[bytes]:
    """A file for reading, unpacked if this Python can do it (gzip, bzip2, xz, in 3.14 zstd)."""
    with open(path, "rb") as file:
        head = file.read(6)
    openers = {GZIP: gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open,
               **({b"\x28\xb5\x2f\xfd": zstandard().open} if zstandard() else {})}
    return next((opener for magic, opener in openers.items() if head.startswith(magic)),
                open)(path, "rb")


def pieces_of(lines: io.BufferedReader | gzip.GzipFile,
              largest: int = LARGEST_PIECE) -> Iterator[bytes]:
    """A text file in documents, cut at lines that hold only <|endoftext|>, without those lines.

    A document of over `largest` bytes is cut at its next line end, an endless line anywhere between
    two characters of UTF-8. Memory holds one piece. b"a\\n<|endoftext|>\\nb" -> b"a", b"b"
    """
    piece, size, mark = [], 0, END_OF_TEXT.encode()
    if lines.peek(3).startswith(b"\xef\xbb\xbf"):          # a byte-order mark is no text
        lines.read(3)
    while line := lines.readline(1 << 20):
        if line.strip() == mark:
            yield b"".join(piece).removesuffix(b"\n").removesuffix(b"\r")
            piece, size = [], 0
            continue
        for _ in range(3 if not line.endswith(b"\n") else 0):      # not inside a character
            if line[-1] >= 0x80 and (rest := lines.peek(1)[:1]) and rest[0] & 0xC0 == 0x80:
                line += lines.read(1)
        piece.append(line)
        size += len(line)
        if size >= largest and (line.endswith(b"\n") or size >= 2 * largest):
            yield b"".join(piece)
            piece, size = [], 0
    if piece:
        yield b"".join(piece)


def _read_archive(path: Path, address: str, verify: bool) -> Iterator[Source]:
    problems: list[Problem] = []
    for record in read_warc(path, problems, verify_digests=verify):
        if (kind := record_kind(record)) is not None:
            yield kind, record.url or f"{address}#{record.offset}", record.payload, record.charset
    for problem in problems:
        if " of an unknown kind" in problem.reason:
            continue                    # a digest that we cannot check: its page is kept
        packed = problem.reason.startswith("packed with")
        where = f"{path.name} byte {problem.offset}: {problem.reason}"
        yield problem.reason if packed else "damaged record", where, b"", None


def _read_jsonl(path: Path, lines: IO[bytes], address: str) -> Iterator[Source]:
    good = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
            text, url = value["text"], address_in(value)
            # "N/A" or "-" in every line is no address
            yield "text", url if ADDRESS.search(url) else f"{address}#{number}", \
                text.encode("utf-8", "replace"), None
            good += 1
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            yield "broken line", f"{address}#{number}", b"", None
    if not good:
        raise BadInput(f'{shown(path)} has no line of the form {{"text": "..."}}: is it jsonl?')


def address_in(value: dict) -> str:
    """The "url" of a jsonl line, or of its "metadata" or "meta" (datatrove, RedPajama), else ""."""
    for within in (value, value.get("metadata"), value.get("meta")):
        if isinstance(within, dict) and isinstance(within.get("url"), str):
            return within["url"]
    return ""


def records_of(path: Path, address: str = "", alone: bool = True,
               verify_digests: bool = False) -> Iterator[Source]:
    """The records of one source of a run; an unreadable file among many is one record that says so.

    What was read before it broke off stays. BadInput if the source is `alone`: nothing else to do.
    """
    try:
        yield from read_source(path, address, verify_digests)
    except (BadInput, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if alone:
            raise error if isinstance(error, (BadInput, OSError)) else BadInput(
                f"{shown(path)} breaks off ({error}): fetch it again")
        yield "unreadable file", f"{path.name}: {error}", b"", None


def record_kind(record: Record) -> str | None:
    """What a WARC record is to us: "html", "text", why it is no page, or None to pass over it."""
    if record.type in ("revisit", "continuation"):
        return {"revisit": "revisit of a page fetched before",
                "continuation": "piece of a segmented record"}[record.type]
    if record.type not in ("response", "resource", "conversion"):
        return None           # requests, metadata, the file's own header
    if not WEB.match(record.url or ""):
        return f"not a page: {record.url.partition(':')[0][:20]}"     # urn:, dns:, screenshot:
    if record.status and record.status != 200:
        return f"HTTP status {record.status}"
    mime = record.content_type.split(";")[0].strip()
    if record.payload.startswith(tuple(magic for magic, _ in BINARY)):
        return f"not HTML: a file called {mime or 'nothing'}"
    if "html" in mime or (mime in ("", "application/http", "message/http")
                          and record.payload[:512].lstrip()[:1] == b"<") \
            or mime in VAGUE and begins_like_a_page(record.payload[:4096]):
        return "html"
    if mime == "text/plain" or (record.type == "conversion" and not mime):
        return "text"
    return f"not HTML: {mime or 'unknown type'}"
