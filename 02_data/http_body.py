"""An HTTP response as it was sent -> its status, headers and decoded body.

    status, headers, body = split_response(b"HTTP/1.1 200 OK\\r\\nA: b\\r\\n\\r\\n<html>")

Web archives keep what went over the wire: a body may be cut in chunks and compressed. Both are
undone here, with a limit, since a few kilobytes can unpack to gigabytes. Brotli and zstandard are
not in the standard library: such a body is refused by name.
"""

import re
import zlib
from typing import Iterator, Mapping

STATUS = re.compile(rb"HTTP/\S+\s+(\d{3})")
LIMIT = 64 << 20          # bytes of one decoded body


class BadBody(ValueError):
    """A body that cannot be decoded; the message is the reason, in a few words."""


class Headers(Mapping):
    """Header fields by name, whatever the case: `headers["content-type"]`.

    Iterating gives the names as they were spelled. A repeated name gives its first value, and all
    of them with `all(name)`.
    """
    __slots__ = ("pairs", "_lower")

    def __init__(self, pairs: list[tuple[str, str]] | tuple = ()):
        self.pairs = pairs
        # backwards, so that the first of a repeated field stays
        self._lower = {name.lower(): value for name, value in reversed(pairs)}

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
    pairs: list[tuple[str, str]] = []
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if line[:1] in (" ", "\t") and pairs:
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]} {line.strip()}".strip())
        elif colon:
            pairs.append((name.strip(), value.strip()))
    return Headers(pairs)


def end_of_headers(data: bytes, start: int = 0) -> tuple[int, int]:
    """(where the header block ends, where the body begins); (-1, -1) if no empty line is there."""
    crlf = data.find(b"\r\n\r\n", start)
    lf = data.find(b"\n\n", start, crlf if crlf >= 0 else len(data))
    if lf >= 0:
        return lf, lf + 2
    return (crlf, crlf + 4) if crlf >= 0 else (-1, -1)


def unchunk(body: bytes) -> bytes:
    """Undo HTTP's chunked transfer encoding (RFC 9112, 7.1).

    b"5\\r\\nhello\\r\\n0\\r\\n\\r\\n" -> b"hello". Many archives keep the header but store the body
    already joined: what does not start as a chunk is returned as it is. A body that breaks off
    keeps the chunks that are there.
    """
    pieces, at = [], 0
    while at < len(body):
        # A line with the size in hexadecimal, perhaps with an extension after a semicolon.
        line_end = body.find(b"\n", at, at + 100)
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
    inflater = zlib.decompressobj(window)
    whole = inflater.decompress(body, limit + 1)
    if len(whole) > limit:
        raise BadBody(f"body over {limit} bytes")
    # several gzip members in a row are one body
    if inflater.eof and window == 31 and inflater.unused_data[:2] == b"\x1f\x8b":
        whole += _inflate(inflater.unused_data, 31, limit - len(whole))
    return whole


def decompress(body: bytes, encodings: str, limit: int = LIMIT) -> bytes:
    """Undo `Content-Encoding`: gzip, deflate (with or without zlib's header), identity.

    Encodings are listed in the order they were applied ("gzip" or "deflate, gzip"). A body that
    is not compressed after all is returned as it is, for archives often keep the header of a body
    that they have unpacked. Raises BadBody on an unknown encoding and over `limit` bytes.
    """
    for encoding in reversed(encodings.lower().split(",")):
        encoding = encoding.strip()
        if encoding in ("gzip", "x-gzip"):
            if body[:2] == b"\x1f\x8b":
                try:
                    body = _inflate(body, 31, limit)
                except zlib.error:
                    raise BadBody("damaged gzip body") from None
        elif encoding == "deflate":
            for window in (15, -15):
                try:
                    body = _inflate(body, window, limit)
                    break
                except zlib.error:
                    continue
        elif encoding not in ("", "identity", "none", "utf-8"):
            # a body stored unpacked under its old header still begins like a page
            if not body[:256].lstrip().startswith((b"<", b"\xef\xbb\xbf<")):
                raise BadBody(f"content encoding {encoding[:20]}")
    return body


def split_response(block: bytes, limit: int = LIMIT) -> tuple[int, Headers, bytes]:
    """(status, headers, decoded body) of an HTTP response; status 0 if it has no status line.

    A block without header lines is all body.
    """
    if not block.startswith(b"HTTP/"):
        return 0, Headers(), block
    end, start = end_of_headers(block)
    if end < 0:
        end, start = len(block), len(block)
    first, _, rest = block[:end].partition(b"\n")
    status = STATUS.match(first)
    headers = parse_headers(rest)
    body = block[start:]
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = unchunk(body)
    if "content-encoding" in headers:
        body = decompress(body, headers["content-encoding"], limit)
    return int(status[1]) if status else 0, headers, body
