"""architectures.py: treatments are what they are called, and the verdict follows the spreads."""

import json

import numpy as np
import pytest
import torch

import architectures
import artifacts
from architectures import Bench, data_treatments, verdict_of
from batches import Shard
from gpt import GPT
from training_loop import Recipe

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Thirty documents in two domains; domain 0 is the larger one."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    lengths = [40] * 20 + [25] * 10
    stream = np.concatenate([np.append(rng.integers(0, 20, n - 1), 30) for n in lengths])
    start = np.cumsum([0] + lengths)[:-1].tolist()
    documents = {"start": start, "length": lengths, "bytes": [3 * n for n in lengths],
                 "domain": [0] * 20 + [1] * 10, "id": [*range(30)]}
    part = {"tokens": len(stream), "bytes": 3 * len(stream), "documents": documents}
    for split in ("train", "val"):
        stream.astype("<u2").tofile(folder / f"{split}.bin")
    (folder / "index.json").write_text(json.dumps({
        "dtype": "uint16", "eot": 30, "vocab_size": 31, "tokenizer_sha256": "t",
        "corpus_sha256": "c", "domains": ["a", "b"], "mixture": {},
        "splits": {"train": part, "val": part}}), encoding="utf-8")
    return folder


def test_treatments_are_what_they_are_called(data):
    treatments = data_treatments(Shard(data, "train"), tokens=800)
    sizes = {name: int(shard.length.sum()) for name, shard in treatments.items()}
    assert sizes == {"as chapter 2 left it": 1050, "each document 4 times": 200,
                     "each document 16 times": 40, "only the largest domain": 800,
                     "without the largest domain": 250}, sizes


def test_verdict_follows_the_spreads():
    narrow, wide = {"a": 2.0, "b": 2.02}, {"a": 2.0, "b": 2.4}
    assert verdict_of(narrow, wide)[0] == "holds"
    assert verdict_of(narrow, {"a": 2.0, "b": 2.025})[0] == "does not hold here"
    assert verdict_of(narrow, {"a": 2.0, "b": 2.01, "each 4 times": 3.0})[0] == "holds in part", \
        "only repeating documents did harm"
    seeds = {name: [bits - 0.1, bits + 0.1] for name, bits in wide.items()}
    verdict, spread = verdict_of(seeds, narrow)
    assert verdict == "does not hold here"
    assert [spread[k] for k in ("architecture", "data")] == pytest.approx([0.2, 0.01]), \
        "the mean over seeds counts"


def test_every_architecture_trains(data):
    bench = Bench(data, tokens=2048, seed=0)
    for name, change in architectures.ARCHITECTURES.items():
        bits = bench.run(architectures.replace(bench.base, **change), Recipe())
        assert 0 < bits < 3, f"{name}: {bits} bits per byte"
    torch.manual_seed(0)
    know_nothing = bench.score(GPT(bench.base))
    assert know_nothing == pytest.approx(np.log2(31) / 3, abs=0.05), \
        "an untrained model of 31 tokens at 3 bytes each: log2(31) / 3 bits per byte"


def test_a_run_of_two_seeds_and_the_recorded_one(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(artifacts, "OUT", tmp_path)
    monkeypatch.setattr(architectures, "ARCHITECTURES", {"ours": {}, "GELU": dict(mlp="gelu")})
    claim = tmp_path / "claims" / "architecture-least.json"
    monkeypatch.setattr("sys.argv", ["architectures", "--recorded", "--out",
                                     str(tmp_path / "a.json")])
    architectures.main()
    said = json.loads(claim.read_text())
    assert said["command"].endswith("--recorded") and said["verdict"] in artifacts.VERDICTS
    monkeypatch.setattr("sys.argv", ["architectures", "--data", str(data), "--tokens", "2048",
                                     "--seconds", "0.2", "--seeds", "2", "--out",
                                     str(tmp_path / "b.json")])
    architectures.main()
    made = json.loads((tmp_path / "b.json").read_text())
    assert [len(bits) for bits in made["architectures"].values()] == [2, 2]
    assert len({*made["architectures"]["ours"]}) == 2, "both seeds gave the same bits"
    monkeypatch.setattr("sys.argv", ["architectures", "--recorded", "--out",
                                     str(tmp_path / "a.json")])
    capsys.readouterr()
    architectures.main()
    assert "not needed" in capsys.readouterr().out
    assert not json.loads(claim.read_text())["command"].endswith("--recorded"), \
        "a run made here was overwritten by the recorded one"
