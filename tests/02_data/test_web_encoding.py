"""web_encoding: characters come out right, whatever a page says of itself."""

import codecs
import random

import pytest

from page_steps import Settings, extract
from web_encoding import codec_name, decode_html

GERMAN, RUSSIAN, JAPANESE = "Größe für 5 €", "Привет, мир", "日本語のページ"


@pytest.mark.exercise("2.5")
@pytest.mark.parametrize("data, charset, want, mistake", [
    (GERMAN.encode(), None, GERMAN, "UTF-8 without any declaration"),
    (GERMAN.encode("cp1252"), None, GERMAN, "nothing declared, not UTF-8: windows-1252"),
    (GERMAN.encode("cp1252"), "iso-8859-1", GERMAN, "latin-1 means windows-1252 to a browser"),
    (GERMAN.encode("cp1252"), "utf8-unknown", GERMAN, "a header that is nonsense is ignored"),
    (GERMAN.encode(), "iso-8859-1", GERMAN, "valid UTF-8 under a wrong header"),
    (RUSSIAN.encode("koi8-r"), "koi8-r", RUSSIAN, "the header"),
    (b'<meta charset="windows-1251">' + RUSSIAN.encode("cp1251"), None, RUSSIAN, "the page's meta"),
    (b'<meta charset="windows-1251">' + RUSSIAN.encode("koi8-r"), "koi8-r", RUSSIAN,
     "the header wins over the page"),
    (codecs.BOM_UTF8 + GERMAN.encode(), "koi8-r", GERMAN, "the mark wins over the header, and goes"),
    (codecs.BOM_UTF16_LE + GERMAN.encode("utf-16-le"), None, GERMAN, "UTF-16 by its mark"),
    (JAPANESE.encode("iso2022_jp"), "iso-2022-jp", JAPANESE, "7-bit bytes are not UTF-8"),
    (b'<meta charset="iso-2022-jp">' + JAPANESE.encode("iso2022_jp"), None, JAPANESE,
     "7-bit bytes that the page declares"),
    (JAPANESE.encode()[:-1], None, JAPANESE[:-1] + "\ufffd", "cut in the last character"),
    (JAPANESE.encode()[:-1], "shift_jis", JAPANESE[:-1] + "\ufffd", "cut, and a wrong header"),
    (b'<meta charset="koi8-r">' + RUSSIAN.encode("koi8-r"), "nonsense", RUSSIAN,
     "a header that is nonsense hides no meta"),
    (b"ok \xff " + JAPANESE.encode(), "utf-8", "ok \ufffd " + JAPANESE, "one bad byte in UTF-8"),
    (b"caf\xe9 \x81", None, "caf\u00e9 \ufffd", "a byte that windows-1252 does not have"),
    (b"\xcf\xf0\xe8\xe2\xe5\xf2 \x98", "windows-1251", "\u041f\u0440\u0438\u0432\u0435\u0442 \ufffd",
     "a byte that the declared encoding does not have"),
    (b"caf\xe9", None, "caf\u00e9", "one letter at the end is no UTF-8 that was cut"),
    (("Zażółć gęślą jaźń, " * 40).encode() + b"\xff" + "koniec".encode(), None, "\ufffdkoniec",
     "one bad byte in a long page of UTF-8 that declares nothing"),
    (b'<meta charset="iso-8859-2">' + ("źdźbło " * 9).encode() + b"\xb1 x", None, "źdźbło \ufffd x",
     "a bad byte under a wrong declaration"),
    (("ü" * 7).encode() + b"\xfc", None, "Ã¼ü", "seven are not enough to outweigh one"),
    (b"", None, "", "nothing"),
])
def test_decode(data, charset, want, mistake):
    got = decode_html(data, charset)
    assert got.endswith(want), f"{mistake}: got {got[-30:]!r}, expected {want!r}"
    assert not got.startswith("\ufeff"), "the byte-order mark is no character of the page"


def test_labels_mean_what_browsers_take_them_to_mean():
    for label, codec in (("latin1", "cp1252"), ("US-ASCII", "cp1252"), (" gb2312 ", "gb18030"),
                         ("Shift_JIS", "cp932"), ("ks_c_5601-1987", "cp949"), ("utf8", "utf-8"),
                         ("TIS-620", "cp874"), ("iso-8859-9", "cp1254")):
        assert codec_name(label) == codec, label
    for label in ("rot13", "zip", "idna", "unicode_escape", "nonsense", "", "\0"):
        assert codec_name(label) is None, f"{label!r} is no character set of the web"


def test_never_raises():
    rng = random.Random(0)
    labels = [None, "utf-16", "hz", "iso-2022-jp", "utf-7", "gb2312", "euc-jp", "punycode", "\ud800"]
    for _ in range(500):
        data = rng.randbytes(rng.randrange(60))
        assert isinstance(decode_html(data, rng.choice(labels)), str)


@pytest.mark.parametrize("charset, codec, text", [
    ("iso-8859-1", "latin-1", "café crème"), ("windows-1251", "cp1251", "Привет, мир"),
    ("shift_jis", "shift_jis", "日本語のテキスト"), (None, "utf-8-sig", "naïve"), ("utf-16", "utf-16", "wide"),
    (None, "latin-1", "déjà vu"), ("nonsense", "utf-8", "grün")])
def test_plain_text_is_decoded_as_its_server_says(charset, codec, text):
    page = {"url": "https://a.example/x", "kind": "text", "body": text.encode(codec), "charset": charset}
    assert extract(page, Settings()) is None and page["text"] == text, (charset, page["text"])


@pytest.mark.parametrize("label, codec", [
    ("iso8859_1", "cp1252"), ("ISO_8859-1:1987", "cp1252"), ("csISOLatin1", "cp1252"), ("KOI8R", "koi8-r"),
    ("koi8", "koi8-r"), ("win-1251", "cp1251"), ("x-cp1251", "cp1251"), ("windows1250", "cp1250"),
    ("cp-1252", "cp1252"), ("ShiftJIS", "cp932"), ("windows-936", "gb18030"), ("big-5", "big5hkscs"),
    ("x-windows-949", "cp949"), ("iso-ir-149", "cp949"), ("csEUCPkdFmtJapanese", "euc-jp")])
def test_labels_that_are_spelt_in_another_way(label, codec):
    assert codec_name(label) == codec


def test_a_declaration_in_a_remark_counts_for_nothing():
    page = b"<!-- <meta charset=utf-8> --><meta charset=windows-1251><p>" + "Привет".encode("cp1251")
    assert decode_html(page).endswith("Привет")
