"""checkpoint.py: a round trip, a kill during the save, and files that must be refused."""

import os

import collections
import dataclasses
import enum
from pathlib import Path

import numpy as np
import pytest
import torch

from artifacts import BadInput
from checkpoint import (check_tokenizer, load_checkpoint, load_model, restore,
                        save_checkpoint)
from gpt import GPT, GPTConfig

torch.set_num_threads(1)
CONFIG = GPTConfig(vocab_size=50, sequence_length=16, layers=2, width=16, heads=2)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = GPT(CONFIG)
    path = save_checkpoint(tmp_path / "a.pt", model=model, tokenizer_sha256="abc", step=7,
                           extra={"note": "x"}, rng={"torch": torch.get_rng_state()})
    return model, path


def test_round_trip_is_bit_exact(saved):
    model, path = saved
    again, content = load_model(path)
    ids = torch.arange(16)[None]
    assert torch.equal(model(ids)[0], again(ids)[0]), "the loaded model computes other logits"
    assert (content["step"], content["extra"], content["stage"]) == (7, {"note": "x"}, "base")
    assert torch.equal(content["rng"]["torch"], torch.get_rng_state().new_tensor(
        content["rng"]["torch"].tolist())) and "optimizer" not in content
    assert not again.training, "a loaded model should be in eval mode"


def test_compiled_and_wrapped_names_are_cleaned(tmp_path):
    model = GPT(CONFIG)
    wrapped = torch.nn.Module()
    wrapped.module = model
    content = load_checkpoint(save_checkpoint(tmp_path / "a.pt", model=wrapped))
    assert content["model"].keys() == model.state_dict().keys(), "wrapper prefixes were saved"


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "foreign", "code"])
def test_a_damaged_file_is_refused_in_one_line(saved, damage):
    _, path = saved
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[:len(data) // 2])
    elif damage == "noise":
        path.write_bytes(b"not a checkpoint at all" * 50)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, path)
    else:
        torch.save(Harmful(), path)
    with pytest.raises(BadInput) as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value) and "a.pt" in str(error.value)


class Harmful:
    """Unpickling this would run code; weights_only must refuse it."""

    def __reduce__(self):
        return os.system, ("echo this must never run",)


def test_another_shape_is_refused_and_named(saved, tmp_path):
    _, path = saved
    content = torch.load(path, weights_only=True)
    content["config"]["width"] = 32
    torch.save(content, path)
    with pytest.raises(BadInput, match="weight is .* the model has"):
        load_model(path)
    content["config"]["colour"] = "red"
    torch.save(content, path)
    with pytest.raises(BadInput, match="colour"):
        load_model(path)


def test_another_tokenizer_is_refused(saved, tmp_path):
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text("{}", encoding="utf-8")
    with pytest.raises(BadInput, match="another tokenizer"):
        check_tokenizer(load_checkpoint(saved[1]), tokenizer, saved[1])


@pytest.mark.parametrize("error", [
    OSError(28, "No space left on device"), RuntimeError("unexpected pos 140032 vs 139920")])
def test_a_failed_save_leaves_the_old_checkpoint(saved, monkeypatch, error):
    """torch's writer tells of a full disk in two ways; both name the file, neither harms it."""
    model, path = saved
    before = path.read_bytes()

    def full_disk(content, file):
        file.write(b"half")
        raise error
    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError) as told:
        save_checkpoint(path, model=model)
    assert "a.pt" in str(told.value.filename), "the message should name the file"
    assert path.read_bytes() == before, "a failed save damaged the checkpoint that was there"
    assert [p.name for p in path.parent.iterdir()] == ["a.pt"], "a stray file stays behind"


def test_a_module_without_config_is_saved_too(tmp_path):
    """CS336's test of serialisation saves a small module of its own and its optimizer."""
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(3)).sum().backward()
    optimizer.step()
    path = save_checkpoint(tmp_path / "n.pt", model=net, optimizer=optimizer.state_dict(), step=9)
    content, other = load_checkpoint(path), torch.nn.Linear(3, 2)
    restore(other, content["model"])
    again = torch.optim.AdamW(other.parameters())
    again.load_state_dict(content["optimizer"])
    assert torch.equal(other.weight, net.weight) and content["step"] == 9
    assert torch.equal(again.state[other.weight]["exp_avg"],
                       optimizer.state[net.weight]["exp_avg"])


@dataclasses.dataclass
class Made:
    rows: int = 1


class Kind(enum.IntEnum):
    ONE = 1


def test_what_is_not_plain_comes_back_or_is_refused(tmp_path):
    """Whatever is saved must be readable: torch writes more than it reads again."""
    path, model = tmp_path / "m.pt", torch.nn.Linear(2, 2)
    extra = {"loss": np.float64(2.5), "n": np.int64(3), "yes": np.bool_(True), "path": Path("a/b"),
             "kind": Kind.ONE, "rows": (1, [np.float32(0.5)]), np.int64(4): "key",
             "counts": collections.Counter("aab"), "none": None, "array": np.arange(3),
             "tree": collections.OrderedDict(a={"b": {1, 2}}), "tensor": torch.ones(2)}
    save_checkpoint(path, model=model, extra=extra, step=np.int64(7))
    got = load_checkpoint(path)
    assert got["step"] == 7 and got["extra"]["loss"] == 2.5 and type(got["extra"]["loss"]) is float
    assert got["extra"]["path"] == str(Path("a/b")) and got["extra"][4] == "key"
    assert got["extra"]["rows"] == (1, [0.5]) and got["extra"]["counts"] == {"a": 2, "b": 1}
    assert got["extra"]["array"].tolist() == [0, 1, 2] and got["extra"]["tree"] == {"a": {"b": {1, 2}}}
    before = path.read_bytes()
    for wrong in (Made(), object(), len, np.array(["a"], dtype=object), 1j):
        with pytest.raises(TypeError, match=r"extra\['it'\]\[1\] is a"):
            save_checkpoint(path, model=model, extra={"it": [1, wrong]})
        assert path.read_bytes() == before, "the old file stays"


def test_numbers_that_torch_has_no_type_for_come_back_as_plain_ones(tmp_path):
    extra = {"long": np.longdouble(2.5), "many": np.array([1, 2], np.longdouble),
             "foreign": np.arange(3, dtype=">i4"), "turned": np.arange(3)[::-1]}
    save_checkpoint(tmp_path / "x.pt", model=torch.nn.Linear(2, 2), extra=extra)
    got = load_checkpoint(tmp_path / "x.pt")["extra"]
    assert got["long"] == 2.5 and got["many"].tolist() == [1, 2]
    assert got["foreign"].tolist() == [0, 1, 2] and got["turned"].tolist() == [2, 1, 0]
