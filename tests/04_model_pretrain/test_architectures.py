"""architectures.py: treatments are what they are called, and the verdict follows the spreads."""

import json

import numpy as np
import pytest
import torch

import architectures
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
    assert verdict_of(narrow, {"a": 2.0, "b": 2.025})[0] == "holds in part"
    verdict, of_architecture, of_data = verdict_of(wide, narrow)
    assert verdict == "does not hold here"
    assert (of_architecture, of_data) == pytest.approx((0.2, 0.01))


def test_every_architecture_trains(data):
    bench = Bench(data, tokens=2048, seed=0)
    for name, change in architectures.ARCHITECTURES.items():
        bits = bench.run(architectures.replace(bench.base, **change), Recipe())
        assert 0 < bits < 3, f"{name}: {bits} bits per byte"
    torch.manual_seed(0)
    know_nothing = bench.score(GPT(bench.base))
    assert know_nothing == pytest.approx(np.log2(31) / 3, abs=0.05), \
        "an untrained model of 31 tokens at 3 bytes each: log2(31) / 3 bits per byte"
