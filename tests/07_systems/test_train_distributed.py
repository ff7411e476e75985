"""The command for many processes: eight methods, other world sizes, kills, signals, dead ranks."""

import argparse
import functools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch._dynamo        # torch's DDP asks for it: once here, not in every forked rank
import torch.distributed as dist

import train_distributed
from artifacts import BadInput
from batches import Shard
from gloo_ranks import RankFailed, run_ranks
from gpt import GPTConfig
from parallelise import METHODS
from plan_file import Plan
from ranks import Ranks
from sharded_checkpoint import newest, save
from training_loop import Recipe

torch.set_num_threads(1)
MODEL = GPTConfig(vocab_size=64, layers=2, width=16, heads=2, sequence_length=16)


def make_shard(folder: Path) -> Path:
    """Token shards of 60 small documents, ragged, in chapter 2's format."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 60, size=60)
    tokens = np.concatenate([np.append(rng.integers(1, 64, n - 1), 0) for n in lengths])
    tokens.astype("<u2").tofile(folder / "train.bin")
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    documents = {"start": starts.tolist(), "length": lengths.tolist(), "domain": [0] * 60,
                 "bytes": (3 * lengths).tolist(), "id": list(range(60))}
    index = {"format": 1, "tokenizer_sha256": "", "corpus_sha256": "", "vocab_size": 64,
             "dtype": "uint16", "eot": 0, "domains": ["all"], "mixture": {"all": 1.0},
             "splits": {"train": {"tokens": len(tokens), "bytes": 0, "documents": documents}}}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_shard(tmp_path_factory.mktemp("shards"))


def settings(out: Path, method: str, every: int = 5) -> argparse.Namespace:
    return argparse.Namespace(parallel=method, out=Path(out), attention="torch", micros=2,
                              learning_rate_adamw=1e-2, checkpoint_every=every, fresh=False)


def one_rank(rank, data, out, method, steps, every=5, before=None):
    """What the command does after torchrun has started it."""
    plan = Plan(MODEL, Recipe(warmup=0.1), steps=steps, rows=8)
    if before:
        before(rank)
    ranks = Ranks(rank, dist.get_world_size(), torch.device("cpu"))
    sys.stderr = open(os.devnull, "w", encoding="utf-8")        # the progress bar
    done = train_distributed.run(settings(out, method, every), plan, ranks, Shard(data, "train"))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return done


def log_of(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    assert run_ranks(one_rank, 1, data, out, "ddp", 10) == [True]
    return log_of(out), torch.load(out / "base.pt", weights_only=True)["model"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_the_plan_as_one_process(data, tmp_path, alone, method):
    run_ranks(one_rank, 2, data, tmp_path, method, 10)
    losses, weights = alone
    for ours, one in zip(log_of(tmp_path), losses, strict=True):
        assert abs(ours["loss"] - one["loss"]) < 2e-6, f"{method}: {ours}, one process {one}"
        assert abs(ours["grad_norm"] - one["grad_norm"]) < 1e-4 * one["grad_norm"], method
    saved = torch.load(tmp_path / "base.pt", weights_only=True)
    for name, p in weights.items():
        gap = (saved["model"][name] - p).abs().max().item()
        assert gap < 1e-4, f"{method}: {name} is off by {gap:.1e} in base.pt"


@pytest.mark.parametrize("first, second", [
    (("fsdp2", 2), ("zero1", 4)), (("pipeline", 2), ("zero3", 1))])
def test_a_checkpoint_loads_at_any_other_world_size_and_method(data, tmp_path, alone, first,
                                                               second):
    def interrupt(rank):
        train_distributed.rate_at = lambda step, steps, recipe: original(step, 10, recipe)
    original = train_distributed.rate_at
    run_ranks(one_rank, first[1], data, tmp_path, first[0], 5, 5, interrupt)
    run_ranks(one_rank, second[1], data, tmp_path, second[0], 10)
    got = log_of(tmp_path)
    assert [r["step"] for r in got] == list(range(1, 11))
    for ours, one in zip(got, alone[0]):
        assert abs(ours["loss"] - one["loss"]) < 2e-6, f"{first} then {second}: {ours}, {one}"


def bomb(step_wanted, delay, at_rank):
    """Something to run before training: `delay` seconds after it has begun this step, `at_rank`
    is killed by SIGKILL from outside, in whatever line of Python or of C it is then."""
    original = train_distributed.rate_at

    def before(rank):
        def rate_at(step, steps, recipe):
            victim = os.getpid()
            if step == step_wanted and rank == at_rank and os.fork() == 0:
                time.sleep(delay)
                os.kill(victim, signal.SIGKILL)
                os._exit(0)
            return original(step, steps, recipe)
        train_distributed.rate_at = rate_at
    return before


@pytest.mark.parametrize("method, ranks", [("ddp", 1), ("zero1", 2)])
def test_ten_kills_leave_a_log_that_is_byte_identical(data, tmp_path, method, ranks):
    steps, every = 200, 20
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    run_ranks(one_rank, ranks, data, calm, method, steps, every, timeout=240)
    moments = random.Random(1)
    for kill in range(10):      # one in each tenth of the run, so that every one of them happens
        before = bomb(20 * kill + moments.randrange(20), moments.uniform(0, 0.02),
                      moments.randrange(ranks))
        with pytest.raises(RankFailed):
            run_ranks(one_rank, ranks, data, wild, method, steps, every, before, timeout=240)
    assert run_ranks(one_rank, ranks, data, wild, method, steps, every, timeout=240) == [
        True] * ranks
    assert (wild / "log.jsonl").read_bytes() == (calm / "log.jsonl").read_bytes(), (
        "after ten kills the log differs from the undisturbed one")
    assert not list(wild.glob("*.partial"))


def signal_at(step_wanted, number, at_rank):
    """Something to run before training: `at_rank` sends itself this signal in that step."""
    original = train_distributed.rate_at

    def before(rank):
        def rate_at(step, steps, recipe):
            if step == step_wanted and rank == at_rank:
                os.kill(os.getpid(), number)
            return original(step, steps, recipe)
        train_distributed.rate_at = rate_at
    return before


def test_sigterm_saves_and_ends_well(data, tmp_path):
    before = signal_at(7, signal.SIGTERM, at_rank=1)
    done = run_ranks(one_rank, 2, data, tmp_path, "zero1", 100_000, 100_000, before)
    assert done == [False, False], "a signal to one rank must stop all, without an error"
    assert len(log_of(tmp_path)) == 8, "all stop after the step in which the signal came"
    assert (tmp_path / "step-000008" / "notes.json").exists(), "saved at its last step"


def test_a_dead_rank_fails_the_others_within_seconds(data, tmp_path):
    before, started = signal_at(7, signal.SIGKILL, at_rank=0), time.monotonic()
    with pytest.raises(RankFailed, match="died|another rank has failed"):
        run_ranks(one_rank, 2, data, tmp_path, "ddp", 100_000, 100_000, before)
    assert time.monotonic() - started < 30


def damaged(rank, data, out):
    with pytest.raises(BadInput, match="cannot be loaded.*--fresh"):
        one_rank(rank, data, out, "ddp", 10)


def test_a_damaged_checkpoint_is_one_clear_line(data, tmp_path):
    run_ranks(one_rank, 1, data, tmp_path, "ddp", 5)
    (tmp_path / "step-000005" / ".metadata").write_bytes(b"rubbish")
    run_ranks(damaged, 1, data, tmp_path)


@pytest.mark.slow
def test_torchrun_runs_the_command(data, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
               str(Path(train_distributed.__file__)), "--parallel", "fsdp2", "--data", str(data),
               "--plan", str(tmp_path / "none.json"), "--out", str(tmp_path / "run"), "--tokens",
               "1024", "--layers", "1", "--width", "16", "--heads", "2", "--rows", "4",
               "--sequence-length", "16"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "16 steps by fsdp2 on 2 ranks" in done.stdout


def test_the_newest_checkpoint_is_the_one_with_the_most_steps(tmp_path):
    for name in ("step-999999", "step-1000000", "step-2000000.partial", "step-by-step"):
        (tmp_path / name).mkdir()
    assert newest(tmp_path).name == "step-1000000", "compared as numbers, not as text"
    assert newest(tmp_path / "nothing") is None


def fill_the_disk(rank, folder):
    """A first checkpoint, then one for which no file may grow beyond a kilobyte any more."""
    state = {"model": {"w": torch.arange(4096.0)}}
    save(folder, 1, state, {})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    try:
        save(folder, 2, state, {})
    except BadInput as why:
        return str(why)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


def test_a_full_disk_is_one_line_and_the_old_checkpoint_stays(tmp_path, capfd):
    for answer in run_ranks(fill_the_disk, 2, tmp_path):
        assert answer and "\n" not in answer and "cannot be written" in answer, answer
    assert newest(tmp_path).name == "step-000001" and not list(tmp_path.glob("*.partial"))
    assert "Traceback" not in capfd.readouterr().err


def another_run(rank, data, out, **changes):
    plan = replace(Plan(MODEL, Recipe(warmup=0.1), steps=4, rows=8), **changes)
    ranks = Ranks(rank, dist.get_world_size(), torch.device("cpu"))
    done = train_distributed.run(settings(out, "ddp"), plan, ranks, Shard(data, "train"))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return done


def test_a_run_of_other_settings_is_not_taken_for_this_one(data, tmp_path):
    run_ranks(one_rank, 1, data, tmp_path, "ddp", 4, 2)
    kept = (tmp_path / "log.jsonl").read_bytes()
    for changes, told in (({"seed": 7}, "seed 0, now 7"), ({"steps": 3}, "now 3"),
                          ({"recipe": Recipe(warmup=0.2)}, "recipe.warmup 0.1, now 0.2")):
        with pytest.raises(RankFailed, match=f"other settings.*{told}"):
            run_ranks(functools.partial(another_run, **changes), 1, data, tmp_path)
        assert (tmp_path / "log.jsonl").read_bytes() == kept, "nothing is touched"
    run_ranks(functools.partial(another_run, steps=6), 1, data, tmp_path)
    assert len(log_of(tmp_path)) == 6, "a longer run goes on"
