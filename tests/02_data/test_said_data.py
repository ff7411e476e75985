"""What the statements of chapter 2's exercises say once in passing, asked for on its own."""

import codecs

import numpy as np
import pytest

import minhash
from dedup import dedup_lines, entries_of, normalise_url
from heuristics import c4_clean, repeated_parts
from likely_pairs import rare_pairs
from main_text import weigh
from html_tree import Node, Run
from maths_tex import clean_tex
from minhash import UnionFind, candidate_groups, cluster
from mixture import cap_weights, law_error
from personal_data import IP, mask_ip_addresses
from safety import blocked_url
from shards import assign_splits
from web_encoding import decode_html


@pytest.mark.exercise("2.3")
@pytest.mark.parametrize("text, want, count", [
    ("8.8.8.8-8.8.4.4", f"{IP}-{IP}", 2), ("8.8.8.8-2001:4860::2-9.9.9.9", f"{IP}-{IP}-{IP}", 3),
    ("8.8.8.8+10.0.0.1", f"{IP}+10.0.0.1", 1), (f"{IP}-8.8.4.4", f"{IP}-{IP}", 1)])
def test_a_number_glued_to_a_masked_one_is_found_too(text, want, count):
    assert mask_ip_addresses(text) == (want, count), "a mask is a boundary: look again"


@pytest.mark.exercise("2.5")
@pytest.mark.parametrize("data, want", [
    (codecs.BOM_UTF8 + b"ok \xff.", "ok \ufffd."),
    (codecs.BOM_UTF16_LE + "ok".encode("utf-16-le") + b"\x41", "ok\ufffd"),
    (codecs.BOM_UTF16_BE + "gr\u00fcn".encode("utf-16-be"), "gr\u00fcn")])
def test_bad_bytes_behind_a_mark_raise_nothing(data, want):
    assert decode_html(data) == want, "the mark names the encoding, and bad bytes become U+FFFD"


@pytest.mark.exercise("2.6")
def test_a_run_is_weighed_anew_each_time():
    node = Node("p", "", None)
    run = Run("The mayor opened the bridge on Monday, two years late.", 0, node)
    node.children.append(run)
    weigh([node])
    assert (run.mass, node.mass) == (54, 54)
    run.link = 54                               # found to be a link after all
    weigh([node])
    assert (run.mass, node.mass, node.link) == (0, 0, 54), "the old mass of the run stayed"


@pytest.mark.exercise("2.9")
@pytest.mark.parametrize("tex, want", [
    (r"{\scriptstyle a+b}", "a+b"), (r"\textstyle x + y", "x + y"), (r"$$ x $$", "x"),
    (r"\[ {\displaystyle x} \]", "x"), ("a &amp; b", "a & b"),
    (r"{\displaystyle {a}+{b}}", "{a}+{b}"), ("a % one\n% two\n b", "a b")])
def test_each_wrapper_that_is_named(tex, want):
    assert clean_tex(tex) == want, tex


@pytest.mark.exercise("2.10")
@pytest.mark.parametrize("url, want", [
    (" https://example.com/a \n", "https://example.com/a"),
    ("https://example.com/a/Default.aspx", "https://example.com/a"),
    ("https://example.com/INDEX.PHP", "https://example.com"),
    ("https://example.com/a/index.htm?b=1", "https://example.com/a?b=1"),
    ("https://example.com/index.html/a", "https://example.com/index.html/a"),
    ("https://www.awww.example.com/", "https://awww.example.com"),
    ("https://example.com/?b=2&a=3&a=1", "https://example.com?a=1&a=3&b=2"),
    ("ftp://example.com/a/../b", "ftp://example.com/a/../b")])
def test_pages_by_default_blanks_around_and_repeated_parameters(url, want):
    assert normalise_url(url) == want, url


@pytest.mark.exercise("2.11")
def test_the_minimum_is_of_the_normalised_line():
    twice = ["Returns: ------- !!!"] * 2                # 20 signs, normalised "returns"
    assert dedup_lines(twice, minimum=8) == twice, "shorter than 8 once normalised: never dropped"
    assert dedup_lines(twice, minimum=7) == [twice[0], ""], "7 letters are not under 7"


