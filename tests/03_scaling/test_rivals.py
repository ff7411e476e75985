"""The comparison on planted curves: slopes, crossing, and a verdict that follows from them."""

import json
import math

import numpy as np
import pytest
import torch

import artifacts
import rivals

torch.set_num_threads(1)


def planted(gpt: tuple[float, float], lstm: tuple[float, float], draw: int = 0) -> list[dict]:
    """Three seeds at four sizes of loss = constant * N^exponent, with a little noise."""
    rng, rows = np.random.default_rng(draw), []
    for family, (constant, exponent) in (("gpt", gpt), ("lstm", lstm)):
        for N in (2.5e4, 5e4, 1e5, 2e5):
            for seed in range(3):
                loss = constant * N ** exponent * math.exp(0.003 * rng.normal())
                rows.append({"family": family, "params_non_embedding": N, "loss": loss,
                             "seed": seed} | dict.fromkeys(rivals.EXTRA, loss))
    return rows


@pytest.mark.parametrize("gpt, lstm, verdict", [
    ((6.0, -0.10), (3.0, -0.01), "holds"), ((4.0, -0.05), (2.2, -0.01), "holds in part"),
    ((4.0, -0.02), (5.0, -0.08), "does not hold here")])
def test_the_verdict_follows_from_slopes_and_ends(gpt, lstm, verdict, tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "OUT", tmp_path)
    rows = planted(gpt, lstm)
    found = rivals.compare(rows)
    rivals.claim(found, type("args", (), {"recorded": True}), rows)
    said = json.loads((tmp_path / "claims" / "transformer-vs-lstm.json").read_text())
    assert said["verdict"] == verdict, said["measured"]


def test_a_rival_with_its_best_rate_at_the_edge_is_not_beaten_yet(tmp_path, monkeypatch):
    tried = [{"family": "lstm", "optimizer": "adamw", "learning_rate": rate, "loss": loss,
              "width": "84"} for rate, loss in ((0.01, 2.5), (0.02, 2.2), (0.04, 2.3))]
    assert rivals.beyond(tried, "lstm") == []
    assert rivals.beyond(tried[:2], "lstm") == [(84, "adamw", 0.04)], "0.02 is the largest of two"
    assert rivals.beyond(tried[1:], "lstm") == [(84, "adamw", 0.01)], "0.02 is the smallest of two"
    monkeypatch.setattr(artifacts, "OUT", tmp_path)
    rows = planted((6.0, -0.10), (3.0, -0.01))
    rivals.claim(rivals.compare(rows), type("args", (), {"recorded": True}), rows, untuned=True)
    said = json.loads((tmp_path / "claims" / "transformer-vs-lstm.json").read_text())
    assert said["verdict"] == "holds in part"


def test_intervals_cover_the_planted_difference():
    inside = []
    for draw in range(10):
        _, low, high = rivals.compare(planted((6.0, -0.10), (3.0, -0.04), draw))["slope_difference"]
        inside.append(low <= -0.06 <= high)
    # of 95 % intervals, fewer than 8 of 10 cover with a chance of about 1 in 100
    assert sum(inside) >= 8, f"{sum(inside)} of 10 intervals hold the planted difference"


def test_the_crossing_is_where_both_planted_lines_meet():
    found = rivals.compare(planted((6.0, -0.10), (3.0, -0.04)))
    want = (6.0 / 3.0) ** (1 / 0.06)
    assert found["crossing"][0] == pytest.approx(want, rel=0.35), f"{found['crossing']}, {want:.3g}"


def test_windows_are_a_function_of_the_step_and_shifted_by_one():
    batch = rivals.windows(np.arange(250, dtype=np.uint8), 16, 4, seed=1)
    ids, targets = batch(3)
    assert torch.equal(targets, ids + 1) and torch.equal(batch(3)[0], ids)
    assert not torch.equal(batch(4)[0], ids)


def test_the_recorded_race_can_be_read():
    rows = rivals.read_rows(rivals.RECORDED)
    seeds = {(r["family"], r["width"]) for r in rows}
    assert len(rows) >= 2 * len(seeds), "several seeds of each model"
    positions = rivals.compare(rows)["positions"]
    assert len(positions["gpt"]) >= 5 and positions["gpt"].keys() == positions["lstm"].keys()


def test_counting_models_read_the_same_bytes(tmp_path):
    text = np.frombuffer(b"abcabcabd" * 300, np.uint8)
    for split in ("train", "val"):
        text.tofile(tmp_path / f"{split}.bytes")
    args = type("args", (), {"out": tmp_path, "tokens": 8 * rivals.ROWS * rivals.POSITIONS[-1]})
    rows = rivals.counting_rows(args)
    losses = [row["loss"] for row in rows]
    assert losses == sorted(losses, reverse=True) and losses[0] > 1 and losses[-1] < 0.1, losses
    table = rivals.ladder(rows + planted((6.0, -0.10), (3.0, -0.01)))
    assert list(table) == ["1-gram", "2-gram", "5-gram", "8-gram", "lstm", "gpt"]


def test_trials_go_on_until_the_best_rate_has_neighbours(tmp_path, monkeypatch):
    """The LSTM's planted best rate, 0.3, lies beyond all that are tried at first."""
    def run_jobs(jobs, path, workers, work, columns):
        best = {"gpt": 0.02, "lstm": 0.3}
        return [job | {"width": job["config"]["width"],
                       "loss": 2 + abs(math.log(job["learning_rate"] / best[job["family"]]))
                       + (job["optimizer"] == "muon") * (job["family"] == "lstm")}
                for job in jobs]
    monkeypatch.setattr(rivals, "run_jobs", run_jobs)
    args = type("args", (), {"tokens": 400_000, "workers": 1, "out": tmp_path, "precision": "fp32"})
    tried = rivals.tuned(args, tmp_path / "rates.csv", ())
    for family in rivals.SIZES:
        assert rivals.beyond(tried, family) == [], f"{family}'s best rate is the last one tried"
    rates = {round(t["learning_rate"], 4) for t in tried if t["family"] == "lstm"}
    assert {0.128, 0.256, 0.512} <= rates, sorted(rates)
