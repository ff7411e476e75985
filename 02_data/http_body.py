"""An HTTP response as it was sent -> its status, headers and decoded body.

    status, headers, body = split_response(b"HTTP/1.1 200 OK\\r\\nA: b\\r\\n\\r\\n<html>")

Web archives keep what went over the wire: a body may be cut in chunks and compressed. Both are
undone here, with a limit, since a few kilobytes can unpack to gigabytes. Brotli is not in the
standard library, zstandard only from Python 3.14: such a body is refused by name.
"""

import importlib
import re
import zlib
from types import ModuleType
from typing import Iterator, Mapping

STATUS = re.compile(rb"(?:HTTP/\S+|ICY)\s+(\d{3})", re.IGNORECASE)
# What a server or a proxy says before it answers: 100 Continue, 103 Early Hints, a tunnel.
INTERIM = re.compile(rb"HTTP/\S+[ \t]+(?:1\d\d\b|200[ \t]+connection established)", re.IGNORECASE)
FOLD = re.compile(r"\r?\n[ \t]+")
PACKERS = ("br", "zstd", "dcb", "dcz", "lz4", "compress", "x-compress", "bzip2",
           "x-bzip2", "xz", "lzma", "sdch", "exi")
LIMIT = 64 << 20          # bytes of one decoded body
LONGEST_LINE = 4096       # bytes of the line before a chunk
MEMBERS = 100             # gzip members of one body: each costs a copy of what is left


class BadBody(ValueError):
    """A body that cannot be decoded; the message is the reason, in a few words."""


class Headers(Mapping):
    """Header fields by name, whatever the case: `headers["content-type"]`.

    Made from the header lines as text. Iterating gives the names as they were spelled. A repeated
    name gives its first value, and all of them with `all(name)`.
    """
    __slots__ = ("text", "_lower")

    def __init__(self, text: str = ""):
        self.text = text
        # Only what every record is asked for; a crawl has millions of them. Backwards, so that the
        # first of a repeated field stays.
        self._lower: dict[str, str] = {}
        for line in reversed(text.split("\n")):
            name, colon, value = line.partition(":")
            if colon:
                self._lower[name.strip().lower()] = value.strip()

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All (name, value) in order, repeated ones too."""
        lines = (line.partition(":") for line in self.text.split("\n"))
        return [(name.strip(), value.strip()) for name, colon, value in lines if colon]

    def __getitem__(self, name: str) -> str:
        return self._lower[name.lower()]

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of a field, or `default`."""
        return self._lower.get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._lower

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.pairs))

    def __len__(self) -> int:
        return len(self._lower)

    def all(self, name: str) -> list[str]:
        """Every value of a repeated field, in order."""
        return [value for other, value in self.pairs if other.lower() == name.lower()]


def parse_headers(block: bytes) -> Headers:
    """Header lines -> Headers. Lines may end in CRLF or LF alone; a line that starts with a blank
    continues the one before; a line without a colon is passed over.

    b"A: 1\r\nB: 2\n  3\n" -> {"A": "1", "B": "2 3"}. Bytes that are not UTF-8 are read as
    Latin-1, as old servers send them.
    """
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError:
        text = block.decode("latin-1")
    return Headers(FOLD.sub(" ", text) if "\n " in text or "\n\t" in text else text)


def end_of_headers(data: bytes, start: int = 0) -> tuple[int, int]:
    """(where the header block ends, where the body begins); (-1, -1) if no empty line is there."""
    crlf = data.find(b"\n\r\n", start)
    lf = data.find(b"\n\n", start, crlf if crlf >= 0 else len(data))
    at, body = (lf, lf + 2) if lf >= 0 else (crlf, crlf + 3)
    if at < 0:
        return -1, -1
    return at - (data[max(at - 1, start):at] == b"\r"), body       # some servers mix line ends


def unchunk(body: bytes) -> bytes:
    """Undo HTTP's chunked transfer encoding (RFC 9112, 7.1).

    b"5\\r\\nhello\\r\\n0\\r\\n\\r\\n" -> b"hello". A chunk is a line with its size in hexadecimal
    (up to 8 digits in either case; blanks around them and an extension after a semicolon do not
    matter), so many bytes, and a line end that is not part of them; lines end in CRLF or LF alone.
    Size 0 is the end, whatever follows. Many archives keep the header but store the body already
    joined: what does not start with such a line is returned as it is. A body that breaks off, or
    goes on with another line, keeps what is there, the beginning of a chunk too.
    """
    pieces, at = [], 0
    while at < len(body):
        # A line with the size in hexadecimal, perhaps with an extension after a semicolon.
        line_end = body.find(b"\n", at, at + LONGEST_LINE)
        size = re.fullmatch(rb"\s*([0-9a-fA-F]{1,8})\s*(;[^\n]*)?", body[at:max(line_end, at)])
        if line_end < 0 or not size:
            # The first line decides whether it is chunked at all; later damage ends it.
            return b"".join(pieces) if at else body
        length = int(size[1], 16)
        if not length:
            break
        # So many bytes, then a line end that is not part of them.
        pieces.append(body[line_end + 1:line_end + 1 + length])
        at = line_end + 1 + length
        at += 2 if body[at:at + 2] == b"\r\n" else body[at:at + 1] == b"\n"
    return b"".join(pieces)


