"""More inputs for the exercises of chapter 6: several rows, ties, weights, options, edges."""

import math
import random

import numpy as np
import pytest

import judge
import perplexity
from arena import elo, fit_strengths, logistic_fit, rank_with_uncertainty, votes_needed, win_matrix
from artifacts import BadInput
from calibration import expected_calibration_error, wilson_interval
from doc_mmlu import place_answers
from format_study import spread
from judge import judge_both_orders, length_controlled_win_rate, length_term, rank_correlation
from mmlu import Question, format_prompt, option_scores, read_questions
from perplexity import bits_per_byte, summarise_losses, windows
from suite import mean_win_rate, worst_case


def near(got, want, said="", tolerance=1e-9):
    got, want = np.asarray(got, float), np.asarray(want, float)
    assert got.shape == want.shape, f"{said}: shape {got.shape}, not {want.shape}"
    assert np.allclose(got, want, rtol=tolerance, atol=1e-10), f"{said}: got {got}, not {want}"


@pytest.mark.exercise("6.1")
def test_bits_of_any_text():
    near(bits_per_byte(0.0, 7), 0.0)
    near(bits_per_byte(10 * math.log(256), 10), 8.0)
    near(bits_per_byte(3.0, 2), 1.5 / math.log(2))
    for bad in (0, -1):
        with pytest.raises(ValueError):
            bits_per_byte(1.0, bad)


@pytest.mark.exercise("6.2")
@pytest.mark.parametrize("length, context, stride", [(10, 4, 1), (10, 4, 4), (9, 4, 3), (3, 8, 2),
                                                     (8, 8, 3), (1, 1, 1), (0, 4, 2)])
def test_every_token_is_new_once_and_windows_are_full(length, context, stride):
    got, seen = windows(length, context, stride), []
    for i, (start, end, fresh) in enumerate(got):
        assert end - start == min(context, length), f"window {i} is not full: {got}"
        seen += range(fresh, end + 1)
        assert i == 0 or end == min(length, got[i - 1][1] + stride), f"moves by {stride}: {got}"
    assert seen == list(range(1, length + 1)), f"{got} gives {seen}"
    for bad in (0, context + 1, -1):
        with pytest.raises(ValueError):
            windows(length, context, bad)


@pytest.mark.exercise("6.3")
def test_totals_of_uneven_documents(monkeypatch):
    monkeypatch.setattr(perplexity, "bits_per_byte", lambda nats, size: nats / math.log(2) / size)
    nats = [np.array([1.0, 2]), np.array([6.0]), np.array([])]
    entropies = [np.array([0.5, 0.5]), np.array([2.0]), np.array([])]
    got = summarise_losses(nats, entropies, np.array([5, 3, 1]))
    want = {"tokens": 3, "bytes": 9, "nats": 9.0, "loss": 3.0, "perplexity": math.exp(3),
            "effective_choices": math.exp(1), "bits_per_byte": 1 / math.log(2)}
    assert set(got) == set(want)
    for key in want:
        near(got[key], want[key], key)


@pytest.mark.exercise("6.4")
def test_rows_with_quotes_newlines_and_each_letter(tmp_path):
    file = tmp_path / "q.csv"
    file.write_bytes('Q1?,a,b,c,None,D\r\n"Two\nlines, here",1,2,3,4, B \n\n"say ""hi""",w,x,y,z,A\n'
                     .encode())
    got = read_questions(file, "s")
    assert [(q.subject, q.question, q.options, q.answer) for q in got] == [
        ("s", "Q1?", ("a", "b", "c", "None"), 3), ("s", "Two\nlines, here", ("1", "2", "3", "4"), 1),
        ("s", 'say "hi"', ("w", "x", "y", "z"), 0)]
    for text, line in (("a,b,c,d,e,A\na,b,c\n", "2"), ("a,b,c,d,e,E\n", "1"), (",b,c,d,e,A\n", "1"),
                       ("a,b,c,d,e,f,A\n", "1")):
        file.write_text(text)
        with pytest.raises(BadInput, match=f"q.csv.*{line}"):
            read_questions(file, "s")
    file.write_bytes(b"\xff\xfe\x00a,b,c,d,e,A")
    with pytest.raises(BadInput, match="UTF-8"):
        read_questions(file, "s")


QUESTIONS = [Question("high_school_physics", f"Q{i}", ("w", "x", "y", "z"), i % 4) for i in range(3)]


