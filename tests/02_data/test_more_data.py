"""More inputs for the exercises of chapter 2: many rows, ties, other options, edges, loops."""

import math

import numpy as np
import pytest

import decontaminate
from dedup import dedup_lines, entries_of
from hashed_linear import auc, calibration, loss_and_gradient
from heuristics import c4_clean, duplicate_ngram_share, gopher_quality, repeated_parts
from language import SMOOTHING, log_probabilities
from minhash import band_keys, candidate_groups, s_curve, signatures, UnionFind
from mixture import cap_weights, doremi_update, law_error
from safety import blocked_url
from shards import assign_splits


def near(got, want, said="", tolerance=1e-9):
    got, want = np.asarray(got, float), np.asarray(want, float)
    assert got.shape == want.shape, f"{said}: shape {got.shape}, not {want.shape}"
    assert np.allclose(got, want, rtol=tolerance, atol=1e-12), f"{said}: got {got}, not {want}"


@pytest.mark.exercise("2.8")
def test_each_language_and_kind_sums_to_one_and_unseen_rows_say_nothing():
    counts = np.array([[[3.0, 0, 0, 5], [1, 0, 2, 2]], [[0, 0, 0, 1], [4, 0, 0, 0]],
                       [[2, 0, 0, 0], [0, 0, 7, 0]]])                # 3 languages, 2 kinds, 4 rows
    got = log_probabilities(counts)
    assert got.shape == (2, 4, 3) and got.dtype == np.float32
    for language in range(3):
        for kind in range(2):
            seen = [r for r in range(4) if counts[:, kind, r].sum() > 0]
            total = sum(counts[language, kind, r] + SMOOTHING for r in seen)
            for r in range(4):
                want = math.log((counts[language, kind, r] + SMOOTHING) / total) if r in seen else 0
                near(got[kind, r, language], want, f"language {language}, kind {kind}, row {r}", 1e-5)


@pytest.mark.exercise("2.11")
def test_lines_across_documents_with_a_minimum():
    documents = ["Menu item\nOnly here, a text", "menu ITEM\n\n---\nAnother long line", "---\nMenu item"]
    assert dedup_lines(documents) == ["Menu item\nOnly here, a text", "\n---\nAnother long line", "---"]
    assert dedup_lines(documents, "none") == ["Only here, a text", "\n---\nAnother long line", "---"]
    assert dedup_lines(documents, "none", minimum=30) == documents, "shorter than 30: never dropped"
    assert dedup_lines(["same line\nsame line"]) == ["same line"], "within a document too"
    assert dedup_lines([]) == []
    for bad in ("last", ""):
        with pytest.raises(ValueError):
            dedup_lines(documents, bad)


@pytest.mark.exercise("2.12")
def test_repeated_parts_of_unlike_length():
    near(repeated_parts(["aa", "b", "aa", "aa", "b", "cccc"]), [3 / 6, 5 / 12])
    near(repeated_parts(["a"]), [0, 0]), near(repeated_parts([]), [0, 0])
    near(repeated_parts(["", ""]), [0, 0], "no characters at all")


WORDS = "the plan of a house that was made with care and drawn by hand in ink ".split()


@pytest.mark.exercise("2.13")
@pytest.mark.parametrize("text, said", [
    (" ".join(WORDS * 4), None), (" ".join((WORDS * 4)[:50]), None),
    (" ".join((WORDS * 4)[:49]), "words"), (" ".join(["the of"] * 30), "length"),
    (" ".join(WORDS * 4) + " #" * 8, "hash"), ("\n".join(["- " + " ".join(WORDS)] * 4), "bullet"),
    ("\n".join([" ".join(WORDS) + " ..."] * 4), "ellips"),
    (" ".join(["1234567"] * 20 + WORDS * 3), "alphabetic"),
    (" ".join(["house", "drawn", "plans", "hands"] * 20), "stop")])
def test_one_rule_of_gopher_at_a_time(text, said):
    got = gopher_quality(text)
    assert (got is None) if said is None else said in (got or "").lower(), f"{got!r} for {text[:40]}"


@pytest.mark.exercise("2.13")
def test_the_stop_words_are_those_asked_for():
    text = " ".join(["house", "drawn", "plans", "hands"] * 20)
    assert gopher_quality(text, frozenset()) is None, "without any, no such rule"
    assert gopher_quality(text, frozenset({"house", "plans", "x"})) is None
    assert "stop" in gopher_quality(text, frozenset({"house", "x"})).lower(), "two different ones"