@pytest.mark.exercise("2.11")
@pytest.mark.parametrize("text", ["one\ntwo\n", "\n\none\n\n", "one\x0ctwo\u2028three", "one\r\ntwo\r\n", "\n"])
def test_a_text_without_repeated_lines_stays_to_the_last_sign(text):
    for keep in ("first", "none"):
        assert dedup_lines([text], keep) == [text], "lines end at line feeds, and keep them"


@pytest.mark.exercise("2.22")
@pytest.mark.parametrize("shared, want", [(88, []), (89, [[0, 1]])])
def test_just_under_the_threshold_is_no_copy(shared, want, monkeypatch):
    class Joined:
        """Exercise 2.21, right, for two rows."""

        def __init__(self, size):
            self.pair = False

        def find(self, i):
            return 0 if self.pair else i

        def union(self, i, j):
            self.pair = True

        def clusters(self):
            return [[0, 1]] if self.pair else []
    monkeypatch.setattr(minhash, "UnionFind", Joined)
    sets = [np.arange(100, dtype=np.uint64), np.arange(100 - shared, 200 - shared, dtype=np.uint64)]
    assert cluster(2, [[0, 1]], sets.__getitem__, 0.8) == want, f"{shared} of {200 - shared}"


@pytest.mark.exercise("2.26")
@pytest.mark.parametrize("url, blocked", [
    ("HTTPS://WWW.Good.Example/One/Page/", True), ("good.example/one/page", True),
    ("https://good.example/one/pages", False), ("https://sub.good.example/one/page", False)])
def test_a_listed_url_in_any_spelling(url, blocked):
    got = blocked_url(url, frozenset({"good.example/one/page"}))
    assert (got is not None) == blocked, f"{url}: {got!r}"


@pytest.mark.exercise("2.27")
def test_weights_of_nothing_and_caps_that_leave_no_answer():
    got = cap_weights(np.array([0.6, 0.4, 0.0]), np.array([0.3, 0.5, 1.0]))
    assert got == pytest.approx([0.3, 0.5, 0.2]), "a weight of 0 takes what the caps leave over"
    got = cap_weights(np.array([0.5, 0.5]), np.array([0.3, 0.1]))
    assert got == pytest.approx([0.75, 0.25]), "caps of 0.4 in all are scaled to 1"


@pytest.mark.exercise("2.29")
def test_a_law_far_off_stays_finite():
    with np.errstate(over="raise", invalid="raise"):
        value, gradient = law_error(np.array([1.0, 900.0, 5.0]), np.ones((2, 1)), np.ones(2), 0.1)
    assert np.isfinite(value) and np.isfinite(gradient).all(), "b + t . r counts as 50 at most"


@pytest.mark.exercise("2.31")
def test_what_fits_exactly_is_held_out():
    splits = assign_splits(list(range(10)), [f"p{i}" for i in range(10)], [10] * 10, 0.2)
    assert splits.count("val") == 2, "one package fills half of the 20 bytes, one cluster the rest"


@pytest.mark.exercise("2.31")
@pytest.mark.parametrize("seed", range(6))
def test_behind_what_does_not_fit_the_next_may_still_fit(seed):
    packages = ["large"] + [f"p{i % 5}" for i in range(20)]     # 1000 bytes, and five times four
    splits = assign_splits(list(range(21)), packages, [1000] + [1] * 20, 8.5 / 1020, seed)
    assert splits[0] == "train" and splits.count("val") == 8, f"8 of 8.5 bytes, got {splits}"
    held = [p for p in set(packages) if all(
        s == "val" for s, q in zip(splits, packages) if q == p)]
    assert held, "a whole package fills half of the share, whichever place the large one has"


@pytest.mark.exercise("2.33")
def test_a_pair_that_just_reaches_the_bound_is_a_pair():
    """13 in common of 16 and 17: J = 13 / 20 = 0.65, and 0.65 / 1.65 * 33 is rounded above 13."""
    sets = [np.arange(16, dtype=np.uint64), np.arange(3, 20, dtype=np.uint64)]
    assert rare_pairs(sets, 0.65)[0] == [(0, 1)], "J is 0.65 exactly: a true copy was lost"
    assert rare_pairs(sets, 0.7)[0] == []