@pytest.mark.exercise("6.5")
@pytest.mark.parametrize("style, opening", [
    ("original", "The following are multiple choice questions (with answers) about  high school "
     "physics.\n\n"),
    ("helm", "The following are multiple choice questions (with answers) about high school "
     "physics.\n\n"),
    ("cloze", "The following are questions (with answers) about high school physics.\n\n"),
    ("harness_2023", ""), ("letter_after", "")])
def test_the_opening_and_the_order_of_the_examples(style, opening):
    got = format_prompt(QUESTIONS[0], QUESTIONS[1:], style)
    assert got.startswith(opening + ("" if style == "cloze" else "")) and got.endswith("Answer:")
    assert got.index("Q1") < got.index("Q2") < got.index("Q0"), "examples first, in their order"
    assert got.count("Answer:") == 3 and style == "letter_after" or (
        got.count("\n\n") == 2 + bool(opening)), got
    assert opening or "The following" not in got, got[:30]
    with pytest.raises(BadInput):
        format_prompt(QUESTIONS[0], [], "none")


@pytest.mark.exercise("6.6")
def test_each_scorer_uses_its_own_lengths():
    rng = np.random.default_rng(0)
    p, u = -rng.random((3, 4)), -rng.random((3, 4))
    tokens, sizes = rng.integers(1, 5, (3, 4)), rng.integers(5, 9, (3, 4))
    for scorer, want in (("letter", p), ("sum", p), ("per_token", p / tokens), ("pmi", p - u),
                         ("per_byte", p / sizes)):
        near(option_scores(p, tokens, sizes, u, scorer), want, scorer)
    assert np.isfinite(option_scores(p, 0 * tokens, 0 * sizes, None, "per_token")).all()
    with pytest.raises(BadInput):
        option_scores(p, tokens, sizes, u, "mean")


@pytest.mark.exercise("6.8")
@pytest.mark.parametrize("z", [1.0, 1.96, 2.58])
@pytest.mark.parametrize("k, n", [(0, 5), (5, 5), (3, 8), (1, 1), (40, 100)])
def test_both_ends_solve_wilsons_equation(k, n, z):
    low, high = wilson_interval(k, n, z)
    assert 0 <= low < high <= 1
    for p in (low, high):
        if 0 < p < 1:
            near(abs(k / n - p), z * math.sqrt(p * (1 - p) / n), f"{k} of {n}, z {z}")
    assert (low == 0) == (k == 0) and (high == 1) == (k == n)
    assert wilson_interval(0, 0, z) == (0.0, 1.0)


@pytest.mark.exercise("6.9")
@pytest.mark.parametrize("bins", [1, 2, 4, 50])
def test_bins_of_equal_mass_whatever_the_order(bins):
    confidence = np.array([0.9, 0.1, 0.4, 0.6, 0.2, 0.8, 0.3, 0.7])
    right = np.array([1, 0, 0, 1, 1, 1, 0, 0], bool)
    order = np.argsort(confidence)
    want = sum(len(g) * abs(confidence[g].mean() - right[g].mean())
               for g in np.array_split(order, min(bins, 8))) / 8
    for way in (np.arange(8), order, order[::-1]):
        near(expected_calibration_error(confidence[way], right[way], bins), want, f"{bins} bins")
    equal = expected_calibration_error(np.full(6, 0.5), np.array([1, 0, 0, 0, 0, 1]), 3)
    near(equal, 1 / 6, "equal confidences share a bin")


@pytest.mark.exercise("6.10")
def test_the_worst_of_three_versions():
    near(worst_case([[1, 1, 0, 1], [1, 0, 1, 1], [1, 1, 1, 0]]), 0.25)
    near(worst_case([[True, False]]), 0.5), near(worst_case([[0, 0], [1, 1]]), 0.0)


@pytest.mark.exercise("6.11")
@pytest.mark.parametrize("lower", [False, True])
def test_win_rates_of_three_models_with_draws_and_another_metric(lower):
    table = {"s": {"x": {"a": 3, "b": 9}, "y": {"a": 1, "b": 9}, "z": {"a": 1, "b": 0}},
             "t": {"x": {"a": 2, "b": 1}, "y": {"a": 5, "b": 1}, "z": {"a": 4, "b": 1}}}
    got = mean_win_rate(table, "a", lower)
    up = {"x": (1 + 0) / 2, "y": (0.25 + 1) / 2, "z": (0.25 + 0.5) / 2}
    for name, value in up.items():
        near(got[name], 1 - value if lower else value, name)
    near(mean_win_rate(table, "b")["z"], (0 + 0.5) / 2, "the metric asked for")
    assert mean_win_rate({"s": {"x": {"a": 1}}}, "a") == {"x": 0.5}


