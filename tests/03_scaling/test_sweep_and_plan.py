"""The commands on a tiny corpus with fake clocks: jobs, resuming, choosing, and the plan itself."""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import data_limited
import machine_speed
import plan
import sweep
from artifacts import BadInput
from batches import Shard
from forecast import fit_laws
from model_shapes import model_of
from power_laws import ParametricFit, predict
from training_loop import Recipe

torch.set_num_threads(1)
VOCAB, LAW = 64, ParametricFit(1.9, 60.0, 120.0, 0.30, 0.30)


@pytest.fixture
def data(tmp_path) -> Path:
    """Shards of 40 training and 6 held-out documents of counting tokens."""
    folder, splits = tmp_path / "02_data", {}
    folder.mkdir()
    for split, count in (("train", 40), ("val", 6)):
        lines = [[(i + k) % 60 for k in range(50 + 7 * i)] + [63] for i in range(count)]
        lengths = [len(line) for line in lines]
        np.array(sum(lines, []), "<u2").tofile(folder / f"{split}.bin")
        splits[split] = {"tokens": sum(lengths), "bytes": 3 * sum(lengths), "documents": {
            "start": np.cumsum([0, *lengths[:-1]]).tolist(), "length": lengths,
            "bytes": [3 * n for n in lengths], "domain": [0] * count, "id": list(range(count))}}
    (folder / "index.json").write_text(json.dumps({
        "format": 1, "tokenizer_sha256": "t", "corpus_sha256": "c", "vocab_size": VOCAB,
        "dtype": "<u2", "eot": 63, "domains": ["all"], "mixture": {}, "splits": splits}))
    return folder


def sweep_args(data: Path, **changes) -> argparse.Namespace:
    return argparse.Namespace(**dict(data=data, out=data.parent / "03", sequence_length=32,
                                     minutes=1.0, workers=1, seed=0, bootstrap=20, quick=True,
                                     full=False, fresh=False) | changes)


def test_jobs_are_largest_first_and_each_has_enough_updates(data):
    jobs = sweep.make_jobs(sweep_args(data), VOCAB, 1.0, "fp32")
    budgets = [job["budget"] for job in jobs]
    assert budgets == sorted(budgets, reverse=True) and min(j["steps"] for j in jobs) >= 20
    assert sum(job["whole"] for job in jobs) == 1, "one run is measured on all held-out text"
    twice = [job for job in jobs if job.get("epochs")]
    assert len(twice) == 1 and twice[0]["run"].replace("repeat", "gpt") in \
        [job["run"] for job in jobs], "one run has a twin that reads half as much text twice"


def test_a_budget_too_small_for_any_model_is_one_clear_line(data):
    with pytest.raises(BadInput, match="minutes"):
        sweep.make_jobs(sweep_args(data), VOCAB, 1e-6, "fp32")


def test_one_run_trains_measures_and_repeats(data):
    job = sweep.make_jobs(sweep_args(data), VOCAB, 1.0, "fp32")[-1]
    small = model_of(32, VOCAB, 32, ngram_rows=64)
    job |= {"steps": 12, "rows": 4, "whole": True, "config": vars(small)}
    first, second = sweep.train_one(job), sweep.train_one(job)
    assert first["loss"] == second["loss"], "the same job, the same loss"
    assert first["loss"] < math.log(VOCAB), "it learned something"
    assert first["tokens"] == 12 * 4 * 32 and first["whole_loss"] > 0


def test_a_run_of_two_epochs_reads_half_as_much_text(data):
    job = [j for j in sweep.make_jobs(sweep_args(data), VOCAB, 1.0, "fp32") if j.get("epochs")][0]
    job |= {"steps": 16, "rows": 4, "config": vars(model_of(32, VOCAB, 32, ngram_rows=64))}
    row = sweep.train_one(job)
    assert row["family"] == "repeat" and 0.6 < row["unique_tokens"] / (16 * 4 * 32 / 2) <= 1, row


