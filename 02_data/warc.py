"""Web archives (WARC 1.0 and 1.1, WET, ARC, WACZ): read record by record, and write.

    for record in read_warc("crawl.warc.gz"):
        print(record.type, record.url, len(record.payload), record.offset)

A WARC file is a row of records: a line `WARC/1.1`, header lines, an empty line, `Content-Length`
bytes, two line ends. In a `.warc.gz` each record is a gzip member of its own, so that one can be
fetched by its offset. Crawls are dirty: lengths lie, files break off, members are damaged. A record
that cannot be trusted is skipped, noted in `problems` by offset, and reading goes on at the next.

Memory holds one record at a time. ARC files and the WARC files in a .wacz are read as well (arc.py,
archive_bytes.py). It leaves out: joining segmented records (nobody writes them), and looking up the
page that a revisit record stands for (its own payload is empty).
"""

import base64
import hashlib
import re
import uuid
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator

import arc
from archive_bytes import CUT, Problem, Window, open_archive
from artifacts import BadInput, shown, whole
from http_body import LIMIT, BadBody, Headers, end_of_headers, parse_headers, split_response

START = re.compile(rb"WARC/[01]\.\d+[ \t]*\r?\n")
HTTP = (b"HTTP/", b"ICY ", b"http/")
NO_HEADERS = Headers()
HEADER_LIMIT = 1 << 20    # bytes of one header block
TAIL = 64                 # line ends after a record that are passed over
DIGESTS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2b", "blake2s")


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


def _body(window: Window, length: int) -> bytes | None:
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
    while window.have(length + tail + 1) and tail < TAIL \
            and window.data[window.at + length + tail] in b"\r\n":
        tail += 1
    if window.have(length + tail + 1):         # not the end of the file
        window.have(length + tail + 12)        # the start line may sit on the edge of the window
        # Two line ends belong there; some writers leave them out. A length that is 3 too large
        # leaves half of one behind.
        if not START.match(window.data, window.at + length + tail) \
                or (tail == 1 and body.endswith(b"\r")):
            return None
    window.at += length + tail
    return body


def _clean_url(url: str | None) -> str | None:
    """Archives by wget write <url>; some leave blanks in it."""
    return url.strip("<> ").replace(" ", "%20") if url else None


def digest(data: bytes, algorithm: str = "sha1") -> str:
    """A digest as WARC writes it: digest(b"") -> "sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"."""
    return f"{algorithm}:{base64.b32encode(hashlib.new(algorithm, data).digest()).decode()}"


def wrong_digest(headers: Headers, block: bytes, kind: str = "response") -> str | None:
    """Why the block is not what the digests in its headers say; None if it is, or none is told.

    Digests are "sha1:", "sha-256:" and others of DIGESTS, in base 32, base 64 or hexadecimal. The
    payload of an HTTP message begins after its headers, that of any other record is its block. A
    revisit's payload digest is that of the page it stands for. A digest of another kind cannot be
    checked: "WARC-Block-Digest of an unknown kind: crc32".
    """
    end, start = end_of_headers(block) if block.startswith(HTTP) or \
        "http" in headers.get("content-type", "").lower() else (-1, -1)
    checks = [("WARC-Block-Digest", block)]
    if kind != "revisit":
        checks.append(("WARC-Payload-Digest", block[start:] if end >= 0 else block))
    for name, data in checks:
        algorithm, _, value = headers.get(name, "").partition(":")
        algorithm = algorithm.strip().lower().replace("-", "")
        if not value:
            continue
        if algorithm not in DIGESTS:
            return f"{name} of an unknown kind: {algorithm}"
        raw, value = hashlib.new(algorithm, data).digest(), value.strip().rstrip("=")
        spellings = (raw.hex(), base64.b32encode(raw).decode().rstrip("=").lower())
        if value.lower() not in spellings and value not in (
                base64.b64encode(raw).decode().rstrip("="),
                base64.urlsafe_b64encode(raw).decode().rstrip("=")):
            return f"{name} does not match"
    return None


def read_warc(path: Path | str, problems: list[Problem] | None = None,
              verify_digests: bool = False, limit: int = LIMIT) -> Iterator[Record]:
    """The records of a WARC, WET or ARC file, plain or packed, or of all in a .wacz, in order.

    What is skipped (damaged members, wrong lengths, bodies that cannot be decoded or are over
    `limit` bytes, with `verify_digests` wrong digests) is appended to `problems`, with the offset
    of the record. A digest of an unknown kind is noted there too, and its record kept. Raises
    BadInput if the file is empty or not one record in it can be read.
    """
    path, problems, good = Path(path), [] if problems is None else problems, 0
    for name, file in open_archive(path):
        try:
            window = Window(file, problems, START)
            window.have(arc.LONGEST)
            if not START.search(window.data) and (arc.FIRST.match(window.data.lstrip())
                                                  or arc.HERE.match(window.data)):
                records = arc.read_arc(window, problems, Record, limit)
            else:
                records = _read_records(window, problems, verify_digests, limit)
            for record in records:
                good += 1
                yield record
        except (zipfile.BadZipFile, zlib.error) as error:      # one file of a .wacz: go on
            problems.append(Problem(0, f"damaged zip member {name} ({error})"))
    if not good:
        reason = f": {problems[0].reason} at byte {problems[0].offset}" if problems else ""
        empty = path.stat().st_size == 0
        raise BadInput(f"{shown(path)} is {'empty' if empty else 'no readable WARC file'}{reason}; "
                       "give a .warc, .warc.gz, .wet.gz, .arc.gz or .wacz file")


def _read_records(window: Window, problems: list[Problem], verify: bool,
                  limit: int) -> Iterator[Record]:
    while window.have(1) and window.skip_to(START):
        record = _read_record(window, problems, verify, limit)
        if record:
            yield record


def _read_record(window: Window, problems: list[Problem], verify: bool,
                 limit: int) -> Record | None:
    """The record that starts here, or None and a note; the window moves past it either way."""
    offset = window.offset()

    def skip(reason: str) -> None:
        if problems[-1:] != [Problem(offset, CUT)]:        # said already: it is the last one
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
    kind = headers.get("warc-type", "").lower() or _kind_of(headers, block)
    if verify and (wrong := wrong_digest(headers, block, kind)):
        problems.append(Problem(offset, wrong))
        if wrong.endswith("match"):
            return None
    # 3. What the server sent, unpacked. Some writers leave the block's type out, or call it
    # message/http.
    record = Record(kind, _clean_url(headers.get("warc-target-uri")), headers, block, offset)
    if kind in ("response", "revisit") and (
            block.startswith(HTTP) or "http" in headers.get("content-type", "").lower()):
        try:
            record.status, record.http_headers, record.payload = split_response(block, limit)
        except (BadBody, zlib.error) as error:
            return skip(str(error))
    return record


def _kind_of(headers: Headers, block: bytes) -> str:
    """The type of a record that does not say it: by what its block begins with, or is called."""
    if block.startswith(HTTP):
        return "response"
    if "warc-fields" in headers.get("content-type", ""):
        return "warcinfo"
    return "resource" if "warc-target-uri" in headers else "unknown"


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
