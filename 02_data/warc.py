"""Web archives (WARC 1.0 and 1.1, WET): read record by record, and write.

    for record in read_warc("crawl.warc.gz"):
        print(record.type, record.url, len(record.payload), record.offset)

A WARC file is a row of records: a line `WARC/1.1`, header lines, an empty line, `Content-Length`
bytes, two line ends. In a `.warc.gz` each record is a gzip member of its own, so that one can be
fetched by its offset. Crawls are dirty: lengths lie, files break off, members are damaged. A record
that cannot be trusted is skipped, noted in `problems` by offset, and reading goes on at the next.

Memory holds one record at a time. It leaves out: joining segmented records (nobody writes them),
and looking up the page that a revisit record stands for (its own payload is empty).
"""

import base64
import hashlib
import re
import uuid
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Iterator

from artifacts import BadInput, shown, whole
from http_body import LIMIT, BadBody, Headers, end_of_headers, parse_headers, split_response

START = re.compile(rb"WARC/[01]\.\d+[ \t]*\r?\n")
NEXT = re.compile(rb"(?:\r?\n)+(?=WARC/[01]\.\d+[ \t]*\r?\n)")
CHUNK = 1 << 16
NO_HEADERS = Headers()
HEADER_LIMIT = 1 << 20    # bytes of one header block


@dataclass(slots=True)
class Record:
    """One record. `headers` are the WARC header fields; a response has `status` and
    `http_headers` too, and `payload` is its body with chunks and compression undone."""
    type: str
    url: str | None
    headers: Headers
    payload: bytes
    offset: int
    status: int = 0
    http_headers: Headers = field(default_factory=lambda: NO_HEADERS)

    @property
    def content_type(self) -> str:
        """What the payload is, in lower case: "text/html; charset=utf-8", "" if not told."""
        inner = self.http_headers.get("content-type")
        if inner is None and not self.status:
            inner = self.headers.get("content-type")
        return (inner or "").lower()

    @property
    def charset(self) -> str | None:
        """The charset that the server declared, if any."""
        found = re.search(r"charset\s*=\s*[\"']?([^\s\"';,]+)", self.content_type)
        return found[1] if found else None


@dataclass(frozen=True)
class Problem:
    """Something skipped: where in the file (bytes), and why."""
    offset: int
    reason: str


class _Window:
    """The decompressed bytes around the place being read, filled from the file as needed."""

    def __init__(self, file: IO[bytes], problems: list[Problem]):
        head = file.read(CHUNK)
        file.seek(0)
        self.gzipped = head.startswith(b"\x1f\x8b") or (b"\x1f\x8b\x08" in head
                                                       and not START.search(head))
        self.pieces = _members(file, problems) if self.gzipped else _plain(file)
        self.data, self.at, self.dropped, self.ended = b"", 0, 0, False
        self.members: list[tuple[int, int]] = []      # (position in all bytes, offset in the file)

    def have(self, end: int) -> bool:
        """Make `data[at:at + end]` available; False if the file ends before."""
        if len(self.data) - self.at >= end or self.ended:
            return len(self.data) - self.at >= end
        parts, size = [self.data[self.at:]], len(self.data) - self.at
        self.dropped, self.at = self.dropped + self.at, 0
        while size < end and (piece := next(self.pieces, None)) is not None:
            self.members.append((self.dropped + size, piece[0]))
            parts.append(piece[1])
            size += len(piece[1])
        self.ended = size < end
        self.data = b"".join(parts)
        return size >= end

    def more(self) -> bool:
        """Make as much again available, so that asking often costs little; False at the end."""
        size = len(self.data) - self.at
        self.have(2 * size + 4096)
        return len(self.data) - self.at > size

    def offset(self) -> int:
        """The place being read as an offset in the file; in gzip, that of its member."""
        here = self.dropped + self.at
        if not self.gzipped:
            return here
        while len(self.members) > 1 and self.members[1][0] <= here:
            self.members.pop(0)
        return self.members[0][1] if self.members else 0

    def skip_to_record(self) -> bool:
        """Go to the next line that starts a record; False if there is none."""
        while True:
            found = START.search(self.data, self.at)
            if found:
                self.at = found.start()
                return True
            self.at = max(self.at, len(self.data) - 12)    # half a start line may be here
            if not self.more():
                return False