def test_finished_runs_are_not_trained_again(data, monkeypatch):
    args = sweep_args(data)
    jobs = sweep.make_jobs(args, VOCAB, 1.0, "fp32")
    done = [{"run": j["run"], "loss": 3.0, "params": 1, "width": 1, "tokens": 1} for j in jobs]
    args.out.mkdir()
    sweep.write_rows(args.out / "runs.csv", done)
    monkeypatch.setattr(sweep, "train_one", None)
    rows = sweep.run_jobs(jobs, args.out / "runs.csv", 1)
    assert [row["run"] for row in rows] == [job["run"] for job in jobs]


def test_a_slow_machine_gets_smaller_budgets_and_a_resumed_sweep_keeps_them(data, monkeypatch):
    args = sweep_args(data)
    args.out.mkdir()
    speeds = {"fp32": 1e9, "bf16": 0.8e9}
    monkeypatch.setattr(sweep, "speeds", lambda config: speeds)
    scale, precision = sweep.settle(args, Shard(data, "train"), args.out / "runs.csv")
    assert precision == "fp32" and scale < 1
    (args.out / "runs.csv").write_text("run\n")
    speeds["bf16"] = 9e12
    again = sweep.settle(args, Shard(data, "train"), args.out / "runs.csv")
    assert again == (scale, precision), "budgets changed in the middle of a sweep"
    args.seed = 1
    assert sweep.settle(args, Shard(data, "train"), args.out / "runs.csv")[1] == "bf16"
    assert not (args.out / "runs.csv").exists(), "runs of other settings were kept"


def laws_of(unique_sha: str = "c") -> dict:
    """Laws as sweep.py writes them, from runs of a planted law."""
    N = np.tile([1e5, 2e5, 4e5, 8e5], 3)
    D = np.repeat([2e5, 6e5, 1.8e6], 4)
    laws = fit_laws(N, D, predict(LAW, N, D), 6 * N * D, bootstrap=10)
    return laws | {"tokenizer_sha256": "t", "corpus_sha256": unique_sha, "sequence_length": 32,
                   "recipe": vars(Recipe()), "vocab_size": VOCAB, "whole_over_part": 1.0}


def plan_args(**changes) -> argparse.Namespace:
    return argparse.Namespace(**dict(minutes=2.0, quick=True, threads=None, compile="no",
                                     seed=0, device="cpu") | changes)


class FakeTrial(machine_speed.Trial):
    """A machine of 2e9 FLOP/s at any width, and of 8e9 after 3 s of compiling."""

    def turn(self) -> None:
        self.preparation = 3.0 if self.compiled else 0.0

    def speed(self, rows: int) -> float:
        return (8e9 if self.compiled else 2e9) / plan.training_flops(self.config, 1)


def test_the_plan_takes_the_width_of_lowest_forecast_and_chapter_4_accepts_it(
        data, monkeypatch, tmp_path):
    monkeypatch.setattr(plan, "Trial", FakeTrial)
    laws, index = laws_of(), json.loads((data / "index.json").read_text())
    made = plan.make_plan(plan_args(), laws, index)
    losses = [c["loss"] for c in made["candidates"]]
    assert losses == sorted(losses) and made["model"]["width"] == made["candidates"][0]["width"]
    assert made["forecast"]["low"] < made["forecast"]["loss"] < made["forecast"]["high"]
    assert made["tokens"] == made["steps"] * made["batch_tokens"]
    assert made["flops"] <= 2e9 * 120, "the plan takes longer than it may"
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(made))
    from plan_file import make_plan
    flags = argparse.Namespace(plan=path, tokens=None)
    accepted = make_plan(flags, VOCAB, {"tokenizer_sha256": "t", "corpus_sha256": "c"})
    assert accepted.tokens == made["tokens"] and accepted.model == model_of(
        made["model"]["width"], VOCAB, 32)


