"""dedup.py: URLs by table, lines and entries by hand, idempotent and order-free."""

import random

import numpy as np
import pytest

import dedup as d


@pytest.mark.exercise("2.10")
@pytest.mark.parametrize("url, expected", [
    ("HTTP://www.Example.com:80/a/./b/?b=2&a=1#top", "https://example.com/a/b?a=1&b=2"),
    ("https://example.com", "https://example.com"),
    ("https://example.com/", "https://example.com"),
    ("https://example.com/index.html", "https://example.com"),
    ("https://example.com/a/../b/c/../d", "https://example.com/b/d"),
    ("https://example.com//a///b", "https://example.com/a/b"),
    ("https://example.com/%7Euser/%e4", "https://example.com/~user/%E4"),
    ("https://example.com/a%2fb", "https://example.com/a%2Fb"),
    ("https://example.com/a?utm_source=x&id=3", "https://example.com/a?id=3"),
    ("https://example.com/a?UTM_Source=x&PHPSESSID=1&id=3", "https://example.com/a?id=3"),
    ("https://example.com/a;jsessionid=0A1", "https://example.com/a"),
    ("https://example.com/a.php?sid=7", "https://example.com/a.php?sid=7"),     # story 7
    ("https://example.com/a?sid=0a1b2c3d4e5f60718293a4b5&x=1", "https://example.com/a?x=1"),
    ("https://example.com/a?sessionid=12", "https://example.com/a?sessionid=12"),
    ("https://M\u00fcnchen.example/x", "https://xn--mnchen-3ya.example/x"),
    ("https://xn--mnchen-3ya.example/x", "https://xn--mnchen-3ya.example/x"),
    ("https://www.\u4f8b\u5b50.example", "https://xn--fsqu00a.example"),
    ("http://[2001:DB8:0:0::1]:80/x", "https://[2001:db8::1]/x"),
    ("http://[2001:db8::1]:8080/x", "https://[2001:db8::1]:8080/x"),
    ("https://example.com:443/a", "https://example.com/a"),
    ("https://example.com:8080/a", "https://example.com:8080/a"),
    ("https://user:pass@example.com./a", "https://example.com/a"),
    ("https://www2.example.com/A", "https://example.com/A"),
    ("https://example.com/../../a", "https://example.com/a"),
    ("https://example.com/a?b=&c", "https://example.com/a?b=&c="),
    ("https://example.com/a?Q=X%20y+z", "https://example.com/a?Q=X+y+z"),
    ("https://example.com/a?q=%e4", "https://example.com/a?q=%E4"),   # a byte that is no UTF-8
    ("https://stra\u00dfe.example/", "https://xn--strae-oqa.example"),   # not strasse.example
    ("https://\u03b2\u03cc\u03bb\u03bf\u03c2.example", "https://xn--nxasmm1c.example"),
    ("https://\u4f8b\u3048\u3002jp/x", "https://xn--r8jz45g.jp/x"),
    ("https://\uff25X.example/x", "https://ex.example/x"),
    ("https://www.com/x", "https://www.com/x"),
    ("https://example.com/#!/b", "https://example.com#!/b"),
    ("https://[::FFFF:192.0.2.1]/", "https://[::ffff:c000:201]"),
    ("https://example.com/a?p=1&&", "https://example.com/a?p=1"),
    ("https://example.com/a%2Bb?q=a%2Bb", "https://example.com/a%2Bb?q=a%2Bb"),
    ("mailto:someone", "mailto:someone"),
    ("http://[broken", "http://[broken"),
    ("", ""),
])
def test_normalise_url(url, expected):
    assert d.normalise_url(url) == expected, f"{url}"
    assert d.normalise_url(expected) == expected, "normalising twice changes nothing"


def test_dedup_urls_keeps_the_longest_text_in_any_order():
    urls = ["http://a.example/x", "https://www.a.example/x#y", "https://b.example"]
    texts = ["short", "the long one", "other"]
    assert d.dedup_urls(urls, texts) == [1, 2]
    assert d.dedup_urls(urls[::-1], texts[::-1]) == [0, 1]
    assert d.dedup_urls(urls) == [0, 2], "without texts the first stays"


def test_dedup_exact_ignores_outer_white_space_only():
    assert d.dedup_exact(["a b", " a b\n", "a  b", "A b"]) == [0, 2, 3]
    assert d.dedup_exact(["x", "x"], ["https://e.org/long/path", "https://e.org"]) == [1]


@pytest.mark.exercise("2.11")
@pytest.mark.parametrize("keep, expected", [
    ("first", ["Menu 1\nhello", "world\n\n---", ""]),
    ("none", ["hello", "world\n\n---", ""]),
])
def test_dedup_lines_has_two_variants(keep, expected):
    documents = ["Menu 1\nhello", "menu 2:\nworld\n\n---", "MENU 3"]
    assert d.dedup_lines(documents, keep=keep) == expected, \
        f'keep="{keep}": copies are compared after normalise_line; lines without words stay'