@pytest.mark.exercise("2.14")
def test_the_line_rules_can_be_switched_off():
    text = ("  This line has five words.\nno end here but many words\n\nShort one.\n"
            "Please enable javascript to see this page.\nThis one ends in dots ...\n"
            "A second sentence of enough words!\nAnd the third one stands right here?[1]")
    on, reason = c4_clean(text)
    assert reason is None and [line.strip() for line in on.split("\n")] == [
        "This line has five words.", "A second sentence of enough words!",
        "And the third one stands right here?"], on
    off, reason = c4_clean(text, terminal_punctuation=False)
    assert reason is None and "no end here" in off and "javascript" not in off and "\n\n" in off
    assert off.startswith("  This"), "indentation stays"
    assert c4_clean("A { b. c. d.")[1] and c4_clean("Lorem IPSUM is here. a. b.")[1]
    assert "entences" in c4_clean("Only two sentences of many words. And this is the second.")[1]


@pytest.mark.exercise("2.15")
@pytest.mark.parametrize("n", [1, 2, 3])
def test_covered_characters_by_hand(n):
    rng = np.random.default_rng(n)
    for size in (n - 1, n, 30):
        ids, lengths = rng.integers(0, 4, size), rng.integers(1, 9, size)
        grams = [tuple(ids[i:i + n]) for i in range(max(0, size - n + 1))]
        covered = {j for i, g in enumerate(grams) if grams.count(g) > 1 for j in range(i, i + n)}
        want = sum(int(lengths[j]) for j in covered) / max(1, int(lengths.sum()))
        near(duplicate_ngram_share(ids, lengths, n), want, f"{size} words, n = {n}")


@pytest.mark.exercise("2.16")
def test_entries_of_prose_signatures_and_nothing():
    text = "Title\n\nOne paragraph\nof two lines.\n\nf(x)\n    Does f.\n\n    More of f.\n\nlast\n"
    got = entries_of(text)
    assert "".join(got) == text and got == [
        "Title\n\n", "One paragraph\nof two lines.\n\n", "f(x)\n    Does f.\n\n    More of f.\n\n",
        "last\n"], got
    assert "".join(entries_of("\n\n a")) == "\n\n a" and entries_of("") == []


@pytest.mark.exercise("2.17")
@pytest.mark.parametrize("bands, rows", [(14, 8), (20, 5), (1, 1), (3, 2)])
def test_the_s_curve_of_each_setting(bands, rows):
    s = np.array([0.0, 0.2, 0.75, 1.0])
    near(s_curve(s, bands, rows), [1 - (1 - x ** rows) ** bands for x in s])
    near(s_curve(0.5, bands, rows), 1 - (1 - 0.5 ** rows) ** bands, "a number")


@pytest.mark.exercise("2.18")
def test_signatures_depend_on_ngram_and_count_and_on_each_text_alone():
    texts = ["a b c d e f g", "", "a b c d e x y", "one two", "g f e d c b a"]
    got = signatures(texts, 3, 40)
    assert got.shape == (5, 40) and got.dtype == np.uint32
    assert (got[1] == 2 ** 32 - 1).all(), "a text without words"
    for i, text in enumerate(texts):
        assert (signatures([text], 3, 40)[0] == got[i]).all(), f"text {i} alone"
    assert (signatures(texts, 2, 40)[0] != got[0]).any(), "another n-gram, other shingles"
    assert (signatures(texts, 3, 20) == got[:, :20]).all() or len(signatures(texts, 3, 20)[0]) == 20
    assert len({tuple(column) for column in got[[0, 2, 3, 4]].T}) > 30, "forty functions, not one"


