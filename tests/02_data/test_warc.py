"""warc: what is written is read again; what is damaged is skipped, named, and no more than that."""

import gzip
import random
import time
import zlib

import pytest

from artifacts import BadInput
from sources import read_source
from warc import WarcWriter, digest, read_warc


def write(path, pages):
    with WarcWriter(path) as warc:
        return [warc.response(url, body) for url, body in pages]


def test_round_trip(tmp_path):
    pages = [(f"https://a.example/{i}", b"<p>%d\r\n\r\nWARC/1.1 is only text here</p>" % i)
             for i in range(50)]
    offsets = write(tmp_path / "a.warc.gz", pages)
    records = [r for r in read_warc(tmp_path / "a.warc.gz") if r.type == "response"]
    assert [(r.url, r.payload) for r in records] == pages
    assert [r.offset for r in records] == offsets, "the offset is not that of the record's member"
    assert {r.status for r in records} == {200} and records[0].charset == "utf-8"


def test_each_record_is_a_gzip_member_that_can_be_read_alone(tmp_path):
    offsets = write(tmp_path / "a.warc.gz", [("https://a.example/", b"x" * 999)] * 3)
    data = (tmp_path / "a.warc.gz").read_bytes()
    assert zlib.decompressobj(31).decompress(data[offsets[2]:]).startswith(b"WARC/1.1\r\n")
    assert gzip.decompress(data).count(b"WARC/1.1\r\n") == 4


