"""hashed_linear.py, quality.py, safety.py: gradients, ranks, calibration, models."""

import gzip
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import hashed_linear as hl
import quality

import safety
from artifacts import ROOT, BadInput
from dirty_words import DIRTY_WORDS, KINDS, dirty_tokens, load_words, meant, rude_words, spell_out

rng = np.random.default_rng(3)


def problem(rows=7, weights=11):
    """A small sparse problem: (ids, values, starts), labels, row weights, and the dense matrix."""
    dense = np.zeros((rows, weights))
    ids, values, starts = [], [], []
    for r in range(rows):
        starts.append(len(ids))
        for i in sorted(rng.choice(weights, 3, replace=False)):
            ids.append(i)
            values.append(rng.normal())
            dense[r, i] = values[-1]
    y = (np.arange(rows) % 2).astype(float)
    sample = rng.random(rows)
    return (np.array(ids), np.array(values), np.array(starts)), y, sample / sample.sum(), dense


@pytest.mark.exercise("2.23")
def test_loss_is_the_weighted_cross_entropy_with_decay():
    x, y, sample, dense = problem()
    w = rng.normal(size=12)
    p = 1 / (1 + np.exp(-(dense @ w[:-1] + w[-1])))
    expected = -(sample * (y * np.log(p) + (1 - y) * np.log(1 - p))).sum() \
        + 0.5 * 0.1 * (w[:-1] ** 2).sum()
    got = hl.loss_and_gradient(w, x, y, sample, 0.1)[0]
    assert got == pytest.approx(expected, rel=1e-9), \
        "mean cross-entropy weighted by sample, plus l2 / 2 |w|^2 without the bias"


@pytest.mark.exercise("2.23")
def test_gradient_equals_finite_differences():
    x, y, sample, _ = problem()
    w, l2 = rng.normal(size=12), 0.3
    gradient = hl.loss_and_gradient(w, x, y, sample, l2)[1]
    for i in range(12):
        step = np.zeros(12)
        step[i] = 1e-6
        slope = (hl.loss_and_gradient(w + step, x, y, sample, l2)[0]
                 - hl.loss_and_gradient(w - step, x, y, sample, l2)[0]) / 2e-6
        what = "the bias (the last entry)" if i == 11 else f"weight {i}"
        assert gradient[i] == pytest.approx(slope, abs=1e-6), f"gradient of {what}"


@pytest.mark.exercise("2.23")
def test_loss_survives_scores_of_a_thousand():
    x = (np.array([0, 0]), np.array([1000.0, -1000.0]), np.array([0, 1]))
    with np.errstate(all="raise", under="ignore"):
        loss, gradient = hl.loss_and_gradient(np.array([1.0, 0.0]), x, np.array([0.0, 1.0]),
                                              np.array([0.5, 0.5]), 0.0)
    assert loss == pytest.approx(1000) and np.isfinite(gradient).all(), \
        "log(sigmoid(-1000)) is -1000, not minus infinity"


def test_lbfgs_finds_the_minimum_of_a_skewed_bowl():
    scale = 10.0 ** np.arange(-2, 3)
    target = np.arange(5.0)
    found = hl.lbfgs(lambda w: (0.5 * scale @ (w - target) ** 2, scale * (w - target)), np.zeros(5),
                     steps=200)
    assert np.abs(found - target).max() < 1e-2


@pytest.mark.exercise("2.24")
@pytest.mark.parametrize("positive, negative, expected", [
    ([0.9, 0.5], [0.5, 0.1], 3.5 / 4), ([0.9, 0.8], [0.1, 0.2], 1.0), ([0.1], [0.9], 0.0),
    ([0.5, 0.5], [0.5], 0.5), ([3, 1, 2], [2, 2, 0], 5 / 9 + 1 / 9)])
