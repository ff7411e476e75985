"""minhash.py and shingles.py: estimates against true Jaccard, clusters against all pairs."""

import random
import time

import numpy as np
import pytest

import likely_pairs as lp
import minhash as m
import shingles as s

random.seed(7)
WORDS = [f"word{i}" for i in range(5000)]


def edited(text, changes, seed):
    """`text` with `changes` words replaced by new ones."""
    rng, words = random.Random(seed), text.split()
    for position in rng.sample(range(len(words)), changes):
        words[position] = f"new{rng.random()}"
    return " ".join(words)


def make_pairs(count, length=200, most=12, seed=0):
    rng = random.Random(seed)
    pairs = []
    for i in range(count):
        text = " ".join(rng.choices(WORDS, k=length))
        pairs.append((text, edited(text, i % (most + 1), i)))
    return pairs


def true_jaccard(a, b, n=5):
    x, y = s.slow_shingles(a, n), s.slow_shingles(b, n)
    return len(x & y) / len(x | y)


TEXTS = ["one two three four five six", "One, two; THREE four-five six!", "",
         "caf\u00e9 na\u00efve \u00fcber", "short", "short text", "\u4f60\u597d \u4e16\u754c abc",
         "a\x00b \U0001f600 c_d", "tab\tand\nline"]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_fast_shingles_equal_slow_ones(n):
    hashes, bounds = s.shingle_batch(TEXTS, n)
    for i, text in enumerate(TEXTS):
        mine = np.unique(hashes[bounds[i]:bounds[i + 1]])
        slow = s.slow_shingles(text, n)
        assert len(mine) == len(slow), f"{text!r}: {len(mine)} shingles, expected {slow}"
        assert np.array_equal(mine, s.shingles(text, n)), "a batch gives what one text gives"
    # equal tuples have equal hashes, across texts
    table = {}
    for text in TEXTS[:3]:
        words = s.normalise_text(text).split()
        for h, t in zip(s.shingle_batch([text], n)[0],
                        [tuple(words[i:i + n]) for i in range(max(len(words) - n + 1, 0))]):
            assert table.setdefault(t, h) == h


def test_normalising_is_the_documented_one():
    assert s.normalise_text("Caf\u00e9_bar, No. 5!").split() == [b"cafe", b"bar", b"no", b"5"]
    assert s.normalise_text("\u4f60\u597d").decode().split() == ["\u4f60", "\u597d"]
    for text, words in (("\u201cIt\u2019s\u201d\u2014na\u00efve\u00a0e\u0301tat", "it s naive etat"),
                        ("हिन्दी में।", "हिन्दी में"), ("がで", "が で"), ("한국어를", "한국어를"),
                        ("ΌΔΟΣ Ёлка", "οδος елка"), ("שָׁלוֹם", "שלום")):
        got = s.normalise_text(text).decode().split()
        assert got == words.split(), f"{text}: vowel signs stay, accents go; got {got}"


def test_one_typographic_quote_costs_no_speed():
    text = "The boats wait in the harbour and carry salt and wool to the sea. " * 40
    quoted = text.replace(" in ", " \u2019in\u201d ", 9)

    def seconds(this):
        best = 9.0
        for _ in range(5):
            start = time.process_time()
            for _ in range(200):
                s.normalise_text(this)
            best = min(best, time.process_time() - start)
        return best
    ratio = seconds(quoted) / seconds(text)
    assert ratio < 20, f"nine quotes make normalise_text {ratio:.0f} times slower (80 once)"


@pytest.mark.exercise("2.17")
@pytest.mark.parametrize("j, bands, rows, expected", [
    (0.7, 14, 8, 0.565), (0.75, 14, 8, 0.772), (0.8, 14, 8, 0.924), (0.85, 14, 8, 0.988),
    (0.5, 20, 5, 0.470), (1.0, 3, 3, 1.0), (0.0, 3, 3, 0.0), (0.5, 1, 2, 0.25), (0.5, 2, 1, 0.75)])