@pytest.mark.exercise("6.12")
def test_places_are_balanced_drawn_by_this_rng_and_wrong_options_keep_their_order():
    asked = [Question("s", f"q{i}", (f"{i}a", f"{i}b", f"{i}c", f"{i}d"), i % 3) for i in range(11)]
    got = place_answers(asked, random.Random(1))
    counts = [sum(q.answer == p for q in got) for p in range(4)]
    assert max(counts) - min(counts) <= 1, counts
    for before, after in zip(asked, got):
        right = before.options[before.answer]
        assert (after.subject, after.question) == (before.subject, before.question)
        assert after.options[after.answer] == right
        assert [o for o in after.options if o != right] == [o for o in before.options if o != right]
    places = [[q.answer for q in place_answers(asked, random.Random(s))] for s in (1, 1, 2)]
    assert places[0] == places[1] != places[2]
    assert place_answers([], random.Random(1)) == []


@pytest.mark.exercise("6.13")
@pytest.mark.parametrize("k, start, scale", [(4.0, 1000.0, 400.0), (32.0, 1500.0, 400.0),
                                             (16.0, 0.0, 100.0)])
def test_elo_battle_by_battle(k, start, scale):
    rng = random.Random(0)
    battles = [(*rng.sample("wxyz", 2), rng.choice(["a", "b", "tie"])) for _ in range(40)]
    from arena import WINS
    keys = {1.0: next(w for w in WINS if WINS[w] == 1.0), 0.0: next(w for w in WINS if WINS[w] == 0),
            0.5: next(w for w in WINS if WINS[w] == 0.5)}
    named = [(a, b, keys[{"a": 1.0, "b": 0.0, "tie": 0.5}[w]]) for a, b, w in battles]
    want = {}
    for a, b, w in battles:
        ra, rb = want.setdefault(a, start), want.setdefault(b, start)
        moved = k * ({"a": 1.0, "b": 0.0, "tie": 0.5}[w] - 1 / (1 + 10 ** ((rb - ra) / scale)))
        want[a], want[b] = ra + moved, rb - moved
    for form in (list, iter):
        got = elo(form(named), k, start, scale)
        assert list(got.values()) == sorted(got.values(), reverse=True), "best first"
        for name in want:
            near(got[name], want[name], name)


@pytest.mark.exercise("6.14")
@pytest.mark.parametrize("weights", [None, [1.0, 2, 0.5, 3, 0]])
def test_the_same_pair_many_times_both_ways_with_weights(weights):
    a, b, s = np.array([0, 1, 0, 2, 1]), np.array([1, 0, 1, 0, 2]), np.array([1.0, 0.5, 0, 1, 1])
    want = np.zeros((4, 4))
    for i in range(5):
        w = 1 if weights is None else weights[i]
        want[a[i], b[i]] += w * s[i]
        want[b[i], a[i]] += w * (1 - s[i])
    near(win_matrix(a, b, s, 4, None if weights is None else np.array(weights)), want)


@pytest.mark.exercise("6.15")
@pytest.mark.parametrize("prior", [1e-7, 0.5, 3.0])
def test_strengths_are_where_the_penalised_gradient_is_zero(prior):
    wins = np.array([[0, 7, 4.5], [2, 0, 6], [1.5, 3, 0]])
    theta, hessian = fit_strengths(wins, prior)
    chance = 1 / (1 + np.exp(theta[None] - theta[:, None]))
    gradient = (wins - (wins + wins.T) * chance).sum(1) - prior * theta
    assert np.abs(gradient).max() < 1e-6, f"prior {prior}: gradient {gradient}"
    assert abs(theta.sum()) < 1e-9, "the mean is 0"
    variance = (wins + wins.T) * chance * (1 - chance)
    near(hessian, np.diag(variance.sum(1) + prior) - variance, "the Hessian there", 1e-6)
    never = fit_strengths(np.array([[0, 5.0], [0, 0]]), prior)[0]
    assert np.isfinite(never).all() and never[0] > 0 > never[1]
    # theta = 5 sigmoid(-2 theta) / prior for the one who never lost
    near(prior * never[0], 5 / (1 + math.exp(2 * never[0])), "the prior stops it", 1e-3)