@pytest.mark.exercise("2.19")
def test_keys_of_each_band_depend_on_all_its_rows_in_order():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2 ** 32, (3, 12), dtype=np.uint64).astype(np.uint32)
    keys = band_keys(base, 4, 3)
    assert keys.shape == (3, 4) and keys.dtype == np.uint64 and len(set(keys.ravel().tolist())) == 12
    for column in range(12):
        other = base.copy()
        other[:, column] += 1
        differs = band_keys(other, 4, 3) != keys
        assert differs[:, column // 3].all() and differs.sum() == 3, f"column {column}"
    swapped = base[:, [1, 0, *range(2, 12)]]
    assert (band_keys(swapped, 4, 3)[:, 0] != keys[:, 0]).all(), "the order of rows counts"
    assert (band_keys(base[:, :6], 2, 3) == keys[:, :2]).all()


@pytest.mark.exercise("2.20")
def test_groups_of_many_rows_are_sorted_and_listed_once():
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 9, (200, 3)).astype(np.uint64)
    keys[:, 2] = keys[:, 0]                                # two bands find the same groups
    got = candidate_groups(keys)
    want = {tuple(np.flatnonzero(keys[:, b] == k)) for b in range(3) for k in range(9)}
    assert got == [list(map(int, g)) for g in sorted(want) if len(g) > 1], "sorted, each once"
    assert candidate_groups(np.arange(6, dtype=np.uint64).reshape(3, 2)) == []
    assert candidate_groups(np.zeros((0, 2), np.uint64)) == []


@pytest.mark.exercise("2.21")
def test_unions_in_any_order_have_the_smallest_root():
    for order in ([(3, 4), (1, 2), (4, 2), (0, 5)], [(2, 4), (0, 5), (4, 3), (2, 1)]):
        joined = UnionFind(6)
        for pair in order:
            joined.union(*pair)
        assert [joined.find(i) for i in range(6)] == [0, 1, 1, 1, 1, 0]
    joined.union(3, 3), joined.union(1, 4)
    assert [joined.find(i) for i in range(6)] == [0, 1, 1, 1, 1, 0], "joined already: nothing happens"


@pytest.mark.exercise("2.23")
@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_the_gradient_row_by_row_with_weights(l2):
    rng = np.random.default_rng(0)
    ids, values, starts = np.array([0, 2, 2, 1, 3, 0]), rng.normal(size=6), np.array([0, 2, 5])
    y, sample, w = np.array([1.0, 0, 1]), np.array([0.5, 0.2, 0.3]), rng.normal(size=5)

    def loss(w):
        total = 0.5 * l2 * sum(w[:-1] ** 2)
        for i, (a, b) in enumerate(((0, 2), (2, 5), (5, 6))):
            s = sum(w[ids[j]] * values[j] for j in range(a, b)) + w[-1]
            total += sample[i] * (math.log1p(math.exp(s)) - y[i] * s)
        return total
    got, gradient = loss_and_gradient(w, (ids, values, starts), y, sample, l2)
    near(got, loss(w))
    near(gradient, [(loss(w + e) - loss(w - e)) / 2e-6 for e in np.eye(5) * 1e-6], "", 1e-4)
    far = loss_and_gradient(1e4 * w, (ids, values, starts), y, sample, l2)
    assert np.isfinite(far[0]) and np.isfinite(far[1]).all(), "no overflow"


@pytest.mark.exercise("2.24")
def test_auc_is_the_share_of_pairs():
    rng = np.random.default_rng(0)
    for n, m in ((1, 1), (5, 3), (20, 40)):
        p, q = rng.integers(0, 6, n) / 5, rng.integers(0, 6, m) / 5
        near(auc(p, q), np.mean([(a > b) + 0.5 * (a == b) for a in p for b in q]), f"{n}, {m}")


@pytest.mark.exercise("2.25")
@pytest.mark.parametrize("bins", [1, 4, 10])
def test_bins_with_their_lower_bound_and_their_weight(bins):
    p = np.array([0.0, 0.25, 0.26, 0.5, 0.74, 0.99, 1.0, 0.05])
    y = np.array([0, 1, 0, 1, 1, 1, 0, 0])
    rows, gap = calibration(p, y, bins)
    groups = {}
    for a, b in zip(p, y):
        groups.setdefault(min(int(a * bins), bins - 1), []).append((a, b))
    want = [(np.mean([a for a, _ in g]), np.mean([b for _, b in g]), len(g))
            for _, g in sorted(groups.items())]
    near(rows, want), near(gap, sum(abs(a - b) * n for a, b, n in want) / 8)


@pytest.mark.exercise("2.26")
@pytest.mark.parametrize("url, listed, blocked", [
    ("https://a.b.example/x", {"b.example"}, True), ("https://ab.example/x", {"b.example"}, False),
    ("https://b.example.org/", {"b.example"}, False), ("HTTPS://WWW.B.example/y", {"b.example"}, True),
    ("https://essex.example/", (), False), ("https://c.example/essex/road", (), False)])