def test_auc_is_the_share_of_pairs_in_the_right_order(positive, negative, expected):
    got = hl.auc(np.array(positive), np.array(negative))
    assert got == pytest.approx(expected, abs=1e-12), "ties count one half"
    assert hl.auc(positive, negative) == got, "lists, as in the statement's own example"


@pytest.mark.exercise("2.24")
def test_auc_equals_counting_pairs():
    a, b = rng.integers(0, 9, 40), rng.integers(0, 9, 23) - 1
    pairs = sum((p > n) + 0.5 * (p == n) for p in a for n in b) / (40 * 23)
    assert hl.auc(a, b) == pytest.approx(pairs, abs=1e-12)


@pytest.mark.exercise("2.25")
def test_calibration_by_hand():
    rows, gap = hl.calibration([0.05, 0.15, 0.12, 1.0], [0, 1, 0, 1])
    assert [r[2] for r in rows] == [1, 2, 1], "empty bins are left out; 1.0 is in the last bin"
    assert rows[1][:2] == pytest.approx((0.135, 0.5)), "mean score and share of positives"
    assert gap == pytest.approx((0.05 * 1 + 0.365 * 2 + 0 * 1) / 4, abs=1e-12), \
        "the gap weighs each bin by its count"


@pytest.mark.exercise("2.25")
def test_calibration_with_another_number_of_bins():
    rows, gap = hl.calibration([0.1, 0.4, 0.5, 0.9], [0, 1, 1, 1], bins=2)
    assert rows == [(pytest.approx(0.25), 0.5, 2), (pytest.approx(0.7), 1.0, 2)], "0.5 is in the upper"
    assert gap == pytest.approx(0.275)


@pytest.mark.exercise("2.25")
def test_calibration_counts_misses_on_both_sides():
    assert hl.calibration([0.9] * 10 + [0.1] * 10, [0] * 10 + [1] * 10)[1] == pytest.approx(0.9), \
        "too high here and too low there do not cancel"


WIKI = ["the theorem was proved by the mathematician in the last century and published",
        "the river flows through the province and into the sea near the old capital",
        "the species was first described by a botanist who collected it in the mountains"]
SPAM = ["click here to buy cheap pills now best price free shipping order today",
        "win a free phone click the link below limited offer act now",
        "log in sign up forgot password subscribe to our newsletter follow us"]


def test_train_quality_scores_unseen_texts():
    model = quality.train_quality(WIKI * 4, SPAM * 4)
    assert model.score("the old theorem was described by the botanist") > 0.5
    assert model.score("buy now click here free offer") < 0.5
    assert 0 <= model.score("") <= 1
    assert model.labels == ("wiki", "cc")


def test_training_is_deterministic_and_saving_keeps_the_scores(tmp_path):
    a, b = quality.train_quality(WIKI, SPAM), quality.train_quality(WIKI, SPAM)
    assert np.array_equal(a.weights, b.weights) and a.bias == b.bias
    path = a.save(tmp_path / "model.npz")
    again = hl.HashedLinear.load(path)
    assert again.labels == a.labels
    assert [again.score(t) for t in WIKI] == [a.score(t) for t in WIKI]


def test_bad_models_and_missing_examples_are_refused(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"not a model")
    with pytest.raises(BadInput, match="train_classifier"):
        hl.HashedLinear.load(tmp_path / "bad.npz")
    with pytest.raises(BadInput, match="both kinds"):
        hl.fit([], ["a"])


def test_default_examples_have_equal_lengths_and_a_seed():
    text = "\n\n".join([f"stub{i}(self)" for i in range(400)]
                       + [f"f{i}(x)\n    " + "real documentation words " * 20 for i in range(30)])
    positives, negatives = quality.default_examples([text])
    assert len(positives) == 30 and len(negatives) > 30
    assert all(p.startswith("f") for p in positives) and "stub" in negatives[0]
    assert quality.default_examples([text]) == (positives, negatives)


