"""sources.py, arc.py, archive_bytes.py: every file is read as what it is, or named."""

import bz2
import gzip
import io
import lzma
import tracemalloc
import zipfile

import pytest

import sources
from artifacts import BadInput
from warc import WarcWriter, digest, read_warc, wrong_digest
from http_body import Headers


def test_text_sources(tmp_path):
    (tmp_path / "a.txt").write_text("one\n<|endoftext|>\ntwo\n", encoding="utf-8")
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as file:
        file.write('{"text": "three", "url": "https://x.example"}\nbroken\n{"no": 1}\n')
    a, b = sources.find_sources([], [tmp_path])
    assert [body for _, _, body, _ in sources.read_source(a)] == [b"one", b"two\n"]
    assert [kind for kind, *_ in sources.read_source(b)] == \
        ["text", "broken line", "broken line"]
    assert next(sources.read_source(b)) == ("text", "https://x.example", b"three", None)


def test_bad_sources_are_one_clear_line(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        sources.find_sources([tmp_path / "none"], [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="holds no"):
        sources.find_sources([tmp_path / "empty"], [])
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(BadInput, match="not UTF-8"):
        list(sources.read_source(tmp_path / "latin.txt"))
    (tmp_path / "not.jsonl").write_text("plain words\n")
    with pytest.raises(BadInput, match="is it jsonl"):
        list(sources.read_source(tmp_path / "not.jsonl"))


def test_one_unreadable_file_among_many_is_counted_and_alone_an_error(tmp_path):
    whole = gzip.compress(b'{"text": "one"}\n{"text": "two"}\n' * 2000)
    cut, empty = tmp_path / "cut.jsonl.gz", tmp_path / "empty.warc.gz"
    cut.write_bytes(whole[:len(whole) // 2])
    empty.touch()
    records = list(sources.records_of(cut, alone=False))
    assert records[0][2] == b"one" and len(records) > 2, "what was read before stays"
    assert records[-1][0] == "unreadable file" and "cut.jsonl.gz" in records[-1][1]
    assert [kind for kind, *_ in sources.records_of(empty, alone=False)] == ["unreadable file"]
    for path in (cut, empty):
        with pytest.raises(BadInput, match=path.name):
            list(sources.records_of(path, alone=True))


def test_a_text_file_is_streamed_and_cut(tmp_path):
    story = "".join(f"line {i} of a long story\n" for i in range(2000)).encode()
    big = tmp_path / "big.txt"
    with open(big, "wb") as file:
        for _ in range(200):
            file.write(story + b"<|endoftext|>\r\n")
    tracemalloc.start()
    count = sum(1 for _ in sources.read_source(big))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 200 and peak < 3e6, f"{big.stat().st_size / 1e6:.0f} MB took {peak / 1e6:.1f}"
    lines = b"".join(b"%d\n" % i for i in range(9999))
    pieces = list(sources.pieces_of(io.BufferedReader(io.BytesIO(lines)), largest=1000))
    assert b"".join(pieces) == lines and max(map(len, pieces)) < 1010
    endless = ("\u00e9" * 3_000_001).encode()
    pieces = list(sources.pieces_of(io.BufferedReader(io.BytesIO(endless)), largest=1000))
    assert b"".join(pieces) == endless and len(pieces) > 2
    assert all(piece.decode() for piece in pieces), "never cut inside a character"


def test_a_line_of_thirty_thousand_brackets_is_one_broken_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n' + "[" * 30_000 + '\n\n{"text": "two"}\n')
    assert [kind for kind, *_ in sources.read_source(tmp_path / "a.jsonl")] == [
        "text", "broken line", "text"], "an empty line is none"


PAGE = b"<!DOCTYPE html><html><p>A page with a sentence in it.</p></html>"


def http(body, headers=b"Content-Type: text/html"):
    return b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n" + body


def warc(*blocks, fields=b"WARC-Type: response", tail=b"\r\n\r\n", mime=b"application/http"):
    """Records of these blocks, as bytes."""
    return [b"WARC/1.0\r\n" + fields + (b"\r\nContent-Type: " + mime if mime else b"") +
            b"\r\nWARC-Target-URI: https://a.example/%d\r\nContent-Length: %d\r\n\r\n" %
            (i, len(block)) + block + tail for i, block in enumerate(blocks)]


def kinds(path):
    return [kind for kind, *_ in sources.read_source(path)]


@pytest.mark.parametrize("name, data, kind", [
    ("page.html", PAGE, "html"), ("page.txt", b"\n<!-- x -->" + PAGE, "html"),
    ("page.warc.gz", gzip.compress(b"".join(warc(http(PAGE)))), "html"),
    ("a.txt", b"".join(warc(http(PAGE))), "html"), ("a.txt.gz", gzip.compress(b"words"), "text"),
    ("a.warc.bz2", bz2.compress(b"".join(warc(http(PAGE)))), "html"),
    ("a.warc.xz", lzma.compress(b"".join(warc(http(PAGE)))), "html")])
def test_a_file_is_what_its_first_bytes_say(tmp_path, name, data, kind):
    (tmp_path / name).write_bytes(data)
    assert kinds(tmp_path / name) == [kind]


LINES = b'{"text": "one", "url": "https://a.example/1"}\n{"text": "two", "url": "N/A"}\n'


@pytest.mark.parametrize("name, data", [
    ("c4-train.00000.json.gz", gzip.compress(LINES)), ("a.jsonl.bz2", bz2.compress(LINES)),
    ("a.jsonl.xz", lzma.compress(LINES)), ("a.ndjson", LINES), ("a.txt", LINES), ("a", LINES),
    ("a.jsonl", b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n"))])
def test_lines_of_json_are_read_whatever_their_packing_or_name(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    records = list(sources.read_source(tmp_path / name))
    assert [(kind, body) for kind, _, body, _ in records] == [("text", b"one"), ("text", b"two")]
    assert records[0][1] == "https://a.example/1"
    assert records[1][1].endswith(f"{name}#2"), 'the "N/A" of many lines is no address'
    if "." in name:
        assert sources.find_sources([], [tmp_path]) == [tmp_path / name], "found in a folder too"


def test_a_text_about_json_stays_a_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b'{"a": 1}\nis how JSON looks, and "text" is a key.\n')
    (tmp_path / "b.txt.xz").write_bytes(lzma.compress(b"words"))
    assert kinds(tmp_path / "a.txt") == kinds(tmp_path / "b.txt.xz") == ["text"]


@pytest.mark.parametrize("name, data, said", [
    ("a.tar", b"a.txt" + bytes(252) + b"ustar" + bytes(700), "is a tar archive"),
    ("a.rtf", b"{\\rtf1 hello}", "is a RTF document"), ("a.txt", "Zwölf".encode("utf-16"), "UTF-16"),
    ("a.mp4", bytes(3) + b"\x20ftypisom" + bytes(50), "zero bytes"),
    ("a.txt", b"\x89HDF\r\n", "is a HDF table"), ("a.txt", b"%PDF-1.4", "is a PDF"), ("a.md", b"\x89PNG\r\n", "is a picture"),
    ("a.jsonl", b"PAR1....", "is a Parquet table"), ("a.txt", b"PK\3\4....", "is a zip"),
    ("a.wacz", b"PK\3\4....", "damaged zip"),
    ("a.warc.lz4", b"\x04\x22\x4d\x18abc", "packed with lz4.*run lz4 -d a.warc.lz4")])
def test_other_formats_are_named_never_read_as_text(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=said) as error:
        list(sources.read_source(tmp_path / name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("magic", [b"\x28\xb5\x2f\xfd", b"\x5d\x2a\x4d\x18"])
def test_zstandard_is_named_where_python_lacks_it(tmp_path, magic):
    pytest.importorskip("lzma")
    try:
        import compression.zstd                  # noqa: F401  Python 3.14 reads it
        pytest.skip("this Python can read it")
    except ImportError:
        pass
    (tmp_path / "a.warc.zst").write_bytes(magic + bytes(40))
    with pytest.raises(BadInput, match="packed with zstd.*zstd -d a.warc.zst"):
        list(sources.read_source(tmp_path / "a.warc.zst"))


ARC_V1 = b"%s 192.0.2.1 20080430204825 text/html %d\n"
ARC_V2 = b"%s 192.0.2.1 20080430204825 text/html 200 CHECK - 0 x.arc %d\n"


@pytest.mark.parametrize("line, pack", [(ARC_V1, bytes), (ARC_V2, bytes), (ARC_V1, gzip.compress)])
def test_arc_files_are_read(tmp_path, line, pack):
    blocks = [http(PAGE + b"%d" % i) for i in range(9)]
    first = b"filedesc://x.arc 0.0.0.0 20080430204825 text/plain %d\n1 0 IA\nfields\n" % len(
        b"1 0 IA\nfields\n")
    rows = [first] + [line % (b"http://a.example/%d x" % i, len(b)) + b for i, b in enumerate(blocks)]
    damaged = rows.copy()
    damaged[4] = damaged[4][:-30]                           # its length says more than is there
    (tmp_path / "x.arc").write_bytes(b"".join(pack(r + b"\n") for r in rows))
    records = list(read_warc(tmp_path / "x.arc"))
    assert [(r.url, r.payload) for r in records] == [
        (f"http://a.example/{i}%20x", PAGE + b"%d" % i) for i in range(9)]
    assert kinds(tmp_path / "x.arc") == ["html"] * 9
    (tmp_path / "x.arc").write_bytes(b"".join(pack(r + b"\n") for r in damaged))
    assert len(list(read_warc(tmp_path / "x.arc"))) >= 8, "one wrong length costs one record or two"


def test_a_wacz_is_a_zip_of_archives(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.wacz", "w") as archive:
        archive.writestr("datapackage.json", "{}")
        for name in ("two", "one"):
            with WarcWriter(tmp_path / f"{name}.warc.gz") as writer:
                writer.response(f"https://{name}.example/", PAGE)
            archive.write(tmp_path / f"{name}.warc.gz", f"archive/{name}.warc.gz")
    urls = [url for _, url, _, _ in sources.read_source(tmp_path / "a.wacz")]
    assert urls == ["https://one.example/", "https://two.example/"]
    with zipfile.ZipFile(tmp_path / "b.wacz", "w") as archive:
        archive.writestr("x.txt", "x")
    with pytest.raises(BadInput, match="without WARC files"):
        list(read_warc(tmp_path / "b.wacz"))


@pytest.mark.parametrize("options", [
    {"fields": b"WARC-Record-ID: <urn:uuid:1>"}, {"mime": b""}, {"mime": b"message/http"},
    {"mime": b"text/html"}, {"tail": b""}, {"tail": b"\n\n"}, {"tail": b"\r\n"},
    {"tail": b"\r\n" * 20}])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_what_archives_of_the_wild_leave_out(tmp_path, options, pack):
    """No WARC-Type, no Content-Type, message/http, no line ends after a record, or twenty."""
    blocks = [http(PAGE + b"%d" % i) for i in range(5)]
    (tmp_path / "x.warc").write_bytes(b"".join(map(pack, warc(*blocks, **options))))
    problems = []
    records = list(read_warc(tmp_path / "x.warc", problems))
    assert [r.payload for r in records] == [PAGE + b"%d" % i for i in range(5)] and not problems
    assert kinds(tmp_path / "x.warc") == ["html"] * 5


def test_what_is_no_page_is_counted_by_name(tmp_path):
    rows = warc(http(b"\x0b\x02", b"Content-Encoding: br"), http(b"(\xb5/\xfdx", b"Content-Encoding:"
                b" dcb"), http(PAGE))
    rows += warc(http(b""), fields=b"WARC-Type: revisit")
    rows += warc(b"x", fields=b"WARC-Type: continuation")
    rows += warc(b"{}", fields=b"WARC-Type: resource", mime=b"application/json")
    rows += [warc(b"x", fields=b"WARC-Type: resource", mime=b"text/plain")[0].replace(
        b"https://a.example/0", b"urn:text:https://a.example")]
    (tmp_path / "x.warc").write_bytes(b"".join(rows))
    assert kinds(tmp_path / "x.warc") == [
        "html", "revisit of a page fetched before", "piece of a segmented record",
        "not HTML: application/json", "not a page: urn", "packed with br", "packed with dcb"]


def test_records_without_an_address_are_different_pages(tmp_path):
    rows = [row.replace(b"WARC-Target-URI: https://a.example/%d\r\n" % i, b"")
            for i, row in enumerate(warc(http(PAGE), http(PAGE)))]
    (tmp_path / "x.warc").write_bytes(b"".join(rows))
    urls = [url for _, url, _, _ in sources.read_source(tmp_path / "x.warc")]
    assert urls[0] != urls[1] and urls[0].startswith("file:///x.warc#")


@pytest.mark.parametrize("spelling, right", [
    ("sha1:{b32}", True), ("sha1:{hex}", True), ("SHA-1:{b32}", True), ("sha-256:{hex}", True),
    ("sha256:{b64}", True), ("sha512:{hex}", True), ("md5:{b32}", True), ("sha1:{b32x}", False),
    ("sha-256:{hexx}", False), ("sha512:{b64x}", False)])
def test_digests_in_all_spellings(spelling, right):
    import base64
    import hashlib
    block = http(PAGE)
    name = spelling.partition(":")[0].lower().replace("-", "")
    raw, other = hashlib.new(name, PAGE).digest(), hashlib.new(name, b"other").digest()
    values = {"b32": base64.b32encode(raw).decode(), "hex": raw.hex(),
              "b64": base64.b64encode(raw).decode().rstrip("="), "hexx": other.hex(),
              "b32x": base64.b32encode(other).decode(), "b64x": base64.b64encode(other).decode()}
    said = wrong_digest(Headers("WARC-Payload-Digest: " + spelling.format(**values)), block)
    assert (said is None) == right, said
    assert "unknown kind: crc32" in wrong_digest(Headers("WARC-Block-Digest: crc32:1"), block)


def test_digests_of_revisits_and_of_resources_with_empty_lines():
    TWO = b"one\n\ntwo"
    story = Headers(f"WARC-Payload-Digest: {digest(TWO)}\nContent-Type: text/plain")
    assert wrong_digest(story, TWO, "resource") is None, "all of the block is payload"
    first = Headers(f"WARC-Payload-Digest: {digest(PAGE)}")
    assert wrong_digest(first, http(b""), "revisit") is None, "it is the digest of the page before"
    assert wrong_digest(first, http(b""), "response") is not None


def test_an_archive_is_read_without_records_of_wrong_digests_on_request(tmp_path):
    record = (b"WARC/1.0\r\nWARC-Type: resource\r\nWARC-Target-URI: https://a.example/%d\r\n"
              b"Content-Type: text/html\r\nWARC-Block-Digest: %s\r\nContent-Length: 9\r\n\r\n"
              b"<p>page %d\r\n\r\n")
    right = digest(b"<p>page 0").encode()
    (tmp_path / "a.warc").write_bytes(record % (0, right, 0) + record % (1, right, 1)
                                      + record % (2, b"crc32:00000000", 2))
    kinds = [kind for kind, *_ in sources.records_of(tmp_path / "a.warc", verify_digests=True)]
    assert kinds == ["html", "html", "damaged record"], "an unknown digest says nothing"
    assert [kind for kind, *_ in sources.records_of(tmp_path / "a.warc")] == ["html"] * 3


def arc_record(url="http://a.example/", mime="text/html", address="192.0.2.1", date="20080430204825",
               length=None, tail=b"\n"):
    """One record of an ARC file, right or with a wrong length."""
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + PAGE
    length = len(block) if length is None else length
    return f"{url} {address} {date} {mime} {length}\n".encode() + block + tail


FILEDESC = b"filedesc://x.arc 0.0.0.0 20080430 text/plain 4\n1 0\n"


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("records", [
    [arc_record(tail=b""), arc_record()], [arc_record(mime=""), arc_record()],
    [arc_record(address="-"), arc_record(address="unknown")],
    [arc_record(date="20080430204825123"), arc_record(tail=b"\r\n")]])
def test_arc_records_of_the_wild(tmp_path, records, pack):
    (tmp_path / "x.arc").write_bytes(b"".join(map(pack, [FILEDESC, *records])))
    assert [kind for kind, *_ in sources.read_source(tmp_path / "x.arc")] == ["html", "html"]


def test_an_arc_record_that_says_too_much_costs_itself_only(tmp_path):
    (tmp_path / "x.arc").write_bytes(FILEDESC + arc_record(length=99_999) + arc_record())
    assert [kind for kind, *_ in sources.read_source(tmp_path / "x.arc")] == ["html", "damaged record"]
    (tmp_path / "y.arc").write_bytes(arc_record() * 2)
    assert len(list(sources.read_source(tmp_path / "y.arc"))) == 2, "no filedesc record"


def warc_bytes(tmp_path, url):
    with WarcWriter(tmp_path / "t.warc.gz") as writer:
        writer.response(url, PAGE)
    return (tmp_path / "t.warc.gz").read_bytes()


@pytest.mark.parametrize("name, pack", [
    ("archive/A.WARC.GZ", bytes), ("archive/a.warc.wet.gz", bytes),
    ("archive/a.warc.bz2", lambda data: bz2.compress(gzip.decompress(data))),
    ("archive/a.warc.xz", lambda data: lzma.compress(gzip.decompress(data)))])
def test_names_and_packings_in_a_wacz(tmp_path, name, pack):
    with zipfile.ZipFile(tmp_path / "a.wacz", "w") as archive:
        archive.writestr(name, pack(warc_bytes(tmp_path, "https://a.example/")))
    assert [r[1] for r in sources.read_source(tmp_path / "a.wacz")] == ["https://a.example/"]


def test_a_damaged_member_of_a_wacz_costs_itself_only(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.wacz", "w") as archive:
        for name in "ab":
            archive.writestr(f"archive/{name}.warc.gz", warc_bytes(tmp_path, f"https://{name}.example/"))
    data = bytearray((tmp_path / "a.wacz").read_bytes())
    data[data.find(b"a.warc.gz") + 40] ^= 255
    (tmp_path / "a.wacz").write_bytes(data)
    found = list(sources.read_source(tmp_path / "a.wacz"))
    assert [kind for kind, *_ in found] == ["html", "damaged record"] and "a.warc.gz" in found[1][1]


def test_a_member_that_breaks_off_is_one_damaged_record(tmp_path):
    good = warc_bytes(tmp_path, "https://a.example/")
    (tmp_path / "x.warc.gz").write_bytes(good + good[:-20])
    assert [r[0] for r in sources.read_source(tmp_path / "x.warc.gz")].count("damaged record") == 1


@pytest.mark.parametrize("mime", ["text/xml", "application/xml", "application/octet-stream", "unknown"])
def test_a_page_under_a_vague_type_is_read(tmp_path, mime):
    pages = {"https://a.example/1": b"<?xml version='1.0'?><html><body><p>hi</p></body></html>",
             "https://a.example/2": b"<?xml version='1.0'?><rss/>"}
    with WarcWriter(tmp_path / "x.warc.gz") as writer:
        for url, body in pages.items():
            writer.response(url, body, content_type=mime)
    assert [r[0] for r in sources.read_source(tmp_path / "x.warc.gz")] == ["html", f"not HTML: {mime}"]


@pytest.mark.parametrize("name, data, kinds", [
    ("a.txt", b"\xef\xbb\xbfhello", [("text", b"hello")]),
    ("a.txt", b"WARC/1.0 is a format, and this is about it\n", [("text", b"WARC/1.0 is a format, and this is about it\n")]),
    ("a.txt", b"filedesc: is a word\n", [("text", b"filedesc: is a word\n")]),
    ("notes.warc.txt", b"hello", [("text", b"hello")]),
    ("a.htm", b"<p>no tag of a page", [("html", b"<p>no tag of a page")]),
    ("a.html", "<html><p>é".encode("utf-16"), [("html", "<html><p>é".encode("utf-16"))])])
def test_what_a_file_is_by_its_first_bytes_and_its_name(tmp_path, name, data, kinds):
    (tmp_path / name).write_bytes(data)
    assert [(kind, body) for kind, _, body, _ in sources.read_source(tmp_path / name)] == kinds


@pytest.mark.parametrize("name, data, said", [
    ("a.txt.gz", gzip.compress(b"hello\n" * 1000)[:30], "breaks off"),
    ("a.xml", b"<?xml version='1.0'?><doc>x</doc>", "XML file"), ("a.txt", b"<svg><text>hi</text></svg>", "XML file"),
    ("a.mhtml", b"From: <Saved by Blink>\r\nMIME-Version: 1.0\r\n", "MHTML"), ("a.txt", b"Obj\x01avro.schema", "Avro"),
    ("a.txt", b"FEA1abc", "Feather"), ("a.txt.Z", b"\x1f\x9d\x90abc", "compress")])
def test_other_formats_are_refused_by_name(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=said):
        list(sources.read_source(tmp_path / name))


@pytest.mark.parametrize("line, url", [
    ('{"text": "a", "metadata": {"url": "https://a.example/"}}', "https://a.example/"),
    ('{"text": "a", "meta": {"url": "https://a.example/"}}', "https://a.example/"),
    ('{"text": "a", "url": ["x.y"]}', "file:///a.jsonl#1"), ('{"text": "a", "metadata": "x"}', "file:///a.jsonl#1")])
def test_where_a_jsonl_line_keeps_its_address(tmp_path, line, url):
    (tmp_path / "a.jsonl").write_text(line + "\n", encoding="utf-8")
    assert [r[1] for r in sources.read_source(tmp_path / "a.jsonl")] == [url]