def test_hosts_below_and_beside_the_listed(url, listed, blocked):
    got = blocked_url(url, frozenset(listed))
    assert (got is not None) == blocked, got
    assert got is None or got.startswith("blocked address: ")


@pytest.mark.exercise("2.27")
def test_caps_in_several_rounds():
    near(cap_weights([8, 1, 1], [0.5, 1, 1]), [0.5, 0.25, 0.25], "weights need not sum to 1")
    near(cap_weights([0.6, 0.3, 0.1], [0.3, 0.35, 1]), [0.3, 0.35, 0.35], "a second cap is met")
    near(cap_weights([0.2, 0.3, 0.5], [1, 1, 1]), [0.2, 0.3, 0.5], "no cap is met")
    near(cap_weights([0.7, 0.3], [0.5, 0.5]), [0.5, 0.5])
    near(cap_weights([0.5, 0.5, 0.0], [0.2, 0.5, 1])[:2], [0.2, 0.5], "a weight of 0 takes the rest", 1e-6)


@pytest.mark.exercise("2.28")
@pytest.mark.parametrize("step, smoothing", [(1.0, 1e-4), (0.5, 0.0), (2.0, 0.3)])
def test_one_step_of_doremi_with_its_options(step, smoothing):
    w, excess = np.array([0.2, 0.3, 0.5]), np.array([1.0, 0.0, 2.5])
    raw = w * np.exp(step * excess)
    want = (1 - smoothing) * raw / raw.sum() + smoothing / 3
    near(doremi_update(w, excess, step, smoothing), want)
    assert np.isfinite(doremi_update(w, 1e4 * excess, step, smoothing)).all()


@pytest.mark.exercise("2.29")
@pytest.mark.parametrize("ridge, delta", [(0.0, 0.01), (0.3, 0.01), (0.3, 1.0)])
def test_the_error_of_a_law_and_its_gradient(ridge, delta):
    rng = np.random.default_rng(0)
    x, r, loss = rng.normal(size=5), rng.dirichlet(np.ones(3), 6), 2 + rng.random(6)

    def error(x):
        e = x[0] + np.exp(x[1] + r @ x[2:]) - loss
        return np.mean(np.sqrt(1 + (e / delta) ** 2) - 1) + ridge * x[2:] @ x[2:]
    value, gradient = law_error(x, r, loss, ridge, delta)
    near(value, error(x))
    near(gradient, [(error(x + e) - error(x - e)) / 2e-6 for e in np.eye(5) * 1e-6], "", 1e-4)


@pytest.mark.exercise("2.30")
@pytest.mark.parametrize("n", [2, 3])
def test_shared_sequences_of_n_words_with_repeats(n):
    asked = "red green blue white black grey"
    seen = np.sort(decontaminate.evaluation_ngrams([asked], n))
    for text in ("red green blue red green blue", asked, "white black", "nothing of it here", ""):
        words, of = text.split(), asked.split()
        grams = {tuple(of[i:i + n]) for i in range(len(of) - n + 1)}
        want = sum(tuple(words[i:i + n]) in grams for i in range(len(words) - n + 1))
        assert decontaminate.contaminated(text, seen, n) == want, f"n = {n}: {text!r}"
    assert decontaminate.contaminated(asked, seen[:0], n) == 0


@pytest.mark.exercise("2.31")
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_splits_keep_clusters_together_follow_seed_and_share(share):
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 150, 300).tolist()
    packages = [f"p{c % 40}" for c in clusters]
    sizes = rng.integers(50, 150, 300).tolist()
    got = assign_splits(clusters, packages, sizes, share, 1)
    for c in set(clusters):
        assert len({s for s, k in zip(got, clusters) if k == c}) == 1, "a cluster stays together"
    held = sum(n for s, n in zip(got, sizes) if s == "val") / sum(sizes)
    assert 0.7 * share < held <= share, f"{held:.3f} of the bytes, asked for {share}"
    order = rng.permutation(300)
    again = assign_splits(*([x[i] for i in order] for x in (clusters, packages, sizes)), share, 1)
    assert [again[i] for i in np.argsort(order)] == got, "the order of documents does not matter"
    assert assign_splits(clusters, packages, sizes, share, 2) != got, "the seed does"
    whole = [p for p in set(packages) if {s for s, q in zip(got, packages) if q == p} == {"val"}]
    assert whole, "half of the share is whole packages"
