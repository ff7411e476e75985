"""Judging in both orders, length control against closed forms, attacks, and judges that fail."""

import json
import math
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

import judge
from artifacts import BadInput
from calibration import wilson_interval
from judge import (ATTACKS, Verdicts, attack_table, compare,
                   judge_both_orders, length_controlled_jointly, length_controlled_win_rate,
                   length_term, pad_answer, rank_correlation, repeat_answer, truncate_answer,
                   win_rate)
from judge_experiments import judge_against_arena, planted_length_bias
from judge_models import AddressJudge, read_verdict


@pytest.mark.exercise("6.19")
def test_both_orders_cancel_the_love_of_the_first():
    assert judge_both_orders(lambda q, a, b: 0.8, "q", "x", "y") == (pytest.approx(0.5), False), (
        "a judge that always likes the first answer prefers nothing, inconsistently")
    longer = lambda q, a, b: 1.0 if len(a) > len(b) else 0.0 if len(a) < len(b) else 0.5
    assert judge_both_orders(longer, "q", "long answer", "short") == (1.0, True)
    assert judge_both_orders(longer, "q", "short", "long answer") == (0.0, True)
    assert judge_both_orders(longer, "q", "same", "same") == (0.5, True), "identical answers"
    tilted = lambda q, a, b: {("x", "y"): 0.9, ("y", "x"): 0.4}[a, b]
    got, same = judge_both_orders(tilted, "q", "x", "y")
    other, _ = judge_both_orders(tilted, "q", "y", "x")
    assert got == pytest.approx(0.75) and same, "0.9 for x first; 0.4 for y first is 0.6 for x"
    assert got + other == pytest.approx(1.0), "judge(a, b) + judge(b, a) = 1"
    half = lambda q, a, b: {("x", "y"): 0.5, ("y", "x"): 0.2}[a, b]
    assert judge_both_orders(half, "q", "x", "y") == (pytest.approx(0.65), False), (
        "a draw in one order and a winner in the other are not the same verdict")


@pytest.mark.exercise("6.19")
@pytest.mark.parametrize("nonsense", [1.2, -0.1, math.nan, math.inf])
def test_a_verdict_that_is_no_probability(nonsense):
    with pytest.raises(ValueError):
        judge_both_orders(lambda q, a, b: nonsense, "q", "x", "y")


def test_failed_questions_are_counted_not_hidden():
    def moody(question, a, b):
        if question == "bad":
            raise TimeoutError("too slow")
        return 0.9 if a == "good" else 0.1

    got = compare(moody, ["ok", "bad", "ok"], ["good"] * 3, ["poor"] * 3)
    assert got.failed == 1 and len(got.preferences) == 2 and got.preferences == pytest.approx(0.9)
    assert got.first_wins == pytest.approx(0.5) and got.lengths.tolist() == [4, 4]
    with pytest.raises(BadInput, match="too slow"):
        compare(moody, ["bad"], ["good"], ["poor"])


def test_win_rate_by_hand():
    rate, low, high = win_rate(np.array([1, 1, 0, 0.0] * 25))
    assert (rate, low, high) == pytest.approx((0.5, *wilson_interval(50, 100))), "wins and losses"
    assert win_rate([1, 1, 1]) == pytest.approx((1.0, 0.4385, 1.0), abs=1e-4), "Wilson at the edge"
    rate, low, high = win_rate([0.5] * 10)
    assert rate == 0.5 and 0.1 < high - rate < 0.2, f"ten draws: {low:.3f} to {high:.3f}"


@pytest.mark.parametrize("draws", [0.0, 0.3, 0.5])
def test_intervals_of_win_rates_cover_with_draws(draws):
    rng, inside = np.random.default_rng(0), 0
    for _ in range(600):
        votes = np.where(rng.random(80) < draws, 0.5, rng.random(80) < 0.62)
        _, low, high = win_rate(votes)
        inside += low <= draws / 2 + (1 - draws) * 0.62 <= high
    assert 0.925 <= inside / 600 <= 0.975, f"{draws:.0%} draws: covers {inside / 600:.3f}"


@pytest.mark.parametrize("measure", [
    lambda p: win_rate(p), lambda p: length_controlled_win_rate(p, np.arange(3), np.zeros(3)),
    lambda p: length_controlled_jointly([Verdicts(np.array(p, float), np.ones(3, bool), 0.5,
                                                  np.arange(3.0), np.zeros(3), 0)])])
@pytest.mark.parametrize("bad, words", [([1.0, 2.0, 1.5], "1 to 2: subtract 1"),
                                        ([0.5, math.nan, 0.2], "number 2 of 3"),
                                        ([0.5, -0.1, 0.2], "number 2 of 3")])