def test_no_size_far_beyond_where_the_valleys_point_is_planned(data, monkeypatch):
    monkeypatch.setattr(plan, "Trial", FakeTrial)
    index = json.loads((data / "index.json").read_text())
    index["splits"]["train"]["tokens"] = 10 ** 9
    free = laws_of()
    bound = free | {"isoflop": {"N_opt": [6e3], "budgets": [2.4e10]}}
    plans = [plan.make_plan(plan_args(minutes=8), laws, index) for laws in (free, bound)]
    sizes = [next(c["N"] for c in one["candidates"] if c["width"] == one["model"]["width"])
             for one in plans]
    assert sizes[1] <= plan.REACH * 6e3 * (plans[1]["flops"] * 1.05 / 2.4e10) ** 0.5 < sizes[0]
    assert min(c["loss"] for c in plans[1]["candidates"]) < plans[1]["candidates"][0]["loss"]


def test_what_cannot_win_is_not_measured_again(data, monkeypatch):
    turns = {}

    class Counted(FakeTrial):
        def turn(self) -> None:
            turns[self.config.width] = turns.get(self.config.width, 0) + 1
    index = json.loads((data / "index.json").read_text())
    index["splits"]["train"]["tokens"] = 10 ** 9
    laws = laws_of() | {"isoflop": {"N_opt": [2e4], "budgets": [2.4e10]}}
    monkeypatch.setattr(plan, "Trial", Counted)
    monkeypatch.setattr(plan, "CLOSE", 0.03)
    found = plan.choose_model(laws, 480.0, 1e9, 1, "fp32", 3)
    beyond = [one["width"] for one in found if not plan.within_reach(laws, one)]
    assert len(beyond) == 2, f"widths up to {max(beyond)} measured, far beyond the valleys"
    for one in found:
        again = one["width"] not in beyond and one["loss"] < found[0]["loss"] + plan.CLOSE
        assert turns[one["width"]] == (5 if again else 2), (one["width"], turns)
    near = [turns[one["width"]] for one in found if one["width"] not in beyond]
    assert {*near} == {2, 5}, "all near sizes alike: the test shows less than it should"


def test_the_loss_that_is_timed_is_the_one_that_training_takes(monkeypatch):
    asked = []
    monkeypatch.setattr(machine_speed, "training_loss", lambda module, ids, targets: (
        asked.append(1), module(ids, targets)[1])[1])
    machine_speed.Trial(model_of(32, VOCAB, 32, ngram_rows=64), 1, "fp32").turn()
    assert asked, "the plan times the plain way: a narrow model trains 1.4 times as fast"


def test_a_busy_minute_does_not_halve_the_sweep(data, monkeypatch):
    args, work = sweep_args(data), sum(b * len(w) for b, w in sweep.GRIDS["quick"].items())
    for seconds, scale in ((1.9 * 60, 1.0), (2.1 * 60, 0.5)):
        monkeypatch.setattr(sweep, "speeds", lambda config: {"fp32": work / seconds})
        assert sweep.fit_to_time(args, VOCAB, 1)[0] == scale, f"{seconds:.0f} s of {60}"


def test_what_other_programs_take_is_not_in_the_speed(monkeypatch):
    """A clock of the wall that jumps, as on a busy machine, must not change what is measured."""
    work, late = [0.0], [0.0]
    monkeypatch.setattr(machine_speed.time, "thread_time", lambda: work[0])
    monkeypatch.setattr(machine_speed.time, "perf_counter", lambda: work[0] + late[0])
    small = model_of(32, VOCAB, 32, ngram_rows=64)
    trial = machine_speed.Trial(small, 1, "fp32")
    trial.prepare()
    trial.module = lambda x, y: (work.__setitem__(0, work[0] + 0.25),
                                 torch.zeros(1, requires_grad=True).sum())
    trial.optimizers = []
    for gone in (0.0, 9.0, 0.0, 30.0):
        late[0] += gone
        trial.turn()
    # 32 rows of 32 tokens are one part of 1,024 tokens: a quarter of a second
    assert trial.speed(32) == pytest.approx(1024 / 0.25), trial.record()
    assert trial.record()["part_ms"] == [250.0] * 4