def test_paragraphs_on_one_line_are_no_stubs():
    page = "\n\n".join(["Generics", "A type that works over many types is what we call a generic. " * 6,
                        "- one\n- two", "See also:", "identity(value)"])
    written, stubs = quality.default_examples([page] * 12)
    assert len(written) == 12 and written[0].startswith("A type"), "a paragraph is hand-written text"
    assert stubs == ["\n".join(["identity(value)"] * 12)], "headings, items and links are no stubs"


@pytest.mark.exercise("2.26")
@pytest.mark.parametrize("url, blocked", [
    ("https://numpy.org/doc/stable", False), ("https://free-xxx.example/page", True),
    ("https://www.essex.ac.uk/", False), ("https://town.example/sex-education", False),
    ("https://hot-adult.example/", True), ("https://a.example/live/cams", True),
    ("https://best.example/online-casino", True), ("http://x.example/%70orn", True),
    ("https://a.example/find?q=xxx", True), ("https://FREE-Porn.example/", True),
    ("https://xxx69.example/", True), ("https://hot.example/hot", False),
    ("https://adultery.example/adult", False), ("", False), ("http://[broken", True),
])
def test_blocked_words(url, blocked):
    got = safety.blocked_url(url)
    assert (got is not None) == blocked, f"{url}: {got!r}"


@pytest.mark.exercise("2.26")
@pytest.mark.parametrize("url, blocked", [
    ("https://bad.example/x", True), ("https://sub.bad.example", True), ("bad.example/x", True),
    ("https://www.bad.example", True), ("https://a.b.c.bad.example/", True), ("https://notbad.example", False),
    ("https://bad.example.org", False), ("https://good.example/one/page", True),
    ("https://good.example/one/page2", False), ("http://bad.example:8080/x", True),
    ("http://ann:word@bad.example/x", True), ("http://bad.example@good.example/x", False)])
def test_blocklist_covers_subdomains_only(url, blocked):
    listed = frozenset({"bad.example", "good.example/one/page"})
    assert (safety.blocked_url(url, listed) is not None) == blocked, url


@pytest.mark.parametrize("line", [
    "::1 bad.example", ":: bad.example", "0 bad.example", "127.0.0.1 bad.example", "0.0.0.0\tbad.example",
    "255.255.255.255 bad.example", "fe80::1%lo0 bad.example", "::1 localhost bad.example # why"])
def test_hosts_files_name_their_domains_after_any_address(tmp_path, line):
    (tmp_path / "hosts").write_text(f"127.0.0.1 localhost\n::1 ip6-localhost\n{line}\n1.2.3.4\n")
    assert safety.load_blocklist([tmp_path / "hosts"]) == {"bad.example"}


def test_blocklist_file(tmp_path):
    (tmp_path / "list.txt").write_text("# comment\nWWW.Bad.example  # why\n\nother.example\n")
    assert safety.load_blocklist([tmp_path / "list.txt"]) == {"bad.example", "other.example"}
    (tmp_path / "hosts").write_bytes(b"0.0.0.0 bad.example\r\n127.0.0.1\tone.example # x\n"
                                     b"! rule\n||two.example^\n/ads/*$script\n\xe9.example\n"
                                     b"http://www.good.example/bad/\n")
    listed = safety.load_blocklist([tmp_path / "hosts"])
    assert {"bad.example", "one.example", "two.example", "good.example/bad"} <= listed
    assert not any("*" in entry or "^" in entry or "0.0.0.0" in entry for entry in listed)
    for url in ("http://good.example/bad", "https://www.good.example/bad/", "two.example/x"):
        assert safety.blocked_url(url, listed), url
    assert not safety.blocked_url("https://good.example/badge", listed)
    (tmp_path / "packed").write_bytes(b"\x1f\x8b\0\0")
    with pytest.raises(BadInput, match="unpack"):
        safety.load_blocklist([tmp_path / "packed"])