def test_preferences_on_another_scale_are_refused_in_words(measure, bad, words):
    with pytest.raises(ValueError, match=words):
        measure(bad)


def test_lengths_that_do_not_go_with_the_preferences_are_refused():
    for ours in ([1, 2], [1, 2, math.nan]):
        with pytest.raises(ValueError, match="for each of 3 preferences"):
            length_controlled_win_rate([0.5, 0.5, 1], ours, [1, 2, 3])


def test_the_default_ridge_grows_with_the_questions():
    rng = np.random.default_rng(0)
    ours, theirs = rng.gamma(4, 50, 805), rng.gamma(4, 40, 805)
    wins = (rng.random(805) < 1 / (1 + np.exp(-0.4 - length_term(ours, theirs)))).astype(float)
    got = length_controlled_win_rate(wins, ours, theirs)
    assert got == length_controlled_win_rate(wins, ours, theirs, ridge=0.015 * 805)
    assert abs(got - 1 / (1 + math.exp(-0.4))) < 0.04


def test_where_one_side_is_always_longer_the_default_stays_near_the_raw_rate():
    rates = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        theirs = rng.integers(100, 300, 200)
        wins = (rng.random(200) < 0.75).astype(float)
        rates.append(length_controlled_win_rate(wins, theirs + rng.integers(10, 90, 200), theirs)
                     - wins.mean())
    assert np.sqrt(np.mean(np.square(rates))) < 0.08, "with a ridge of 1e-6 it is twice as far off"


@pytest.mark.exercise("6.20")
def test_length_term():
    got = length_term(np.array([200, 100, 0]), np.array([100, 100, 100]))
    assert got == pytest.approx([math.tanh(1), 0, -math.tanh(1)], abs=1e-9), (
        f"differences 100, 0, -100 have the deviation 100 (n - 1): tanh of +1, 0, -1; got {got}")
    assert length_term(np.array([5, 5]), np.array([3, 3])) == pytest.approx([0, 0]), (
        "all differences equal: no deviation to divide by, the term is 0")
    assert length_term(np.array([5]), np.array([3])) == pytest.approx([0])
    uneven = length_term(np.array([110.0, 10]), np.array([10.0, 10]))
    assert uneven[1] == 0, "equal lengths give 0: the mean difference is not subtracted"


@pytest.fixture
def plain_fit(monkeypatch):
    """Newton's method without its guards, so that only the control itself is under test."""
    def fit(design, target, penalty, weights=None):
        beta = np.zeros(design.shape[1])
        for _ in range(60):
            chance = 1 / (1 + np.exp(-design @ beta))
            curvature = (design.T * (chance * (1 - chance))) @ design + np.diag(penalty)
            beta += np.linalg.solve(curvature, design.T @ (target - chance) - penalty * beta)
        return beta, np.linalg.inv(curvature)
    monkeypatch.setattr(judge, "logistic_fit", fit)


@pytest.mark.exercise("6.21")
def test_length_control_recovers_a_planted_quality(plain_fit):
    """Preferences made by the very model: sigmoid(theta + phi * term). Control returns theta."""
    rng = np.random.default_rng(0)
    ours, theirs = rng.gamma(4, 50, 400), rng.gamma(4, 30, 400)
    term = length_term(ours, theirs)
    for theta, phi in ((0.0, 1.5), (0.7, -1.0), (-1.2, 0.0)):
        preferences = 1 / (1 + np.exp(-(theta + phi * term)))
        got = length_controlled_win_rate(preferences, ours, theirs, ridge=1e-6)
        assert got == pytest.approx(1 / (1 + math.exp(-theta)), abs=1e-4), (
            f"quality {theta}, love of length {phi}: control should give "
            f"{1 / (1 + math.exp(-theta)):.4f}, got {got:.4f}")
    flat = length_controlled_win_rate(np.full(50, 0.7), rng.gamma(4, 50, 50), rng.gamma(4, 30, 50))
    assert flat == pytest.approx(0.7, abs=1e-4), "no relation to length: nothing is removed"


@pytest.mark.exercise("6.21")
def test_length_control_with_difficulty(plain_fit):
    rng = np.random.default_rng(1)
    ours, theirs, hard = rng.gamma(4, 50, 300), rng.gamma(4, 40, 300), rng.normal(0, 1, 300)
    logits = 0.5 + 0.8 * length_term(ours, theirs) - 1.2 * hard
    got = length_controlled_win_rate(1 / (1 + np.exp(-logits)), ours, theirs, hard, 1e-6)
    assert got == pytest.approx(np.mean(1 / (1 + np.exp(-(0.5 - 1.2 * hard)))), abs=1e-4), (
        "difficulty stays in; only the length term is set to zero")