@pytest.mark.exercise("6.16")
def test_ranks_by_sure_winners_alone():
    low = {"a": 5, "b": 8, "c": 13, "d": 9, "e": 20}
    high = {"a": 9, "b": 12, "c": 15, "d": 10, "e": 21}
    assert rank_with_uncertainty(low, high) == {"a": 3, "b": 3, "c": 2, "d": 3, "e": 1}, \
        "d's lower bound, 9, is not above a's upper one, 9"


@pytest.mark.exercise("6.17")
@pytest.mark.parametrize("gap", [35, 191, 400.0])
@pytest.mark.parametrize("scale, power", [(400.0, 0.8), (200.0, 0.8), (400.0, 0.95), (400.0, 0.3)])
def test_votes_by_the_formula(gap, scale, power):
    import statistics
    p = 1 / (1 + 10 ** (-gap / scale))
    z = statistics.NormalDist().inv_cdf(power)
    want = math.ceil(((1.959964 * 0.5 + z * math.sqrt(p * (1 - p))) / (p - 0.5)) ** 2)
    assert votes_needed(gap, scale, power) == want
    for bad in ((0,), (-5,), (math.inf,), (35, 400.0, 0.0), (35, 400.0, 1.0)):
        with pytest.raises(ValueError):
            votes_needed(*bad)


@pytest.mark.exercise("6.18")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("penalty", [[0.0, 0.0], [0.5, 3.0], [0.0, 3.0]])
def test_coefficients_where_the_gradient_is_zero(weighted, penalty):
    rng, penalty = np.random.default_rng(0), np.array(penalty)
    X, y = np.stack([np.ones(30), rng.normal(size=30)], 1), rng.random(30)
    w = rng.integers(0, 4, 30).astype(float) if weighted else None
    beta, covariance = logistic_fit(X, y, penalty, w)
    use, p = np.ones(30) if w is None else w, 1 / (1 + np.exp(-X @ beta))
    assert np.abs(X.T @ (use * (y - p)) - penalty * beta).max() < 1e-7
    curvature = (X.T * (use * p * (1 - p))) @ X + np.diag(penalty)
    near(covariance, np.linalg.inv(curvature), "the inverse curvature", 1e-6)
    for bad in (1.5, -0.1, np.nan):
        with pytest.raises(ValueError):
            logistic_fit(X, np.where(np.arange(30) == 3, bad, y), penalty)
    with pytest.raises(ValueError):
        logistic_fit(np.where(X == X[0, 1], np.nan, X), y, penalty)
    separable = logistic_fit(X, (X[:, 1] > 0).astype(float), np.array([1e-3, 1e-3]))[0]
    assert np.isfinite(separable).all()


@pytest.mark.exercise("6.19")
@pytest.mark.parametrize("first, second, want", [
    (0.9, 0.3, (0.8, True)), (0.4, 0.9, (0.25, True)), (0.6, 0.6, (0.5, False)),
    (0.5, 0.5, (0.5, True)), (0.5, 0.2, (0.65, False)), (1.0, 0.0, (1.0, True))])
def test_two_orders_and_whether_they_agree(first, second, want):
    asked = []

    def says(question, a, b):
        asked.append((question, a, b))
        return {("x", "y"): first, ("y", "x"): second}[a, b]
    got = judge_both_orders(says, "q", "x", "y")
    near(got[0], want[0])
    assert bool(got[1]) == want[1] and asked == [("q", "x", "y"), ("q", "y", "x")]
    for bad in (1.1, -0.1, math.nan):
        for order in ((bad, 0.5), (0.5, bad)):
            with pytest.raises(ValueError):
                judge_both_orders(lambda q, a, b: order[a == "y"], "q", "x", "y")


@pytest.mark.exercise("6.20")
def test_the_term_of_uneven_differences():
    a, b = [120, 10, 55, 300], np.array([20, 30, 50, 1])
    difference = np.array([100.0, -20, 5, 299])
    near(length_term(a, b), np.tanh(difference / difference.std(ddof=1)))
    near(length_term([5, 6], [1, 2]), [0, 0], "all differences equal: 0, not 0/0")
    near(length_term([5], [1]), [0.0]), near(length_term([], []), [])