def test_s_curve_equals_the_published_points(j, bands, rows, expected):
    assert float(m.s_curve(j, bands, rows)) == pytest.approx(expected, abs=6e-4), \
        f"J={j}, {bands} bands of {rows} rows"


@pytest.mark.exercise("2.18")
def test_signatures_agree_as_often_as_the_sets_overlap():
    # 40 pairs x 112 columns: the mean estimate has a standard error of about 0.005
    pairs = make_pairs(40)
    a, b = m.signatures([p[0] for p in pairs]), m.signatures([p[1] for p in pairs])
    truth = np.array([true_jaccard(*p) for p in pairs])
    estimate = (a == b).mean(1)
    assert abs((estimate - truth).mean()) < 0.02, \
        f"mean estimate {estimate.mean():.3f}, mean Jaccard {truth.mean():.3f}: biased hashes"
    sigma = np.sqrt(truth * (1 - truth) / 112)
    assert (np.abs(estimate - truth) <= 4 * sigma + 1e-9).all(), \
        "an estimate is more than 4 standard errors off: do the columns use different hashes?"


@pytest.mark.exercise("2.18")
def test_signatures_do_not_depend_on_the_batch_and_repeats_do_not_count():
    texts = [" ".join(random.choices(WORDS, k=30)) for _ in range(600)]
    together = m.signatures(texts)
    assert together.shape == (600, 112) and together.dtype == np.uint32
    for i in (0, 255, 256, 599):
        assert np.array_equal(together[i], m.signatures([texts[i]])[0]), \
            f"text {i} of 600 has another signature alone"
    assert np.array_equal(*m.signatures([texts[0], f"{texts[0]} {texts[0]}"], ngram=1)), \
        "MinHash is of sets: a word twice is a word once"
    empty = m.signatures(["", texts[0], "..."])
    assert (empty[[0, 2]] == 2**32 - 1).all() and np.array_equal(empty[1], together[0]), \
        "a text without words must not shift its neighbours"