def test_swapping_the_sides_mirrors_control():
    rng = np.random.default_rng(2)
    p, ours, theirs = rng.random(100), rng.gamma(4, 50, 100), rng.gamma(4, 40, 100)
    one = length_controlled_win_rate(p, ours, theirs)
    other = length_controlled_win_rate(1 - p, theirs, ours)
    assert one + other == pytest.approx(1.0, abs=1e-6)


def test_control_where_lengths_say_nothing():
    """Every answer longer by 100: alone not identifiable; together with other groups it is."""
    base = np.full(60, 100.0)
    rng = np.random.default_rng(3)
    spread = Verdicts(np.zeros(0), np.zeros(0, bool), 0.5, base + rng.normal(0, 80, 60), base, 0)
    padded = Verdicts(np.zeros(0), np.zeros(0, bool), 0.5, base + 100, base, 0)
    both = [np.concatenate([spread.lengths, padded.lengths]), np.concatenate([base, base])]
    logits = 1.3 * length_term(*both)
    chance = 1 / (1 + np.exp(-logits))
    groups = [Verdicts(chance[:60], spread.consistent, 0.5, spread.lengths, base, 0),
              Verdicts(chance[60:], padded.consistent, 0.5, padded.lengths, base, 0)]
    assert groups[1].preferences.mean() > 0.7, "the planted bias shows in the padded group"
    assert length_controlled_jointly(groups) == pytest.approx([0.5, 0.5], abs=0.01)


def test_attacks():
    text = "Return the sorted array of numbers."
    assert repeat_answer("Yes.") == "Yes. Yes." and repeat_answer(" a b ") == " a b a b"
    assert truncate_answer("Return the sorted array.") == "Return the."
    assert truncate_answer("One") == "One." and truncate_answer("") == "."
    assert truncate_answer(text) == "Return the sorted.", "three of six words"
    assert text in pad_answer(text) and len(pad_answer(text)) > len(text) + 100


def test_attack_table_against_a_length_judge():
    """A judge that counts characters is lifted by padding and repeating, lowered by cutting."""
    judge = lambda q, a, b: 1 / (1 + math.exp(-(len(a) - len(b)) / 40))
    rng = np.random.default_rng(0)
    texts = [["word " * int(n) for n in rng.integers(3, 15, 40)] for _ in range(2)]
    rows = {r["attack"]: r for r in attack_table(judge, ["q"] * 40, *texts)}
    plain = rows["as written"]["win_rate"]
    assert rows["pad"]["win_rate"] > plain + 0.2 and rows["repeat"]["win_rate"] > plain + 0.1
    assert rows["truncate"]["win_rate"] < plain - 0.05
    for name in ATTACKS:
        assert abs(rows[name]["length_controlled"] - 0.5) < abs(rows[name]["win_rate"] - 0.5), (
            f"{name}: control should bring the rate towards the truth, one half")


@pytest.mark.exercise("6.22")
def test_rank_correlation():
    assert rank_correlation((1, 2, 3), (10, 30, 20)) == pytest.approx(0.5)
    assert rank_correlation((1, 2, 3, 4), (1, 8, 27, 1e6)) == pytest.approx(1.0), "only order counts"
    assert rank_correlation((1, 2, 3), (3, 2, 1)) == pytest.approx(-1.0)
    tied = rank_correlation((1, 2, 2, 3), (1, 2, 3, 4))
    assert tied == pytest.approx(0.9486833, abs=1e-6), (
        f"equal values share the mean of their ranks (1, 2.5, 2.5, 4): 0.9487, got {tied}")
    assert math.isnan(rank_correlation((1, 1, 1), (1, 2, 3)))


def test_simulations():
    quiet = judge_against_arena(12, noise=0.0, prompts=20_000)
    assert quiet > 0.95, f"a judge with the arena's taste and many prompts agrees, got {quiet}"
    lengths = np.random.default_rng(0).gamma(4, 20, 200)
    bias = planted_length_bias(lengths, lengths)
    assert bias["raw"] > bias["truth"] + 0.05
    assert abs(bias["controlled"] - bias["truth"]) < 0.5 * (bias["raw"] - bias["truth"])
    fair = planted_length_bias(lengths, lengths, bias=0.0)
    assert fair["raw"] == pytest.approx(fair["truth"])


# ---- a judge behind an address

def test_read_verdict():
    assert read_verdict({"message": {"content": "M"}}) == 0.0
    assert read_verdict({"message": {"content": " m."}}) == 1.0
    top = [{"token": "m", "logprob": math.log(0.6)}, {"token": " M", "logprob": math.log(0.2)},
           {"token": "x", "logprob": -1}]
    choice = {"logprobs": {"content": [{"top_logprobs": top}]}, "message": {"content": "m"}}
    assert read_verdict(choice) == pytest.approx(0.75), "p(m) / (p(m) + p(M))"
    for nonsense in ({"message": {"content": "My view is"}}, {"message": {"content": ""}}, {},
                     {"message": {"content": None}, "logprobs": None}):
        with pytest.raises(ValueError):
            read_verdict(nonsense)


