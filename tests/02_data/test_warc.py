"""warc: what is written is read again; what is damaged is skipped, named, and no more than that."""

import gzip
import zlib

import pytest

from artifacts import BadInput
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
