"""pretrain.py: killed at any instant and run again, the log is the same byte for byte."""

import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from bpe import Tokenizer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its runs by fork")
STEPS = 40


def make_inputs(folder: Path) -> None:
    """A byte tokenizer and shards of repetitive text, as chapters 1 and 2 would leave them."""
    import hashlib
    specials = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"]
    Tokenizer({i: bytes([i]) for i in range(256)}, [], specials).save(folder / "tokenizer.json")
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    eot = tokenizer.special_tokens["<|endoftext|>"]
    rng = np.random.default_rng(0)
    index = {"format": 1, "dtype": "uint16", "eot": eot, "vocab_size": tokenizer.vocab_size,
             "tokenizer_sha256": hashlib.sha256((folder / "tokenizer.json").read_bytes()
                                                ).hexdigest(),
             "corpus_sha256": "c", "domains": ["a"], "mixture": {"a": 1.0}, "splits": {}}
    for split, count in (("train", 60), ("val", 6)):
        texts = ["Return the " + " ".join(rng.choice(["sum", "mean", "axis", "of"], 30))
                 for _ in range(count)]
        ids = [[*tokenizer.encode(t), eot] for t in texts]
        np.concatenate(ids).astype("<u2").tofile(folder / f"{split}.bin")
        lengths = [*map(len, ids)]
        index["splits"][split] = {"tokens": sum(lengths), "bytes": sum(map(len, texts)),
                                  "documents": {"start": [sum(lengths[:i]) for i in range(count)],
                                                "length": lengths, "bytes": [*map(len, texts)],
                                                "domain": [0] * count, "id": [*range(count)]}}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def run(inputs: Path, out: Path, *flags: str) -> None:
    """What a shell would do, in a forked child: the command, its output silenced."""
    torch.set_num_threads(1)
    import pretrain
    from artifacts import command
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    sys.argv = ["pretrain.py", "--plan", str(inputs / "no plan"), "--data", str(inputs), "--out",
                str(out), "--tokenizer", str(inputs / "tokenizer.json"), "--tokens",
                str(STEPS * 256), "--rows", "8", "--sequence-length", "32", "--layers", "1",
                "--width", "32", "--heads", "2", "--threads", "1", "--device", "cpu", "--quick",
                *flags]
    command(pretrain.main)


def start(*args) -> multiprocessing.Process:
    child = multiprocessing.get_context("fork").Process(target=run, args=args)
    child.start()
    return child


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def interrupt(child, out: Path, after: int, number: int) -> None:
    """Send the signal once the log has `after` lines."""
    deadline = time.monotonic() + 60
    while lines_of(out / "log.jsonl") < after and child.is_alive():
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.002)
    os.kill(child.pid, number)
    child.join(60)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    os.environ["BUILD_LLM_OUT"] = str(tmp_path_factory.mktemp("claims"))
    inputs = tmp_path_factory.mktemp("inputs")
    make_inputs(inputs)
    out = inputs / "undisturbed"
    child = start(inputs, out)
    child.join(120)
    assert child.exitcode == 0, "the undisturbed run failed"
    return inputs, out