@pytest.mark.parametrize("reply, status, error", [
    (b'{"choices": [{"message": {"content": "m"}}]}', 200, None), (b"not json", 200, ValueError),
    (b'{"choices": []}', 200, ValueError), (b"{}", 500, OSError), (b"7", 200, ValueError),
    (b'{"choices": [null]}', 200, ValueError), (b'{"choices": [{"message": "m"}]}', 200, ValueError),
    (b'{"choices": {"0": 1}}', 200, ValueError), (b"\xff\xfe", 200, ValueError),
    (b"[" * 100_000, 200, ValueError), (b"", 200, ValueError), (b"", 302, OSError),
    (b'{"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "m", "logprob": 1e9}]}]}}]}',
     200, ValueError),
    (b'{"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": null}]}]}}]}', 200,
     ValueError)])
def test_address_judge(reply, status, error):
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(reply)

        def do_GET(self):
            raise AssertionError("the question or the key went elsewhere")

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    judge = AddressJudge(f"http://127.0.0.1:{server.server_address[1]}/v1", "some-model", timeout=5)
    try:
        if error:
            with pytest.raises(error):
                judge("q", "x", "y")
        else:
            assert judge("q", "x", "y") == 1.0
            assert "x" in seen[0]["messages"][0]["content"] and seen[0]["max_tokens"] == 1
    finally:
        server.shutdown()
        server.server_close()


def test_a_silent_judge_times_out():
    import socket
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        judge = AddressJudge(f"http://127.0.0.1:{silent.getsockname()[1]}", "m", timeout=0.2)
        with pytest.raises(TimeoutError):
            judge("q", "x", "y")


@pytest.mark.parametrize("reply, error", [
    (b"hello\r\n\r\n", ValueError), (b"", (OSError, ValueError)),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{", ValueError)])
def test_a_judge_that_does_not_speak_http(reply, error):
    import socket
    with socket.socket() as rude:
        rude.bind(("127.0.0.1", 0))
        rude.listen()

        def answer():
            with rude.accept()[0] as line:
                line.recv(65536)
                line.sendall(reply)
                line.shutdown(socket.SHUT_WR)
                while line.recv(65536):         # a rest left unread would reset the connection
                    pass

        threading.Thread(target=answer, daemon=True).start()
        judge = AddressJudge(f"http://127.0.0.1:{rude.getsockname()[1]}", "m", timeout=2)
        with pytest.raises(error):
            judge("q", "x", "y")


def test_a_judge_that_answers_drop_by_drop_times_out():
    import socket
    import time
    with socket.socket() as slow:
        slow.bind(("127.0.0.1", 0))
        slow.listen()

        def drip():
            with slow.accept()[0] as line:
                line.recv(65536)
                line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
                for _ in range(40):
                    try:
                        line.sendall(b" ")
                    except OSError:
                        return
                    time.sleep(0.1)

        threading.Thread(target=drip, daemon=True).start()
        judge = AddressJudge(f"http://127.0.0.1:{slow.getsockname()[1]}", "m", timeout=0.5)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            judge("q", "x", "y")
        assert time.monotonic() - began < 2, "each drop must not start the clock again"


def test_a_dead_judge_is_given_up_after_five_questions():
    asked = []

    def dead(question, first, second):
        asked.append(question)
        raise TimeoutError("no answer in 30 s")

    with pytest.raises(BadInput, match="no answer in 30 s"):
        compare(dead, list("abcdefgh"), ["x"] * 8, ["y"] * 8)
    assert asked == list("abcde"), f"asked {asked}: 64 questions at 30 s each are half an hour"
    with pytest.raises(BadInput, match="http"):
        AddressJudge("file:///etc/passwd", "m")


@pytest.mark.parametrize("status, body, words", [
    (400, b'{"error": {"message": "model some-model does not exist", "code": 1}}', "does not exist"),
    (401, b'{"error": "no key"}', "401 .*: no key"), (404, b'{"detail": "Not here"}', "Not here"),
    (429, b'{"message": "slow\\ndown"}', "429 .*: slow down"), (500, b"plain words", "plain words"),
    (503, b"", "answered 503"), (400, b'{"error": {"code": 7}}', '"code": 7')])
def test_what_an_address_says_with_its_error_is_shown(status, body, words):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    judge = AddressJudge(f"http://127.0.0.1:{server.server_address[1]}/v1", "some-model", timeout=5)
    try:
        with pytest.raises(OSError, match=words):
            judge("q", "x", "y")
    finally:
        server.shutdown()
        server.server_close()