def test_same_pages_same_bytes(tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.warc.gz", [("https://a.example/", b"<p>hi</p>")])
    assert (tmp_path / "a.warc.gz").read_bytes() == (tmp_path / "b.warc.gz").read_bytes()


def test_a_damaged_member_is_skipped_and_named(tmp_path):
    offsets = write(tmp_path / "a.warc.gz", [(f"https://a.example/{i}", b"<p>" + b"x" * 500)
                                             for i in range(5)])
    data = bytearray((tmp_path / "a.warc.gz").read_bytes())
    data[offsets[2] + 20:offsets[2] + 60] = bytes(40)
    (tmp_path / "a.warc.gz").write_bytes(data)
    problems = []
    urls = [r.url for r in read_warc(tmp_path / "a.warc.gz", problems) if r.url]
    assert urls == [f"https://a.example/{i}" for i in (0, 1, 3, 4)]
    assert problems[0].offset == offsets[2]


def test_empty_and_foreign_files_are_refused_in_one_line(tmp_path):
    for data, word in ((b"", "empty"), (b"hello\n" * 99, "no readable WARC"),
                       (gzip.compress(b"hello"), "no readable WARC")):
        (tmp_path / "x.warc.gz").write_bytes(data)
        with pytest.raises(BadInput, match=word) as error:
            list(read_warc(tmp_path / "x.warc.gz"))
        assert "\n" not in str(error.value)


def test_digest_of_nothing_is_the_published_one():
    assert digest(b"") == "sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"


def record(kind="response", url="https://a.example/", block=b"", length=None, end=b"\r\n",
           extra=b""):
    """One record as bytes, right or with a wrong Content-Length."""
    lines = [b"WARC/1.0", b"WARC-Type: " + kind.encode(), b"WARC-Target-URI: " + url.encode(),
             b"Content-Type: application/http; msgtype=response" if kind == "response" else
             b"Content-Type: text/plain", b"Content-Length: %d" % (len(block) if length is None
                                                                   else length)]
    return end.join(lines + ([extra] if extra else [])) + end + end + block + end + end


def http(body, headers=b"Content-Type: text/html"):
    return b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n" + body


def read(tmp_path, data, **options):
    """(url and payload of each record, reasons and offsets of what was skipped)."""
    (tmp_path / "x.warc").write_bytes(data)
    problems = []
    records = [(r.url, r.payload) for r in read_warc(tmp_path / "x.warc", problems, **options)]
    return records, [(p.offset, p.reason) for p in problems]


def test_quirks_of_old_archives_are_repaired(tmp_path):
    data = (record(url="<https://a.example/1>", block=http(b"1"))
            + record(url="https://a.example/a b", block=http(b"2"), end=b"\n")
            + record("conversion", "https://a.example/3", "grüße".encode()))
    assert read(tmp_path, data) == ([("https://a.example/1", b"1"), ("https://a.example/a%20b", b"2"),
                                     ("https://a.example/3", "grüße".encode())], [])


@pytest.mark.parametrize("block", [
    b"HTTP/1.1 100 Continue\r\n\r\n" + http(b"1"), b"\r\n" + http(b"1"),
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + http(b"1"), http(b"1").replace(b"HTTP", b"http"),
    b"HTTP/1.1 100 Continue\r\n\r\n" * 2 + http(b"1"), http(b"1").replace(b"1.1 200 OK", b"2 200"),
    b"HTTP/1.1 200 Connection established\r\n\r\n" + http(b"1"),
    http(gzip.compress(b"1"), b'Content-Encoding: "gzip"'),
    http(gzip.compress(b"1"), b"Content-Encoding: deflate"),
    http(zlib.compress(b"1"), b"Content-Encoding: gzip"),
    http(gzip.compress(gzip.compress(b"1")), b"Content-Encoding: gzip\r\nContent-Encoding: gzip")])
def test_the_answer_is_found_behind_others_and_unpacked_by_its_first_bytes(tmp_path, block):
    assert read(tmp_path, record(block=block)) == ([("https://a.example/", b"1")], [])


@pytest.mark.parametrize("wrong", [-3, +3, +500, +10 ** 9, None])
def test_a_lying_length_costs_its_own_record_only(tmp_path, wrong):
    one, three = (record(url=f"https://a.example/{i}", block=http(b"page %d" % i)) for i in (1, 3))
    block = http(b"the second page, of some length")
    two = record(block=block, length=len(block) + wrong) if wrong else \
        record(block=block).replace(b"Content-Length: ", b"Content-Length: about ")
    records, problems = read(tmp_path, one + two + three)
    assert [url for url, _ in records] == ["https://a.example/1", "https://a.example/3"]
    assert [offset for offset, _ in problems] == [len(one)], "named by its offset"


def test_a_file_that_breaks_off_gives_what_is_whole(tmp_path):
    whole_file = b"".join(record(url=f"https://a.example/{i}", block=http(b"page %d" % i * 50))
                          for i in range(4))
    for cut in range(1, len(whole_file), 97):
        (tmp_path / "x.warc").write_bytes(whole_file[:cut])
        try:
            records = list(read_warc(tmp_path / "x.warc"))
        except BadInput:
            records = []
        ends = len(whole_file) // 4
        assert len(records) in (cut // ends, (cut + 4) // ends), f"cut at {cut}"


def test_gzipped_as_one_member_and_members_cut_short(tmp_path):
    body = random.Random(3).randbytes(999)          # does not compress: a cut hits one record
    data = b"".join(record(url=f"https://a.example/{i}", block=http(body)) for i in range(9))
    for packed, count in ((gzip.compress(data), 9), (gzip.compress(data)[:-60], None),
                          (b"".join(gzip.compress(record(block=http(body)))
                                    for _ in range(3))[:-60], 2)):
        (tmp_path / "x.warc.gz").write_bytes(packed)
        problems = []
        records = list(read_warc(tmp_path / "x.warc.gz", problems))
        assert len(records) == count if count else len(records) >= 1
        assert bool(problems) == (count != 9), "what is cut off is noted"


def test_bodies_are_unpacked_and_bad_ones_skipped(tmp_path):
    packed = gzip.compress(b"<p>packed")
    data = (record(block=http(b"6\r\n<p>hey\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"))
            + record(block=http(packed, b"Content-Encoding: gzip"))
            + record(block=http(b"\x0b\x02\x80", b"Content-Encoding: br"))
            + record(block=http(gzip.compress(bytes(10 ** 6)), b"Content-Encoding: gzip")))
    records, problems = read(tmp_path, data, limit=100_000)
    assert [payload for _, payload in records] == [b"<p>hey", b"<p>packed"]
    assert [reason for _, reason in problems] == ["packed with br", "body over 100000 bytes"]


def test_what_common_crawl_writes_is_read(tmp_path):
    """Five kinds of record as Nutch writes them; a revisit has a status and no page."""
    fields = b"isPartOf: CC-MAIN-2023-06\r\nformat: WARC File Format 1.1"
    get = b"GET / HTTP/1.1\r\nUser-Agent: CCBot/2.0\r\nHost: a.example\r\n\r\n"
    told = b"X-Crawler-Transfer-Encoding: chunked\r\nX-Crawler-Content-Encoding: gzip\r\n"
    data = (record("warcinfo", block=fields) + record("request", block=get)
            + record(block=http(b"<p>hi", told + b"Content-Length: 5"), extra=b"WARC-Payload-Digest: "
                     + digest(b"<p>hi").encode())
            + record("metadata", block=b"charset-detected: UTF-8\r\n\r\n")
            + record("response", block=http(b"")).replace(b"Type: response", b"Type: revisit"))
    (tmp_path / "x.warc.gz").write_bytes(gzip.compress(data))
    problems = []
    records = list(read_warc(tmp_path / "x.warc.gz", problems, verify_digests=True))
    assert [r.type for r in records] == ["warcinfo", "request", "response", "metadata", "revisit"]
    assert (records[2].payload, records[2].status) == (b"<p>hi", 200) and problems == []
    assert (records[4].payload, records[4].status) == (b"", 200)


def test_what_is_no_page_is_told_by_its_first_bytes(tmp_path):
    """Servers call PDFs and pictures text/html; addresses of robots and name servers are no pages."""
    data = (record(block=http(b"%PDF-1.4 (A story.)")) + record(block=http(b"\x89PNG\r\n")) +
            record(block=http(b"<p>hi", b"Server: x")) + record(block=http(b"<p>hi", b"Content-Type: "
            b"application/xhtml+xml")) + record(url="dns:a.example", block=b"a.example. A 8.8.8.8"))
    (tmp_path / "x.warc").write_bytes(data)
    assert [kind for kind, *_ in read_source(tmp_path / "x.warc")] == [
        "not HTML: a file called text/html"] * 2 + ["html"] * 2 + ["not a page: dns"]


def test_gzip_members_may_end_anywhere(tmp_path):
    """Some archives were cut in members without regard to their records, or padded with zeros."""
    rng = random.Random(2)
    data = b"".join(record(url=f"https://a.example/{i}", block=http(b"page %d" % i * 9))
                    for i in range(9))
    want, _ = read(tmp_path, data)
    for _ in range(50):
        cuts = [0, *sorted(rng.sample(range(len(data)), rng.randrange(9))), len(data)]
        packed = b"".join(gzip.compress(data[a:b]) + rng.choice([b"", b"", bytes(300)])
                          for a, b in zip(cuts, cuts[1:]))
        (tmp_path / "x.warc.gz").write_bytes(packed)
        got = [(r.url, r.payload) for r in read_warc(tmp_path / "x.warc.gz")]
        assert got == want, f"members end at {cuts}"
    (tmp_path / "x.warc.gz").write_bytes(b"??" + gzip.compress(b"") + gzip.compress(data))
    assert len(list(read_warc(tmp_path / "x.warc.gz"))) == 9, "rubbish before the first member"


@pytest.mark.parametrize("piece", [
    b"WARC/1.0\r\n", b"WARC/1.0\r\nContent-Length: 6\r\n\r\n", b"\x1f\x8b\x08",
    b"WARC/1.0\r\nContent-Length: 60000000\r\n\r\n", gzip.compress(b"a: b\r\n"), b"\r\n",
    b"WARC/1.0\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n"])
def test_hostile_archives_take_linear_time(tmp_path, piece):
    start = time.process_time()
    try:
        read(tmp_path, gzip.compress(b"") * piece.startswith(b"\x1f") + piece * (10 ** 6 // len(piece)))
    except BadInput:
        pass
    assert time.process_time() - start < 1.5, f"1 MB of {piece[:40]!r}"


def test_digests_are_checked_on_request(tmp_path):
    block = http(b"<p>hi")
    good = b"WARC-Block-Digest: " + digest(block).encode()
    data = record(block=block, extra=good) + record(block=block[:-1] + b"o", extra=good)
    assert len(read(tmp_path, data)[0]) == 2
    records, problems = read(tmp_path, data, verify_digests=True)
    assert len(records) == 1 and problems[0][1] == "WARC-Block-Digest does not match"


def test_an_interrupted_writer_leaves_no_file(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with WarcWriter(tmp_path / "a.warc.gz") as warc:
            warc.response("https://a.example/", b"x")
            raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