def _plain(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while chunk := file.read(1 << 20):
        yield offset, chunk
        offset += len(chunk)


def _members(file: IO[bytes], problems: list[Problem]) -> Iterator[tuple[int, bytes]]:
    """(offset of the gzip member, decompressed bytes), a member in one piece or in several.

    A damaged member is noted and skipped up to the next place that looks like a member's start.
    """
    waiting, start = file.read(CHUNK), 0
    while waiting:
        if not waiting.startswith(b"\x1f\x8b\x08"):
            found = waiting.find(b"\x1f\x8b\x08")
            if found < 0:                       # the two last bytes may be half a magic number
                start += max(len(waiting) - 2, 0)
                fresh = file.read(CHUNK)
                waiting = waiting[-2:] + fresh if fresh else b""
                continue
            waiting, start = waiting[found:], start + found
        inflater, used = zlib.decompressobj(31), 0
        try:
            while True:
                # at most 16 MB at a time, so that no member, however built, fills the memory
                piece = inflater.decompress(waiting, 1 << 24)
                if piece:
                    yield start, piece
                if inflater.eof:
                    break
                used += len(waiting) - len(inflater.unconsumed_tail)
                waiting = inflater.unconsumed_tail or file.read(CHUNK)
                if not waiting:
                    problems.append(Problem(start, "the file ends inside this gzip member"))
                    return
            start += used + len(waiting) - len(inflater.unused_data)
            waiting = inflater.unused_data or file.read(CHUNK)
        except zlib.error:
            problems.append(Problem(start, "damaged gzip member"))
            waiting, start = waiting[1 if not used else 0:], start + max(used, 1)


def _body(window: _Window, length: int) -> bytes | None:
    """`length` bytes and the line ends after them; None if they are not what follows.

    Then the window stands where the search for the next record should begin.
    """
    if not window.have(length):
        return None
    end = window.at + length
    body = window.data[window.at:end]
    if window.gzipped and len(window.data) - end == 4 and window.data.endswith(b"\r\n\r\n"):
        window.at = end + 4                    # the record fills its member, as it should
        return body
    tail = 0
    while window.have(length + tail + 1) and tail < 8 \
            and window.data[window.at + length + tail] in b"\r\n":
        tail += 1
    at_end = not window.have(length + tail + 1)
    if not at_end and tail < 2:                # two line ends belong there
        return None
    if not at_end and not START.match(window.data, window.at + length + tail):
        window.have(length + tail + 12)        # the start line may sit on the edge of the window
        if not START.match(window.data, window.at + length + tail):
            return None
    window.at += length + tail
    return body


def _clean_url(url: str | None) -> str | None:
    """Archives by wget write <url>; some leave blanks in it."""
    return url.strip("<> ").replace(" ", "%20") if url else None


def digest(data: bytes, algorithm: str = "sha1") -> str:
    """A digest as WARC writes it: digest(b"") -> "sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"."""
    return f"{algorithm}:{base64.b32encode(hashlib.new(algorithm, data).digest()).decode()}"


def _wrong_digest(headers: Headers, block: bytes) -> str | None:
    """Why the block is not what the digests in its headers say; None if it is, or none is told."""
    end, start = end_of_headers(block)
    for name, data in (("WARC-Block-Digest", block),
                       ("WARC-Payload-Digest", block[start:] if end >= 0 else block)):
        algorithm, _, value = headers.get(name, "").partition(":")
        if value and algorithm.lower() in ("sha1", "sha256", "md5"):
            raw = hashlib.new(algorithm.lower(), data).digest()
            if value.lower() not in (raw.hex(), base64.b32encode(raw).decode().lower()):
                return f"{name} does not match"
    return None


def read_warc(path: Path | str, problems: list[Problem] | None = None,
              verify_digests: bool = False, limit: int = LIMIT) -> Iterator[Record]:
    """The records of a WARC or WET file, plain or gzipped, in order.

    What is skipped (damaged members, wrong lengths, bodies that cannot be decoded or are over
    `limit` bytes, with `verify_digests` wrong digests) is appended to `problems`, with the offset
    of the record. Raises BadInput if the file is empty or not one record in it can be read.
    """
    path, problems, good = Path(path), [] if problems is None else problems, 0
    with open(path, "rb") as file:
        window = _Window(file, problems)
        while window.have(1) and window.skip_to_record():
            record = _read_record(window, problems, verify_digests, limit)
            if record:
                good += 1
                yield record
    if not good:
        reason = f": {problems[0].reason} at byte {problems[0].offset}" if problems else ""
        empty = path.stat().st_size == 0
        raise BadInput(f"{shown(path)} is {'empty' if empty else 'no readable WARC file'}{reason}; "
                       "give a .warc, .warc.gz or .wet.gz file")


def _read_record(window: _Window, problems: list[Problem], verify: bool,
                 limit: int) -> Record | None:
    """The record that starts here, or None and a note; the window moves past it either way."""
    offset = window.offset()

    def skip(reason: str) -> None:
        problems.append(Problem(offset, reason))

    # 1. The header block: wait for its empty line, but not for ever.
    end, start = end_of_headers(window.data, window.at)
    while end < 0 and len(window.data) - window.at < HEADER_LIMIT and window.more():
        end, start = end_of_headers(window.data, window.at)
    if end < 0:
        # nor do those of what begins in between: go on at the last line that may start a record
        window.at = max(window.data.rfind(b"WARC/", window.at + 5), window.at + 5)
        return skip("record headers do not end")
    headers = parse_headers(window.data[window.data.index(b"\n", window.at) + 1:end])
    length = headers.get("content-length", "")
    window.at = start
    # 2. The body. If what follows it is no record, the length lies: search for the next one.
    if not length.isascii() or not length.isdigit():
        return skip("no Content-Length")
    if len(length) > 18 or int(length) > limit:
        return skip(f"record over {limit} bytes")
    block = _body(window, int(length))
    if block is None:
        return skip("Content-Length does not fit the record")
    wrong = _wrong_digest(headers, block) if verify else None
    if wrong:
        return skip(wrong)
    # 3. What the server sent, unpacked.
    kind = headers.get("warc-type", "").lower()
    record = Record(kind, _clean_url(headers.get("warc-target-uri")), headers, block, offset)
    if "application/http" in headers.get("content-type", "").lower() \
            and kind in ("response", "revisit"):
        try:
            record.status, record.http_headers, record.payload = split_response(block, limit)
        except (BadBody, zlib.error) as error:
            return skip(str(error))
    return record


class WarcWriter:
    """Writes a .warc.gz, one gzip member a record, whole or not at all; a context manager.

        with WarcWriter("pages.warc.gz", software="crawl.py") as warc:
            warc.response("https://a.example/", b"<html>...")

    The same calls write the same bytes: record ids come from the contents, and `date` is given.
    """

    def __init__(self, path: Path | str, date: str = "2025-01-01T00:00:00Z",
                 software: str = "build-your-own-llm"):
        self.path, self.date, self.software = Path(path), date, software

    def __enter__(self) -> "WarcWriter":
        self._context = whole(self.path, "wb")
        self._file = self._context.__enter__()
        info = f"software: {self.software}\r\nformat: WARC File Format 1.1\r\n".encode()
        self.record("warcinfo", info, content_type="application/warc-fields")
        return self

    def __exit__(self, *error) -> bool | None:
        return self._context.__exit__(*error)

    def record(self, kind: str, block: bytes, url: str | None = None,
               content_type: str = "application/http; msgtype=response",
               extra: dict[str, str] | None = None) -> int:
        """Append one record; returns its offset in the file."""
        block_digest = digest(block)
        name = f"{kind} {url} {self.date} {block_digest}"
        record_id = uuid.uuid5(uuid.NAMESPACE_URL, name)
        fields = {"WARC-Type": kind, "WARC-Record-ID": f"<{record_id.urn}>",
                  "WARC-Date": self.date, **({"WARC-Target-URI": url} if url else {}),
                  "WARC-Block-Digest": block_digest, **(extra or {}),
                  "Content-Type": content_type, "Content-Length": str(len(block))}
        head = "WARC/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
        packer = zlib.compressobj(6, zlib.DEFLATED, 31)
        offset = self._file.tell()
        self._file.write(packer.compress(head.encode() + block + b"\r\n\r\n") + packer.flush())
        return offset

    def response(self, url: str, body: bytes, content_type: str = "text/html; charset=utf-8",
                 status: str = "200 OK") -> int:
        """Append a page as a server would have sent it; returns the record's offset."""
        head = (f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n").encode()
        return self.record("response", head + body, url,
                           extra={"WARC-Payload-Digest": digest(body)})