@pytest.mark.exercise("2.11")
def test_dedup_lines_looks_within_a_document_and_keeps_blank_lines():
    assert d.dedup_lines(["a\n\na\n\nb"]) == ["a\n\n\nb"]
    assert d.dedup_lines(["a\n\na\n\nb"], keep="none") == ["\n\nb"], \
        "both copies go, also inside one document; blank lines are nobody's copy"


@pytest.mark.exercise("2.11")
def test_dedup_lines_spares_short_lines_on_request():
    assert d.dedup_lines(["Returns\nlong line here", "Returns\nlong line here"], minimum=10) == \
        ["Returns\nlong line here", "Returns"]


@pytest.mark.exercise("2.11")
def test_dedup_lines_refuses_another_word():
    with pytest.raises(ValueError):
        d.dedup_lines(["a"], keep="last")


def test_line_dedup_is_idempotent():
    random.seed(1)
    documents = ["\n".join(random.choices(["ab", "cd", "Ef", "", "g 1", "g 2"], k=8))
                 for _ in range(20)]
    for keep in ("first", "none"):
        once = d.dedup_lines(documents, keep=keep)
        assert d.dedup_lines(once, keep=keep) == once, f"keep={keep} twice is keep={keep} once"


API = """sort(a)
    Return a sorted copy.

    Parameters
    ----------
    a : array

argsort(a)
    Indices that sort.

    Parameters
    ----------
    a : array
"""


@pytest.mark.exercise("2.16")
def test_entries_are_signatures_with_all_their_paragraphs():
    entries = d.entries_of(API)
    assert [e.split("\n")[0] for e in entries] == ["sort(a)", "argsort(a)"], \
        "an indented paragraph belongs to the entry above it"
    assert "".join(entries) == API, "cutting must lose nothing"


@pytest.mark.exercise("2.16")
def test_a_signature_begins_an_entry_however_deep_it_stands():
    page = ("class Ship(Boat)\n    A ship.\n\n    It swims.\n\n    sail(self, wind)\n"
            "        Go.\n\n    anchor\n        Stay.\n\n    moored\n\n    More about it.\n")
    first = [e.split("\n")[0].strip() for e in d.entries_of(page)]
    assert first[:3] == ["class Ship(Boat)", "sail(self, wind)", "anchor"], \
        "a deeper signature, and a lower-case name above deeper lines, begin entries; " \
        "deeper prose does not"


@pytest.mark.exercise("2.16")
@pytest.mark.parametrize("text, count", [
    ("one\n\ntwo\n\nthree", 3), ("one\n\ntwo", 2), ("one\ntwo", 1), ("", 0), ("\n\nx", 1),
    ("  deep\n\n  deep\n\nflat", 3),
    ("  deep\n\n    deeper\n\n  deep", 2), ("a\n  b\nc\n", 1),
])
def test_entries_of_prose_are_paragraphs(text, count):
    entries = d.entries_of(text)
    assert "".join(entries) == text
    assert len(entries) == count, f"{text!r} -> {entries}"


def test_dedup_entries_keeps_headings_inside_entries():
    other = "Sort(A)\n    Return a sorted copy.\n\n    Parameters\n    ----------\n    a: array\n" \
            "\n" \
            "new(x)\n    Something new.\n"
    first, second = d.dedup_entries([API, other])
    assert first == API, "Parameters repeats inside entries and belongs there"
    assert second == "new(x)\n    Something new.\n", "the repeated entry goes whole"


def test_first_copies_never_calls_empty_entries_copies():
    keys = np.array([5, 0, 5, 0, 7], np.uint64)
    assert d.first_copies(keys).tolist() == [True, True, False, True, True]


@pytest.mark.exercise("2.10")
@pytest.mark.parametrize("more", [
    "yclid=1", "_ga=1.2", "_gl=1*a", "igshid=x", "wbraid=x", "_hsenc=x", "mkt_tok=x", "srsltid=x",
    "mtm_source=x", "pk_campaign=x", "hsa_acc=1", "ASPSESSIONIDABCD=XY",
    "osCsid=0123456789abcdef0123456789abcdef", "twclid=x", "spm=a.b.c"])
def test_what_names_a_campaign_or_a_session_is_no_part_of_the_key(more):
    assert d.normalise_url(f"https://a.example/x?id=5&{more}") == "https://a.example/x?id=5"


@pytest.mark.exercise("2.10")
@pytest.mark.parametrize("url, expected", [
    ("https://a.example/(S(lit3py55t21z5v55vlm25s55))/x.aspx", "https://a.example/x.aspx"),
    ("https://a.example/f(x)/y", "https://a.example/f(x)/y"),
    ("https://m%C3%BCnchen.example/x", "https://xn--mnchen-3ya.example/x"),
    ("https://a\u00adb.example/", "https://ab.example"),
    ("https://a.example/x?osCsid=3&pk=1", "https://a.example/x?osCsid=3&pk=1")])
def test_sessions_in_paths_and_coded_names_of_hosts(url, expected):
    assert d.normalise_url(url) == expected