@pytest.mark.exercise("6.21")
@pytest.mark.parametrize("ridge", [None, 0.0, 0.5, 40.0])
@pytest.mark.parametrize("hard", [False, True])
def test_the_win_rate_with_ridge_and_difficulty(ridge, hard, monkeypatch):
    rng = np.random.default_rng(3)
    n = 60
    a, b, psi = rng.integers(10, 300, n), rng.integers(10, 300, n), rng.normal(size=n)
    d = (a - b) / (a - b).std(ddof=1)
    y = 1 / (1 + np.exp(-(0.3 + 1.2 * np.tanh(d) + 0.7 * psi)))
    X = np.stack([np.ones(n), np.tanh(d), *([psi] if hard else [])], 1)
    penalty = np.array([1e-6] + [0.015 * n if ridge is None else ridge] * (X.shape[1] - 1))

    def newton(design, target, penalty, weights=None):                      # exercise 6.18
        beta = np.zeros(design.shape[1])
        for _ in range(100):
            p = 1 / (1 + np.exp(-design @ beta))
            H = (design.T * (p * (1 - p))) @ design + np.diag(penalty)
            beta = beta + np.linalg.solve(H, design.T @ (target - p) - penalty * beta)
        return beta, np.linalg.inv(H)
    monkeypatch.setattr(judge, "logistic_fit", newton)
    monkeypatch.setattr(judge, "length_term", lambda p, q: np.tanh(     # exercise 6.20
        (np.asarray(p) - np.asarray(q)) / (np.asarray(p) - np.asarray(q)).std(ddof=1)))
    beta = newton(X, y, penalty)[0]
    want = np.mean(1 / (1 + np.exp(-(beta[0] + (beta[2] * psi if hard else 0)))))
    got = length_controlled_win_rate(y, a, b, psi if hard else None, ridge)
    near(got, want, f"ridge {ridge}, difficulty {hard}", 1e-6)
    for bad in (y + 1, y[:-1]):
        with pytest.raises(ValueError):
            length_controlled_win_rate(bad, a, b)


@pytest.mark.exercise("6.22")
def test_spearman_with_ties_equals_pearson_of_mean_ranks():
    for first, second in (([3, 1, 2, 2, 5], [10, 10, 30, 20, 40]), ([1, 1, 1, 2], [4, 3, 3, 1]),
                          ([5, 4, 3], [1, 2, 3])):
        ranks = [[sum(y < x for y in v) + (1 + sum(y == x for y in v)) / 2 for x in v]
                 for v in (first, second)]
        near(rank_correlation(first, second), np.corrcoef(*ranks)[0, 1], f"{first} {second}")
    assert math.isnan(rank_correlation([1, 1], [1, 2])) and math.isnan(
        rank_correlation([1, 2], [3, 3]))


@pytest.mark.exercise("6.24")
def test_cells_chosen_on_one_half_are_measured_on_the_other():
    rng = random.Random(4)
    rows = [{"name": i, "right": "".join(rng.choice("01") for _ in range(9))} for i in range(4)]
    for row in rows:
        row["accuracy"] = row["right"].count("1") / 9
    got, gaps = spread(rows), [0.0] * 9
    for half in (0, 1):
        share = [sum(row["right"][i] == "1" for i in range(half, 9, 2)) for row in rows]
        best, worst = share.index(max(share)), share.index(min(share))
        for i in range(1 - half, 9, 2):
            gaps[i] = int(rows[best]["right"][i]) - int(rows[worst]["right"][i])
    half = 1.96 * np.std(gaps, ddof=1) / 3
    near([got["spread"], got["low"], got["high"]],
         [np.mean(gaps), np.mean(gaps) - half, np.mean(gaps) + half])
    accuracies = [row["accuracy"] for row in rows]
    assert got["best"] is rows[accuracies.index(max(accuracies))]
    assert got["worst"] is rows[accuracies.index(min(accuracies))]
    near(got["chosen"], max(accuracies) - min(accuracies))
    one = spread([{"accuracy": 1.0, "right": "1"}, {"accuracy": 0.0, "right": "0"}])
    assert (one["spread"], one["low"], one["high"]) == (0, -1, 1)
