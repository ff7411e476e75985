"""mixture.py and domains.py: laws recovered, caps kept, DoReMi by hand, domains of plain pages."""

import numpy as np
import pytest

import domains
import mixture as mx

rng = np.random.default_rng(5)
TRUE = mx.MixingLaw(np.array([2.0, 2.5, 1.8]), np.log([1.0, 0.7, 1.5]), rng.normal(0, 1.5, (3, 5)))
NATURAL = np.array([0.6, 0.2, 0.1, 0.06, 0.04])


@pytest.mark.exercise("2.27")
@pytest.mark.parametrize("weights, caps, expected", [
    ([0.8, 0.1, 0.1], [0.5, 1, 1], [0.5, 0.25, 0.25]),
    ([0.5, 0.3, 0.2], [1, 1, 1], [0.5, 0.3, 0.2]),
    ([2, 1, 1], [1, 1, 1], [0.5, 0.25, 0.25]),
    ([0.7, 0.2, 0.1], [0.4, 0.3, 1], [0.4, 0.3, 0.3]),
    ([0.9, 0.05, 0.05], [0.2, 0.4, 0.4], [0.2, 0.4, 0.4]),
    ([0.6, 0.3, 0.1], [0.5, 0.33, 1], [0.5, 0.33, 0.17]),
])
def test_caps_hold_and_the_rest_keeps_its_proportions(weights, caps, expected):
    got = mx.cap_weights(np.array(weights), np.array(caps))
    assert got == pytest.approx(expected, abs=1e-9), \
        f"{weights} under {caps}: what a cap cuts goes to the others, again and again until all fit"
    assert got.sum() == pytest.approx(1)


@pytest.mark.exercise("2.28")
@pytest.mark.parametrize("weights, excess, step, smoothing, expected", [
    ([0.5, 0.5], [np.log(3), 0], 1, 0, [0.75, 0.25]),
    ([0.5, 0.5], [-5, 0], 1, 0, [0.5, 0.5]),
    ([0.2, 0.8], [0, 0], 1, 0, [0.2, 0.8]),
    ([0.5, 0.5], [np.log(3), 0], 2, 0, [0.9, 0.1]),
    ([0.5, 0.5], [np.log(3), 0], 1, 0.2, [0.7, 0.3]),
    ([0.9, 0.1], [1000, 0], 1, 0.1, [0.95, 0.05]),
])
def test_doremi_update_by_hand(weights, excess, step, smoothing, expected):
    with np.errstate(over="raise", invalid="raise"):
        got = mx.doremi_update(np.array(weights), np.array(excess), step, smoothing)
    assert got == pytest.approx(expected, abs=1e-9), \
        "softmax(log w + step * max(excess, 0)), then smoothed towards uniform"


@pytest.mark.exercise("2.29")
def test_law_error_has_the_gradient_it_says():
    weights, loss = mx.sample_mixtures(NATURAL, 12), rng.normal(3, 0.1, 12)
    p = rng.normal(0, 0.3, 7)
    p[0] = 2
    gradient = mx.law_error(p, weights, loss, 0.02)[1]
    for i in range(7):
        step = np.zeros(7)
        step[i] = 1e-6
        slope = (mx.law_error(p + step, weights, loss, 0.02)[0]
                 - mx.law_error(p - step, weights, loss, 0.02)[0]) / 2e-6
        name = ["the floor c", "b = log k"][i] if i < 2 else f"t_{i - 2}"
        assert gradient[i] == pytest.approx(slope, rel=1e-4, abs=1e-5), f"gradient of {name}"