@pytest.mark.parametrize("text, nsfw, harmful", [
    ("free nude sex pics of horny girls", True, False),
    ("you stupid idiot, i will kill you, you pathetic loser", False, True),
    ("the parent kills the child process after the timeout", False, False),
    ("a clear guide to breast cancer screening for women", False, False)])
def test_bundled_classifiers_on_texts_they_have_not_seen(text, nsfw, harmful):
    assert (safety.classify_nsfw(text)[0] == "nsfw") == nsfw
    label, probability = safety.classify_harmful(text)
    assert (label == "harmful") == harmful and 0.5 <= probability <= 1


@pytest.mark.parametrize("text", [
    "Would you like some tea while you wait?", "I hope you have a wonderful birthday!",
    "Everybody was kind to us, even the policeman.", "You look tired, you should go home and sleep.",
    "My brother and his wife are expecting a baby."])
def test_everyday_talk_harms_nobody(text):
    """A model that saw "you" and "people" in insults only takes them for an insult."""
    assert safety.classify_harmful(text)[0] == safety.classify_nsfw(text)[0] == "clean"


@pytest.mark.parametrize("word, want", [
    ("f*ck", "fuck"), ("F*CKING", "fucking"), ("*ssh*le", "asshole"), ("sh1t", "shit"),
    ("a$$hole", "asshole"), ("fuuuuck", "fuck"), ("f---ing", "fucking"), ("1d10t", "idiot")])
def test_a_disguise_is_undone(word, want):
    assert spell_out(f"Oh, {word}! said he.") == f"Oh, {want}! said he."


def test_single_letters_in_a_row_are_a_word():
    assert spell_out("f.u.c.k it, you i d i o t. A B C") == "fuck it, you idiot. A B C"


@pytest.mark.parametrize("word", ["2**3", "a**2", "win32", "C*", "2009", "$39", "485", "e-mail", "B2B",
                                  "**kwargs", "Yahoo!!!", "coool", "www", "1st", "h264", "co-op",
                                  "p@ss", "*Lu*", "*****", "* * * *", "U.S.A.", "***", "as-is", "i18n", "613-2275"])
def test_what_is_no_disguise_stays(word):
    assert spell_out(f"Oh, {word} said he.") == f"Oh, {word} said he.", meant(word)


def test_listed_words_stand_for_their_kind():
    assert rude_words("You m0ron, you dork") == "You moron, you dork\nyou zinsult, you zinsult"
    assert rude_words("you b*tch") == "you bitch\nyou zvulgar zinsult", "vulgar, and a person's name"
    assert rude_words("The cock crowed") == "The cock crowed", "a word with a decent meaning"


@pytest.mark.parametrize("text, nsfw, harmful", [
    ("LICK MY B*LLS YOU F*CKING C*NTS AND SH*T ON YOUR WIKI", True, None),
    ("There is no page on the history of prostitution laws. - A captain", False, False),
    ("Why the h*ll should I be warned for it?", None, False),
    ("what a rude tw@t, that m0ron and his dumb friends have no manners", None, True),
    ("The hen and the cock were killed by a fox, which the farmer shot dead", False, False)])
def test_disguised_words_are_read_and_swearing_at_nobody_harms_nobody(text, nsfw, harmful):
    for want, (label, probability) in ((nsfw, safety.classify_nsfw(text)),
                                       (harmful, safety.classify_harmful(text))):
        assert want is None or (label != "clean") == want, f"{label} {probability:.2f}: {text}"


def test_more_dirty_words_from_lists(tmp_path):
    (tmp_path / "en").write_text("Frobnicate\ntwo words\n\nsnark\n", encoding="utf-8")
    words = load_words([tmp_path / "en"])
    assert words == DIRTY_WORDS | {"frobnicate", "snark"}
    assert dirty_tokens("snark and " * 9, words) and not dirty_tokens("snark " * 9)