@pytest.mark.exercise("2.19")
def test_band_keys_meet_exactly_when_a_whole_band_agrees():
    random_signature = np.random.default_rng(0).integers(0, 2**32, (1, 112), dtype=np.uint32)
    for column in range(112):
        other = random_signature.copy()
        other[0, column] ^= 1
        same = m.band_keys(random_signature)[0] == m.band_keys(other)[0]
        assert same.tolist() == [band != column // 8 for band in range(14)], \
            f"column {column} belongs to band {column // 8}, and to no other"


@pytest.mark.exercise("2.19")
def test_band_keys_know_the_order_of_rows_and_have_64_bits():
    a = np.array([[1, 2, 3, 4]], np.uint32)
    assert m.band_keys(a, 2, 2)[0, 0] != m.band_keys(a[:, [1, 0, 2, 3]], 2, 2)[0, 0], \
        "rows 1 2 and 2 1 are different bands"
    keys = m.band_keys(np.arange(80_000, dtype=np.uint32).reshape(-1, 2) % 300, 1, 2)
    pairs = np.arange(80_000).reshape(-1, 2) % 300
    assert keys.dtype == np.uint64
    assert len(np.unique(keys)) == len(np.unique(pairs, axis=0)), "different bands, different keys"
    assert (keys >> np.uint64(32)).max() > 0, "the upper half of the key is used"
    none = m.band_keys(np.zeros((0, 112), np.uint32))
    assert none.shape == (0, 14) and none.dtype == np.uint64, "no document: no keys, in 14 columns"


@pytest.mark.exercise("2.20")
def test_candidates_share_a_key_in_the_same_band():
    keys = np.array([[1, 9], [2, 8], [1, 7], [5, 1], [2, 6], [1, 5]], np.uint64)
    assert sorted(m.candidate_groups(keys)) == [[0, 2, 5], [1, 4]], \
        "row 3 has the key 1 in another band: that is no meeting"
    assert m.candidate_groups(np.arange(6, dtype=np.uint64).reshape(3, 2)) == []
    assert m.candidate_groups(np.array([[3, 4], [3, 4]], np.uint64)) == [[0, 1]], \
        "two meetings of the same rows are one group"
    assert m.candidate_groups(np.zeros((0, 14), np.uint64)) == []


@pytest.mark.exercise("2.21")
def test_union_find_joins_transitively_in_any_order():
    edges = [(4, 3), (4, 1), (2, 3), (6, 5), (7, 6), (7, 5)]
    for seed in range(20):
        joined = m.UnionFind(9)
        for i, j in random.Random(seed).sample(edges, len(edges)):
            joined.union(i, j)
        assert joined.clusters() == [[1, 2, 3, 4], [5, 6, 7]], "0 and 8 are alone: no cluster"
        assert joined.find(4) == 1 and joined.find(7) == 5, "the smallest member is the root"


class PlainUnion:
    """Union-find the slow way, so that these tests judge `cluster` alone."""

    def __init__(self, size):
        self.sets = [{i} for i in range(size)]

    def find(self, i):
        return next(min(s) for s in self.sets if i in s)

    def union(self, i, j):
        a, b = (next(s for s in self.sets if x in s) for x in (i, j))
        if a is not b:
            a |= b
            self.sets.remove(b)

    def clusters(self):
        return sorted(sorted(s) for s in self.sets if len(s) > 1)


@pytest.fixture
def plain_union(monkeypatch):
    monkeypatch.setattr(m, "UnionFind", PlainUnion)


@pytest.mark.exercise("2.22")
@pytest.mark.usefixtures("plain_union")
def test_cluster_verifies_and_chains():
    sets = {0: [1, 2, 3, 4], 1: [1, 2, 3, 4, 5], 2: [2, 3, 4, 5, 6], 3: [1, 9], 4: [], 5: []}
    # J(0,1) = 4/5, J(1,2) = 4/6, J(0,2) = 3/6
    get = {k: np.array(v, np.uint64) for k, v in sets.items()}.__getitem__
    group = [[0, 1, 2, 3, 4, 5]]
    assert m.cluster(6, group, get, 0.8) == [[0, 1]], \
        "0.8 itself is enough; candidates below the threshold are not copies; empty sets never are"
    assert m.cluster(6, group, get, 0.66) == [[0, 1, 2]], "0 and 2 are joined through 1"
    assert m.cluster(6, [[0, 3], [1, 2]], get, 0.5) == [[1, 2]], "only pairs that met are compared"
    assert m.cluster(6, group, get, 0.81) == []
    assert m.cluster(6, [[0, 3, 1]], get, 0.8) == [[0, 1]], "every pair of a group is compared"


@pytest.mark.exercise("2.22")
@pytest.mark.usefixtures("plain_union")
def test_cluster_compares_many_copies_in_linear_time(monkeypatch):
    calls, compared, jaccard = [], [], m.jaccard
    monkeypatch.setattr(m, "jaccard", lambda a, b: compared.append(1) or jaccard(a, b))

    def get(i):
        calls.append(i)
        return np.array([1, 2, 3], np.uint64)

    assert m.cluster(300, [list(range(300))], get, 0.8) == [list(range(300))]
    assert len(calls) == 300, f"each set is fetched once, not {len(calls)} times"
    assert len(compared) <= 600, \
        f"{len(compared)} comparisons of 300 copies: a pair already joined needs none"


@pytest.mark.exercise("2.22")
@pytest.mark.usefixtures("plain_union")
def test_cluster_compares_a_pair_once_whatever_bands_it_met_in(monkeypatch):
    compared, jaccard = [], m.jaccard
    monkeypatch.setattr(m, "jaccard", lambda a, b: compared.append(1) or jaccard(a, b))
    sets = [np.array([k * 10 + j for j in range(4)] + [999], np.uint64) for k in range(5)]
    assert m.cluster(5, [[0, 1, 2], [0, 1, 2], [0, 1, 2, 3], [1, 2]], sets.__getitem__, 0.8) == []
    assert len(compared) == 6, f"4 rows have 6 pairs, {len(compared)} were compared"
    compared.clear()
    same = [np.array([1, 2, 3], np.uint64)] * 20
    assert m.cluster(20, [list(range(20))], same.__getitem__, 0.8) == [list(range(20))]
    assert len(compared) == 19, f"20 copies need 19 comparisons, not {len(compared)}"


@pytest.mark.exercise("2.22")
@pytest.mark.usefixtures("plain_union")
def test_there_may_be_several_clusters_and_each_row_is_asked_for_once():
    sets, asked = [np.arange(9, dtype=np.uint64) + 10 * (i // 2) for i in range(6)], []
    groups = [[0, 1, 2], [2, 3], [0, 1, 4], [4, 5], [1, 3, 5]]
    got = m.cluster(6, groups, lambda i: asked.append(i) or sets[i], 0.8)
    assert got == [[0, 1], [2, 3], [4, 5]], f"three pairs of copies: {got}"
    assert sorted(asked) == list(range(6)), f"each row once, whatever groups it is in: {asked}"


def test_jaccard_of_arrays():
    a, b = np.array([1, 2, 3]), np.array([2, 3, 4])
    assert m.jaccard(a, b) == 0.5 and m.jaccard(a, a) == 1 and m.jaccard(a, a[:0]) == 0


def test_near_duplicates_equal_all_pairs_where_the_curve_is_sure():
    pairs = make_pairs(60, most=2, seed=3)      # J >= 0.9: missed once in 2,000
    texts = [t for pair in pairs for t in pair] + ["", "", "a b", "A, b."]
    got = m.near_duplicates(texts)
    slow = m.slow_near_duplicates(texts)
    missed = [c for c in slow if c not in got]
    assert len(missed) <= 1, f"clusters of all pairs that were missed: {missed[:3]}"
    assert all(c in slow for c in got), "no cluster that comparing all pairs does not find"
    assert [122, 123] in got and not any(120 in c for c in got), "short copies meet, empty ones not"


def test_near_duplicates_do_not_depend_on_order():
    texts = [t for pair in make_pairs(40, most=6, seed=5) for t in pair]
    order = random.Random(2).sample(range(len(texts)), len(texts))
    a = {frozenset(texts[i] for i in c) for c in m.near_duplicates(texts)}
    shuffled = [texts[i] for i in order]
    b = {frozenset(shuffled[i] for i in c) for c in m.near_duplicates(shuffled)}
    assert a == b
    for c in a:
        members = sorted(c)
        picks = {order[m.survivor(list(range(len(order))), list(map(len, order)), order)]
                 for order in (members, members[::-1])}
        assert len(picks) == 1, "the survivor depends on the order"


def test_recall_follows_the_s_curve():
    pairs = make_pairs(390, length=120, most=12, seed=11)
    truth = np.array([true_jaccard(*p) for p in pairs])
    ka = m.band_keys(m.signatures([p[0] for p in pairs]))
    kb = m.band_keys(m.signatures([p[1] for p in pairs]))
    met = (ka == kb).any(1)
    for low, high in ((0.4, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.01)):
        inside = (truth >= low) & (truth < high)
        theory = m.s_curve(truth[inside])
        sigma = np.sqrt((theory * (1 - theory)).sum()) + 0.5
        assert abs(met[inside].sum() - theory.sum()) <= 3.3 * sigma, \
            f"J in [{low}, {high}): {met[inside].sum()} of {inside.sum()}, theory {theory.sum():.1f}"


def template_pages(count, own=60, seed=0):
    """Pages of one template: 304 words in common, `own` words of each page's own (J = 0.71)."""
    rng = random.Random(seed)
    shared = " ".join(rng.choices(WORDS, k=304))
    return [f"{shared} " + " ".join(f"p{i}x{j}" for j in range(own)) for i in range(count)]


def test_true_copies_among_pages_of_a_template_are_found_without_all_comparisons(monkeypatch):
    rng = random.Random(5)
    texts = template_pages(90)
    # copies of pages with some own words changed (J > 0.8), and pages with few own words, which
    # are copies of one another by the template alone
    copies = [(i, t.replace(f"p{i}x3", "q").replace(f"p{i}x40", "r"))
              for i, t in enumerate(texts[:25])]
    short = [t.rsplit(" ", 52)[0] for t in texts[70:]]
    everything = texts + [t for _, t in copies] + short
    order = rng.sample(range(len(everything)), len(everything))
    shuffled = [everything[i] for i in order]
    compared, jaccard = [], m.jaccard
    monkeypatch.setattr(m, "jaccard", lambda a, b: compared.append(1) or jaccard(a, b))
    sets = [s.shingles(t) for t in shuffled]
    got = m.cluster(len(shuffled), [list(range(len(shuffled)))], sets.__getitem__, 0.8)
    assert {frozenset(c) for c in got} == {frozenset(c) for c in m.slow_near_duplicates(shuffled)}, \
        "the clusters must be those of comparing every pair"
    assert len(compared) < 12 * len(shuffled), \
        f"{len(compared):,} comparisons of {len(shuffled)} pages: a template makes no pair likely"


def test_time_grows_with_the_text_not_with_its_square():
    def seconds(texts):
        start = time.process_time()
        assert m.near_duplicates(texts) == []
        return time.process_time() - start
    seconds(template_pages(100))
    small, large = (seconds(template_pages(n)) for n in (400, 1600))
    assert large < 9 * small, f"four times the pages took {large / small:.1f} times the time"


def pairs_by_definition(sets, threshold):
    """Which pairs share a rare shingle and may reach the threshold, and the frequent counts."""
    holders = {}
    for i, shingles in enumerate(sets):
        for x in shingles.tolist():
            holders.setdefault(x, []).append(i)
    frequent = [sum(len(holders[x]) > lp.FEW for x in s.tolist()) for s in sets]
    pairs = []
    for i in range(len(sets)):
        for j in range(i + 1, len(sets)):
            both = set(sets[i].tolist()) & set(sets[j].tolist())
            rare = sum(len(holders[x]) <= lp.FEW for x in both)
            bound = threshold / (1 + threshold) * (len(sets[i]) + len(sets[j]))
            if rare and rare + min(frequent[i], frequent[j]) >= bound - 1e-6:
                pairs.append((i, j))
    return pairs, frequent


@pytest.mark.exercise("2.33")
@pytest.mark.parametrize("template, own, kin", [(30, 8, 12), (3, 20, 25), (60, 4, 3), (0, 9, 8)])
def test_pairs_worth_comparing_are_those_of_the_bound(template, own, kin):
    rng = np.random.default_rng(template)
    sets = []
    for i in range(40):
        parts = [np.arange(template - i % 5 if template else 0),
                 1000 + i // 2 * 50 + np.arange(kin - i % 3), 10_000 + i * 50 + np.arange(own * (i % 2))]
        sets.append(np.unique(np.concatenate(parts).astype(np.uint64)
                              * np.uint64(0x9E3779B97F4A7C15)))
    order = rng.permutation(40)
    sets = [sets[i] for i in order]
    got, frequent = lp.rare_pairs(sets, 0.6)
    want, counts = pairs_by_definition(sets, 0.6)
    assert list(frequent) == counts, "a shingle of more than FEW sets is frequent"
    assert sorted(map(tuple, got)) == want, f"{len(got)} pairs, {len(want)} can reach the threshold"
    close = [(i, j) for i in range(40) for j in range(i) if m.jaccard(sets[i], sets[j]) >= 0.6]
    values, held = np.unique(np.concatenate(sets), return_counts=True)
    rare = set(values[held <= lp.FEW].tolist())
    assert all((j, i) in want for i, j in close
               if set(sets[i].tolist()) & set(sets[j].tolist()) & rare), "no true pair is lost"