@pytest.mark.exercise("2.29")
def test_law_error_by_hand_and_robust_to_outliers():
    # one mixture (1, 0): prediction c + exp(b + t_1) = 2 + e^0 = 3
    p = np.array([2.0, -0.5, 0.5, 9.0])
    one = np.array([[1.0, 0.0]])
    assert mx.law_error(p, one, np.array([3.0]), 0)[0] == pytest.approx(0, abs=1e-12)
    small = mx.law_error(p, one, np.array([3.001]), 0)[0]
    large = mx.law_error(p, one, np.array([4.0]), 0)[0]
    assert small == pytest.approx(np.sqrt(1.01) - 1, rel=1e-6), "e = delta / 10"
    assert large == pytest.approx(np.sqrt(1 + 100**2) - 1, rel=1e-6), "e = 100 delta: linear"
    assert mx.law_error(p, one, np.array([3.0]), 0.1)[0] == pytest.approx(0.1 * (0.25 + 81))


def test_fitted_law_predicts_mixtures_never_tried():
    weights = mx.sample_mixtures(NATURAL, 64)
    law = mx.fit_mixing_law(weights, TRUE.predict(weights) + rng.normal(0, 0.005, (64, 3)))
    fresh = mx.sample_mixtures(np.ones(5) / 5, 100, seed=1)
    error = np.abs(law.predict(fresh) - TRUE.predict(fresh))
    assert error.max() < 0.05, f"largest error {error.max():.3f} nats on unseen mixtures"


def test_the_power_is_chosen_by_what_predicts():
    weights = mx.sample_mixtures(NATURAL, 64)
    for power in (1.0, 0.5):
        truth = mx.MixingLaw(TRUE.c, TRUE.b, TRUE.t, power)
        losses = truth.predict(weights) + rng.normal(0, 0.002, (64, 3))
        order = rng.permutation(64)
        assert mx.choose_power(weights[order], losses[order]) == power
        best = mx.optimise(truth, np.ones(5))
        tried = mx.sample_mixtures(np.ones(5) / 5, 3000, seed=4)
        assert truth.predict(best).mean() <= truth.predict(tried).mean(1).min() + 0.01, power


def test_optimum_beats_every_allowed_sample_and_respects_caps():
    caps = mx.repetition_caps(NATURAL * 1000, 1000)
    best = mx.optimise(TRUE, caps)
    assert best.sum() == pytest.approx(1) and (best <= caps + 1e-9).all()
    tried = mx.sample_mixtures(NATURAL, 3000, seed=2)
    tried = tried[(tried <= caps).all(1)]
    assert TRUE.predict(best).mean() <= TRUE.predict(tried).mean(1).min() + 1e-3
    assert TRUE.predict(best).mean() < TRUE.predict(NATURAL).mean()


def test_caps_that_cannot_fill_the_budget_are_refused():
    assert mx.repetition_caps(np.array([100, 900]), 1000).tolist() == [0.4, 1.0]
    with pytest.raises(ValueError, match="cannot fill"):
        mx.repetition_caps(np.array([100, 100]), 1000)


def test_sampled_mixtures_are_mixtures_and_vary():
    weights = mx.sample_mixtures(NATURAL, 200)
    assert np.allclose(weights.sum(1), 1) and (weights >= 0).all()
    assert weights.max() > 0.9 and (weights.max(1) < 0.5).any(), "vague and strict ones"
    assert np.array_equal(weights, mx.sample_mixtures(NATURAL, 200)), "same seed, same mixtures"


def test_natural_mixture_counts_training_bytes():
    documents = [{"text": "\u00e9" * 3, "domain": "code", "split": "train"},
                 {"text": "xx", "domain": "legal", "split": "train"},
                 {"text": "x" * 99, "domain": "news", "split": "val"}]
    assert mx.natural_mixture(documents) == {"code": 0.75, "legal": 0.25, "news": 0.0}


@pytest.mark.parametrize("text, domain", [
    ("def f(x):\n    return x\n" * 9, "code"),
    ("sort(a, axis=-1)\n    Return a sorted copy.\n\n    Parameters\n    ----------\n"
     "    a : array\n        The values.\n", "reference"),
    ("The theorem says that the matrix has two eigenvalues. Its polynomial is prime. " * 3,
     "mathematics"),
    ("This license grants redistribution without warranty; the licensee shall bear liability. "
     * 3, "legal"),
    ("Police said on Monday that the minister had resigned, officials reported in court. " * 3,
     "news"),
    ("", "general"),
])
def test_plain_pages_have_their_domain(text, domain):
    assert domains.classify_domain(text) == domain