def test_more_minutes_never_forecast_a_higher_loss(data, monkeypatch):
    monkeypatch.setattr(plan, "Trial", FakeTrial)
    laws, index = laws_of(), json.loads((data / "index.json").read_text())
    index["splits"]["train"]["tokens"] = 10 ** 9
    losses = [plan.make_plan(plan_args(minutes=m), laws, index)["forecast"]["loss"]
              for m in (0.5, 2, 8)]
    assert losses == sorted(losses, reverse=True), losses


def test_text_is_not_read_again_where_that_is_worth_nothing(data, monkeypatch):
    monkeypatch.setattr(plan, "Trial", FakeTrial)
    laws, index = laws_of(), json.loads((data / "index.json").read_text())
    unique = index["splits"]["train"]["tokens"]
    worth, worthless = (plan.make_plan(plan_args(minutes=60), laws | {"half_life": R}, index)
                        for R in (15.39, 0.01))
    assert worth["epochs"] > 3 and worthless["tokens"] < 1.03 * unique, \
        f"{worth['epochs']:.2f} epochs where they help, {worthless['epochs']:.2f} where not"
    assert worthless["model"]["width"] >= worth["model"]["width"]


def test_compiled_and_far_faster_the_time_goes_into_a_wider_model(data, monkeypatch):
    monkeypatch.setattr(plan, "Trial", FakeTrial)
    laws, index = laws_of(), json.loads((data / "index.json").read_text())
    index["splits"]["train"]["tokens"] = 400_000         # all is read: more speed buys no tokens
    laws["half_life"] = 0.01
    plain, compiled = (plan.make_plan(plan_args(minutes=2.0, compile=way), laws, index)
                       for way in ("no", "yes"))
    assert compiled["compile"] and not plain["compile"]
    assert compiled["model"]["width"] > plain["model"]["width"], \
        f"width {compiled['model']['width']} compiled, {plain['model']['width']} without"
    assert compiled["flops"] <= 4 * 2e9 * 120, "the plan takes longer than it may"


def test_laws_of_another_corpus_are_refused(data, monkeypatch, tmp_path):
    (tmp_path / "laws.json").write_text(json.dumps(laws_of("other")))
    monkeypatch.setattr("sys.argv", ["plan.py", "--laws", str(tmp_path / "laws.json"), "--data",
                                     str(data), "--out", str(tmp_path)])
    with pytest.raises(BadInput, match="another corpus.*sweep.py"):
        plan.main()


@pytest.mark.parametrize("dial, why", [(["--gpus", "10"], "--days"),
                                       (["--flops", "12"], "too small"),
                                       (["--flops", "1e23", "--demand", "-5"], "--demand"),
                                       (["--gpus", "10", "--days", "-3"], "--days")])
def test_bad_dials_on_paper(dial, why, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["plan.py", *dial, "--out", str(tmp_path)])
    with pytest.raises((BadInput, SystemExit)) as refused:
        plan.main()
    assert why in str(refused.value) + capsys.readouterr().err, "one line that names the flag"


def test_what_a_second_epoch_is_worth_comes_with_its_interval():
    loss = float(data_limited.limited_loss(LAW, 4e5, 6e5, 3e5, 0.7))
    rows = [{"family": "repeat", "params_products": "4e5", "tokens": "6e5", "unique_tokens": "3e5",
             "loss": str(loss)}, {"family": "gpt", "params_products": "4e5", "tokens": "6e5",
                                  "unique_tokens": "6e5", "loss": "9"}]
    same = np.tile(list(LAW), (200, 1))
    half_life, (low, high) = sweep.half_life_of(rows, replace(LAW, samples=same))
    assert half_life == pytest.approx(0.7, rel=0.01)
    assert low < 0.62 and high > 0.78, f"[{low:.2f}, {high:.2f}]: a run's loss scatters by 0.6 %"
    around = same * (1 + 0.01 * np.random.default_rng(1).normal(size=(200, 5)))
    _, (lower, higher) = sweep.half_life_of(rows, replace(LAW, samples=around))
    assert higher - lower > 1.5 * (high - low), "the law might be another: its resamples count"
    assert sweep.half_life_of(rows, LAW)[1] is None, "no resamples, no interval: nan is not saved"