@pytest.mark.exercise("2.20")
def test_groups_are_those_of_each_band_and_rows_of_python_numbers():
    keys = np.array([[7, 1], [5, 1], [7, 2], [5, 2], [6, 1]], np.uint64)
    got = candidate_groups(keys)
    assert got == [[0, 1, 4], [0, 2], [1, 3], [2, 3]], f"two bands, each with its own keys: {got}"
    assert all(type(i) is int for group in got for i in group), "rows are plain integers"


@pytest.mark.exercise("2.21")
def test_two_clusters_are_joined_by_any_of_their_members():
    joined = UnionFind(6)
    joined.union(5, 4), joined.union(2, 1), joined.union(5, 2)
    assert [joined.find(i) for i in range(6)] == [0, 1, 1, 3, 1, 1], "the roots are joined"
    other = UnionFind(6)
    assert [other.find(i) for i in range(6)] == list(range(6)), "another forest knows nothing of it"


@pytest.mark.exercise("2.9")
def test_entities_come_before_all_that_they_may_spell():
    assert clean_tex("&#36;x&#36;") == "x", "a dollar written as an entity is a delimiter"
    assert clean_tex("a &#37; note\n+ b") == "a + b", "a comment sign written as one"


@pytest.mark.exercise("2.10")
def test_a_port_is_the_default_of_its_own_scheme_only():
    assert normalise_url("http://site.example:443/x") == "https://site.example:443/x"
    assert normalise_url("https://site.example:80/x") == "https://site.example:80/x"
    assert normalise_url("https://site.example:443/x") == "https://site.example/x"


@pytest.mark.exercise("2.10")
@pytest.mark.parametrize("last", ["index.xml", "default.css", "index.phpx", "myindex.html"])
def test_only_the_listed_names_stand_for_their_folder(last):
    assert normalise_url(f"https://site.example/a/{last}") == f"https://site.example/a/{last}"


@pytest.mark.exercise("2.12")
def test_parts_are_copies_only_if_every_sign_is_the_same():
    assert repeated_parts(["ab", "AB", "a b", "ab "]) == (0, 0)


@pytest.mark.exercise("2.14")
@pytest.mark.parametrize("said, reason", [("Lorem ipsum", "C4 lorem ipsum"),
                                          ("f {", "C4 curly bracket")])
def test_a_page_rule_also_looks_into_lines_that_a_line_rule_drops(said, reason):
    page = "This is a whole sentence of words.\n" * 4 + said
    assert c4_clean(page) == ("", reason), "the line itself is too short to stay"


@pytest.mark.exercise("2.16")
def test_any_number_of_blank_lines_belongs_to_the_entry_before():
    text = "\n\nOne.\n\n\n\nTwo.\n    More.\n\n\n"
    assert entries_of(text) == ["\n\nOne.\n\n\n\n", "Two.\n    More.\n\n\n"]


@pytest.mark.exercise("2.16")
def test_a_name_begins_an_entry_only_above_a_deeper_line_right_behind_it():
    text = "Data\n\n  first\n\n    deeper, but behind a blank line\n\n  second\n    deeper\n"
    assert entries_of(text) == [text[:text.index("  second")], "  second\n    deeper\n"]


@pytest.mark.exercise("2.33")
def test_frequent_shingles_count_as_often_as_the_poorer_of_the_two_has_them():
    frequent = np.arange(100, 130, dtype=np.uint64)         # in eleven sets: more than FEW
    sets = [np.append(np.uint64(1), frequent), np.array([1, 100], np.uint64)] + [frequent] * 10
    assert rare_pairs(sets, 0.8)[0] == [], "one rare and at most one frequent in common, of 33"


@pytest.mark.exercise("2.18")
@pytest.mark.parametrize("count", [1, 3, 130])
def test_as_many_columns_as_are_asked_for_hold_a_smallest_value(count):
    got = minhash.signatures(["one two three four five six", ""], 5, count)
    assert got.shape == (2, count) and (got[1] == 2**32 - 1).all()
    assert (got[0] < 2**32 - 1).all() and len(set(got[0].tolist())) == count, "a function each"
    assert minhash.signatures([], 5, count).shape == (0, count), "no text: no rows"