def test_documentation_is_told_from_prose():
    prose = "The river runs to the sea, and the boats wait in the harbour for the wind.\n" * 20
    docs = "sort(a)\n    Return a sorted copy of ``a``.\n\n    >>> sort([2, 1])\n    [1, 2]\n\n" * 5
    assert domains.is_documentation(docs) and not domains.is_documentation(prose)
    talk = "Q: How did you come to it?\n\nA: I was asked by a friend, and I said yes.\n\n" * 9
    assert not domains.is_documentation(talk), "speakers are no parameters"
    assert domains.is_documentation(talk.replace("Q:", "q:").replace("A:", "A :"))


def test_predictions_come_from_laws_that_have_not_seen_the_run():
    weights = mx.sample_mixtures(NATURAL, 40)[rng.permutation(40)]
    losses = TRUE.predict(weights) + rng.normal(0, 0.003, (40, 3))
    wrong = losses.copy()
    wrong[7] += 1                       # one run goes badly
    predicted = mx.cross_predict(weights, wrong, powers=(1.0,))
    assert np.abs(predicted - losses).mean() < 0.05
    assert np.abs(predicted[7] - losses[7]).max() < 0.2, "run 7 was fitted, not predicted"


@pytest.mark.exercise("2.27")
@pytest.mark.parametrize("weights, caps", [
    ([0.5, 0.5], [0, 0]), ([0.5, 0.5], [-0.2, 2]), ([np.nan, 1], [1, 1]), ([0.5, 0.5], [np.nan, 1]),
    ([np.inf, 1], [1, 1]), ([0.5, 0.5], [1, 1, 1])])
def test_caps_that_are_none_are_refused(weights, caps):
    with pytest.raises(ValueError):
        mx.cap_weights(weights, caps)


@pytest.mark.exercise("2.28")
def test_doremi_gives_a_weight_of_nothing_its_share_of_the_smoothing():
    with np.errstate(all="raise"):
        got = mx.doremi_update([1, 0], [0, 1], smoothing=0.1)
    assert got == pytest.approx([0.95, 0.05]), "a weight of 0 gets c / D, without a warning"


@pytest.mark.exercise("2.28")
@pytest.mark.parametrize("weights, excess", [([0, 0], [1, 1]), ([-1, 2], [0, 0]), ([.5, .5], [np.nan, 0]),
                                             ([.5, .5], [np.inf, 0])])
def test_doremi_refuses_what_is_no_weight_or_excess(weights, excess):
    with pytest.raises(ValueError):
        mx.doremi_update(weights, excess)


def test_budgets_losses_and_importance_of_nothing_are_refused():
    law = mx.MixingLaw(np.zeros(2), np.zeros(2), np.zeros((2, 3)))
    for call in (lambda: mx.repetition_caps([1, 2], 0), lambda: mx.optimise(law, np.ones(3), [0, 0]),
                 lambda: mx.optimise(law, np.ones(3), [1, -1]),
                 lambda: mx.fit_mixing_law(np.eye(3), np.full((3, 1), np.nan)),
                 lambda: mx.fit_mixing_law(np.eye(3), np.ones(3)),
                 lambda: mx.cross_predict(np.eye(3)[:1], np.ones((1, 3)))):
        with pytest.raises(ValueError):
            call()
    assert mx.sample_mixtures(NATURAL, 0).shape == (0, 5)


def test_fewer_runs_than_folds_still_choose_a_power():
    weights = mx.sample_mixtures(NATURAL, 3)
    with np.errstate(all="raise"):
        assert mx.choose_power(weights, TRUE.predict(weights)) in (1.0, 0.75, 0.5)
        assert np.isfinite(mx.cross_predict(weights, TRUE.predict(weights))).all()
        assert mx.choose_power(weights[:1], TRUE.predict(weights[:1])) == 1.0
