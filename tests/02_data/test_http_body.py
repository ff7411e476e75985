"""http_body: what went over the wire, undone; what only claims to be packed, left alone."""

import gzip
import zlib

import pytest

from http_body import BadBody, decompress, parse_headers, split_response, unchunk


@pytest.mark.exercise("2.4")
@pytest.mark.parametrize("body, want, mistake", [
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", "one chunk"),
    (b"5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n", b"hello world", "several chunks"),
    (b"10\r\n0123456789abcdef\r\n0\r\n\r\n", b"0123456789abcdef", "the size is hexadecimal"),
    (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", "hexadecimal in capitals"),
    (b"005\r\nhello\r\n0\r\n\r\n", b"hello", "zeros before the size"),
    (b"7\r\n\r\nabc\r\n\r\n0\r\n\r\n", b"\r\nabc\r\n", "a chunk of line ends and letters"),
    (b"5\r\nhello\r\nwhat?\r\n", b"hello", "later damage ends it, and what was there stays"),
    (b"a;name=x\r\n0123456789\r\n0\r\n\r\n", b"0123456789", "an extension after the size"),
    (b"4\r\na\r\nb\r\n0\r\n\r\n", b"a\r\nb", "line ends inside a chunk belong to it"),
    (b"3\nabc\n2\nde\n0\n\n", b"abcde", "line ends of LF alone"),
    (b"2\r\nab\r\n\r\n2\r\ncd\r\n0\r\n\r\n", b"ab", "one line end goes, a blank line is another line"),
    (b"<html>not chunked</html>", b"<html>not chunked</html>", "the header lied: as it is"),
    (b"5\r\nhello\r\n9\r\nwor", b"hellowor", "a body that breaks off keeps what is there"),
    (b"5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n", b"hello", "nothing after the last chunk"),
    (b"0\r\n\r\n", b"", "no chunk but the last: an empty page"),
    (b"", b"", "nothing"),
    (b"00000005\r\nhello\r\n0\r\n\r\n", b"hello", "eight digits are a size"),
    (b"000000005\r\nhello\r\n0\r\n\r\n", b"000000005\r\nhello\r\n0\r\n\r\n", "nine are none"),
])
def test_unchunk(body, want, mistake):
    assert unchunk(body) == want, mistake


@pytest.mark.parametrize("encoding, pack", [
    ("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress),
    ("deflate", lambda b: zlib.compress(b)[2:-4]), ("identity", bytes), ("br", bytes),
    ("gzip", lambda b: gzip.compress(b[:9]) + gzip.compress(b[9:])), ("gzip", bytes)])
def test_decompress(encoding, pack):
    page = b"<html>" + b"story " * 300
    assert decompress(pack(page), encoding) == page


def test_bombs_and_unknown_encodings_are_refused_by_name():
    with pytest.raises(BadBody, match="over 100000 bytes"):
        decompress(gzip.compress(bytes(1_000_000)), "gzip", limit=100_000)
    with pytest.raises(BadBody, match="packed with br"):
        decompress(b"\x1b\x00\x00", "br")


def test_what_is_said_of_a_body_may_be_nonsense():
    assert decompress(b"plain words", "8bit") == b"plain words", "no way of packing: as it is"
    with pytest.raises(BadBody, match="over 100 gzip members"):
        decompress(gzip.compress(b"x") * 5000, "gzip")


@pytest.mark.parametrize("first, status", [
    (b"HTTP/1.0 200 OK", 200), (b"HTTP/2 404", 404), (b"HTTP/3 200 ", 200), (b"ICY 200 OK", 200),
    (b"HTTP/1.1 OK", 0)])
def test_status_lines_of_all_times(first, status):
    assert split_response(first + b"\r\nA: b\r\n\r\n<p>")[::2] == (status, b"<p>")
    assert split_response(first + b"\nA: b\n\n<p>")[::2] == (status, b"<p>"), "LF alone"


def test_headers_of_old_servers():
    headers = parse_headers(b"A: 1\nb : 2\r\nSet-Cookie: x\r\n  y\r\nSet-Cookie: z\r\nnonsense\r\n")
    assert headers["a"] == "1" and headers.get("B") == "2" and "nonsense" not in headers
    assert headers.all("set-cookie") == ["x y", "z"]


def test_a_response_is_taken_apart():
    body = gzip.compress(b"<p>hi")
    block = (b"HTTP/1.1 404 Not Found\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
             + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    status, headers, got = split_response(block)
    transfer = block.replace(b"Content-Encoding: gzip\r\n", b"").replace(b": chunked", b": gzip, chunked")
    assert split_response(transfer)[2] == b"<p>hi", "packed for the transfer only"
    assert (status, got) == (404, b"<p>hi") and headers["content-encoding"] == "gzip"
    assert split_response(b"<p>no headers") == (0, {}, b"<p>no headers")


@pytest.mark.exercise("2.4")
def test_a_long_extension_of_a_chunk_does_not_matter():
    assert unchunk(b"5;" + b"a" * 500 + b"\r\nhello\r\n0\r\n\r\n") == b"hello", "an extension of 500 bytes"


@pytest.mark.parametrize("fields, packed", [
    (b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", True),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", True),
    (b"Transfer-Encoding: gzip\r\n", False), (b"Content-Encoding: gzip;q=1.0\r\n", False)])
def test_codings_in_several_fields_or_with_parameters(fields, packed):
    body = gzip.compress(b"<p>hello</p>")
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if packed else body
    assert split_response(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n" + body)[2] == b"<p>hello</p>"


@pytest.mark.parametrize("ends", [b"\r\nA: b\n\r\n", b"\nA: b\r\n\n", b"\r\nA: b\r\n\r\n", b"\nA: b\n\n"])
def test_line_ends_of_headers_may_be_mixed(ends):
    status, headers, body = split_response(b"HTTP/1.1 200 OK" + ends + b"x\n\ny\r\n\r\nz")
    assert (status, headers["a"], body) == (200, "b", b"x\n\ny\r\n\r\nz")