def _inflate(body: bytes, window: int, limit: int) -> bytes:
    pieces, size = [], 0
    for _ in range(MEMBERS):
        inflater = zlib.decompressobj(window)
        pieces.append(inflater.decompress(body, limit + 1 - size))
        size += len(pieces[-1])
        if size > limit:
            raise BadBody(f"body over {limit} bytes")
        # several gzip members in a row are one body
        body = inflater.unused_data
        if not inflater.eof or window != 31 or not body.startswith(b"\x1f\x8b"):
            return b"".join(pieces)
    raise BadBody(f"body of over {MEMBERS} gzip members")


def zstandard() -> ModuleType | None:
    """The module compression.zstd, which the standard library has from Python 3.14, or None."""
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        return None


def _unzstd(body: bytes, limit: int) -> bytes | None:
    """A zstandard body unpacked where this Python can (3.14), else None."""
    if (zstd := zstandard()) is None:
        return None
    try:
        unpacked = zstd.ZstdDecompressor().decompress(body, limit + 1)
    except zstd.ZstdError:
        raise BadBody("damaged zstd body") from None
    if len(unpacked) > limit:
        raise BadBody(f"body over {limit} bytes")
    return unpacked


def decompress(body: bytes, encodings: str, limit: int = LIMIT) -> bytes:
    """Undo `Content-Encoding`: gzip, deflate (with or without zlib's header), identity.

    Encodings are listed in the order they were applied ("gzip" or "deflate, gzip"). A body that
    is not compressed after all is returned as it is, for archives often keep the header of a body
    that they have unpacked, and some servers write "utf-8" or "none" there. Raises BadBody on a way
    of packing that the standard library does not know (brotli, zstandard) and over `limit` bytes.
    """
    for encoding in reversed(encodings.lower().split(",")):
        encoding = encoding.partition(";")[0].strip(" \t\"'")
        gzips = encoding in ("gzip", "x-gzip")
        # some servers say one and mean the other: the first bytes tell
        if (gzips or encoding == "deflate") and body[:2] == b"\x1f\x8b":
            try:
                body = _inflate(body, 31, limit)
            except zlib.error:
                raise BadBody("damaged gzip body") from None
        elif encoding == "deflate" or (gzips and body[:2] in (b"x\x01", b"x\x9c", b"x\xda")):
            for window in (15, -15):
                try:
                    body = _inflate(body, window, limit)
                    break
                except zlib.error:
                    continue
        elif encoding in PACKERS:
            # a body stored unpacked under its old header still begins like a page
            if not body[:256].lstrip().startswith((b"<", b"\xef\xbb\xbf<")):
                body = _unzstd(body, limit) if encoding == "zstd" else None
            if body is None:
                raise BadBody(f"packed with {encoding}")
    return body


def split_response(block: bytes, limit: int = LIMIT) -> tuple[int, Headers, bytes]:
    """(status, headers, decoded body) of an HTTP response; status 0 if it has no status line.

    A block without header lines is all body. Blank lines before it, and answers before the answer
    (100 Continue, 103 Early Hints) are passed over.
    """
    if block[:1] in (b"\r", b"\n") and STATUS.match(block[:64].lstrip(b"\r\n")):
        block = block.lstrip(b"\r\n")
    if not block.startswith((b"HTTP/", b"ICY ", b"http/")):
        return 0, Headers(), block
    end, start = end_of_headers(block)
    while INTERIM.match(block) and STATUS.match(block, start):
        block = block[start:]
        end, start = end_of_headers(block)
    if end < 0:
        end, start = len(block), len(block)
    first, _, rest = block[:end].partition(b"\n")
    status = STATUS.match(first)
    headers = parse_headers(rest)
    body = block[start:]
    if "transfer-encoding" in headers:
        transfer = ",".join(headers.all("transfer-encoding")).lower()
        body = unchunk(body) if "chunked" in transfer else body
        body = decompress(body, transfer.replace("chunked", ""), limit)
    if "content-encoding" in headers:
        body = decompress(body, ",".join(headers.all("content-encoding")), limit)
    return int(status[1]) if status else 0, headers, body