def test_words_that_name_people_are_in_no_list():
    names = set("jew jews jewish muslim muslims christian arab black gay gays lesbian lesbians queer "
                "chinese mexican gypsy immigrant".split())
    listed = {word for _, words in KINDS for word in words} | DIRTY_WORDS | \
        safety.HARD_WORDS | safety.SOFT_WORDS
    assert not listed & names, "of a faith, an origin, a love: naming people is not dirty"


def unseen(label):
    lines = Path(__file__).with_name("unseen_talk.tsv").read_text(encoding="utf-8").splitlines()
    return [line.partition("\t")[2] for line in lines if line.startswith(label)]


def test_the_worst_sentence_of_a_long_comment_counts():
    kind = unseen("clean")
    for bad in ("You are a stupid idiot and a pathetic loser.", "I will kill you and your family.",
                "Shut up, you worthless moron!", "Go and die, you scum."):
        for place in (0, 5, 10):
            comment = " ".join([*kind[:place], bad, *kind[place:10]])
            label, probability = safety.classify_harmful(comment)
            assert label == "harmful", f"{bad!r} at {place} among ten kind sentences: {probability}"
    calls = [safety.classify_harmful(" ".join(kind[i:i + 10]))[0] for i in range(30)]
    assert calls.count("clean") >= 27, "ten kind sentences stay kind"


def test_scores_of_many_are_the_scores_of_each():
    model, texts = safety.bundled_model("harmful"), [*unseen("clean"), "", "...", *unseen("harmful")]
    assert np.allclose(model.score_many(texts), [model.score(t) for t in texts], atol=1e-6)


def test_jigsaw_format(tmp_path):
    header = "id,comment_text,toxic,severe_toxic,obscene,threat,insult,identity_hate\n"
    rows = 'a,"fine, with\nline",0,0,0,0,0,0\nb,rude,1,0,0,0,1,0\nc,dirty,1,0,1,0,0,0\n'
    path = tmp_path / "train.csv.gz"
    path.write_bytes(gzip.compress((header + rows).encode()))
    assert safety.load_jigsaw(path, "nsfw") == (["dirty"], ["fine, with\nline"])
    assert safety.load_jigsaw(path, "harmful")[0] == ["rude", "dirty"]
    with zipfile.ZipFile(tmp_path / "train.csv.zip", "w") as archive:
        archive.writestr("train.csv", header + rows)
    assert safety.load_jigsaw(tmp_path / "train.csv.zip", "nsfw")[0] == ["dirty"], "Kaggle's zip"
    for name, data, word in (("other.csv", b"a,b\n1,2\n", "comment_text"),
                             ("latin.csv", header.encode() + b"a,\xff,0", "UTF-8"),
                             ("cut.csv.gz", path.read_bytes()[:-30], "whole"),
                             ("no.zip", b"PK", "whole")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadInput, match=word):
            safety.load_jigsaw(tmp_path / name, "nsfw")
    with pytest.raises(BadInput, match="missing: download"):
        safety.load_jigsaw(tmp_path / "nowhere.csv", "nsfw")


def test_features_are_words_and_ordered_pairs():
    assert len(hl.features("one two three")) == 5
    assert len(hl.features("one two one two")) == 2 + 2, "presence, and 'two one' is a pair too"
    assert math.isclose(float(hl.sigmoid(np.array(0.0))), 0.5)
    assert float(hl.sigmoid(np.array(-1000.0))) == 0.0


def test_command_prints_honest_numbers(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "02_data" / "train_classifier.py"), "nsfw", "--out",
         str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "AUC 0.9" in done.stdout and (tmp_path / "nsfw.npz").exists()
    again = subprocess.run(
        [sys.executable, str(ROOT / "02_data" / "train_classifier.py"), "nsfw", "--positives",
         str(tmp_path)], capture_output=True, text=True)
    assert again.returncode == 1 and "both --positives and --negatives" in again.stderr