def test_a_finished_run_leaves_all_its_files(undisturbed):
    _, out = undisturbed
    names = {p.name for p in out.iterdir()}
    assert {"base.pt", "log.jsonl", "samples.jsonl", "timing.json", "result.json",
            "loss.png"} <= names and "run.pt" not in names
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert result["steps"] == STEPS and 0 < result["val_bits_per_byte"] < 8
    assert result["ngram"]["bits_per_byte"] > 0
    updates = [json.loads(line) for line in open(out / "log.jsonl", encoding="utf-8")]
    updates = [u for u in updates if "loss" in u]
    assert [u["step"] for u in updates] == [*range(1, STEPS + 1)]
    assert updates[STEPS // 2]["loss"] < updates[0]["loss"]


def test_killed_at_three_instants_the_log_is_identical(undisturbed, tmp_path):
    inputs, expected = undisturbed
    for after in (4, 15, 33):
        interrupt(start(inputs, tmp_path, "--checkpoint-seconds", "0.05"), tmp_path, after,
                  signal.SIGKILL)
        assert not (tmp_path / "base.pt").exists(), "killed, not finished"
    child = start(inputs, tmp_path, "--checkpoint-seconds", "0.05")
    child.join(120)
    assert child.exitcode == 0
    for name in ("log.jsonl", "samples.jsonl"):
        assert (tmp_path / name).read_bytes() == (expected / name).read_bytes(), \
            f"{name} of the killed and resumed run differs from the undisturbed one"


def test_sigterm_saves_and_exits_zero(undisturbed, tmp_path):
    inputs, expected = undisturbed
    child = start(inputs, tmp_path)
    interrupt(child, tmp_path, 10, signal.SIGTERM)
    assert child.exitcode == 0, f"a scheduler's SIGTERM should end in exit 0, not {child.exitcode}"
    content = torch.load(tmp_path / "run.pt", weights_only=True)
    assert content["step"] == lines_of(tmp_path / "log.jsonl") - (
        tmp_path / "log.jsonl").read_bytes().count(b"val_loss"), "saved at the last logged step"
    again = start(inputs, tmp_path)
    again.join(120)
    assert (tmp_path / "log.jsonl").read_bytes() == (expected / "log.jsonl").read_bytes()


def test_a_run_of_other_settings_is_named_and_kept(undisturbed, tmp_path, capfd):
    inputs, _ = undisturbed
    child = start(inputs, tmp_path)
    interrupt(child, tmp_path, 10, signal.SIGTERM)
    step = torch.load(tmp_path / "run.pt", weights_only=True)["step"]
    again = start(inputs, tmp_path, "--seed", "5")
    again.join(120)
    said = capfd.readouterr().out
    assert f"stopped at step {step} of a run with other settings (seed 0, now 5)" in said, said
    kept = torch.load(tmp_path / "run.other.pt", weights_only=True)
    assert kept["step"] == step, "hours of another run are not overwritten"


def test_a_plan_for_another_corpus_is_refused(undisturbed, tmp_path):
    import argparse
    from artifacts import BadInput
    from plan_file import make_plan
    plan = {"model": {"vocab_size": 261}, "tokenizer_sha256": "other"}
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    args = argparse.Namespace(plan=tmp_path / "plan.json", tokens=None)
    with pytest.raises(BadInput, match="another tokenizer.*03_scaling/plan.py"):
        make_plan(args, 261, {"tokenizer_sha256": "mine", "corpus_sha256": "c"})
    with pytest.raises(BadInput, match="not a plan for this code"):
        make_plan(args, 261, {"corpus_sha256": "c"})


@pytest.mark.parametrize("flags, message", [
    (("--rows", "0"), "--rows: 0 must be at least 1"), (("--layers", "0"), "--layers 0"),
    (("--device", "abacus"), "--device abacus is not known"), (("--width", "33"), "no model")])
def test_flags_that_make_no_run_are_refused_in_one_line(flags, message, undisturbed, tmp_path,
                                                        monkeypatch, capsys):
    from artifacts import BadInput
    import pretrain
    inputs, _ = undisturbed
    monkeypatch.setattr(sys, "argv", [
        "pretrain.py", "--plan", str(inputs / "no plan"), "--data", str(inputs), "--out",
        str(tmp_path), "--tokenizer", str(inputs / "tokenizer.json"), "--tokens", "4096", *flags])
    with pytest.raises((BadInput, SystemExit)) as refused:
        pretrain.main()
    assert message in str(refused.value) + capsys.readouterr().err


def test_shards_of_another_tokenizer_are_refused(undisturbed, tmp_path, monkeypatch):
    from artifacts import BadInput
    import pretrain
    inputs, _ = undisturbed
    other = tmp_path / "tokenizer.json"
    Tokenizer({i: bytes([i]) for i in range(256)}, [], ["<|endoftext|>"]).save(other)
    monkeypatch.setattr(sys, "argv", ["pretrain.py", "--data", str(inputs), "--out",
                                      str(tmp_path), "--tokenizer", str(other), "--tokens", "4096"])
    with pytest.raises(BadInput, match="another tokenizer.*02_data/build_corpus.py"):
        pretrain.main()
