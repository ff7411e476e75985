"""measure_filters.py and mix_domains.py: fair draws, and verdicts that follow the numbers."""

import json

import numpy as np
import pytest

import artifacts
import measure_filters
import mix_domains
from page_steps import Settings


def test_a_larger_share_holds_all_of_the_smaller_one():
    pools = [np.arange(5120), np.arange(10_000, 15_120)]
    small = mix_domains.draw_mixture(pools, np.array([0.25, 0.75]), 4096, seed=1)
    large = mix_domains.draw_mixture(pools, np.array([0.75, 0.25]), 4096, seed=1)
    assert len(small) == len(large) == 4096
    few, many = (set(x[x < 10_000].tolist()) for x in (small, large))
    assert few < many, "else luck in the draw hides what the weights do"
    again = mix_domains.draw_mixture(pools, np.array([1.0, 0.0]), 10_240, seed=1)
    assert np.unique(again, return_counts=True)[1].tolist() == [2] * 5120, \
        "twice the pool: everything comes exactly twice"


def test_held_out_documents_are_not_in_the_pool():
    documents = [np.full(100, i) for i in range(200)]
    held, rest = mix_domains.hold_out(documents, 10**6)
    assert len(held) + len(rest) == 20_000 and not set(held.tolist()) & set(rest.tolist())
    assert 0.03 < len(held) / 20_000 < 0.2, "about a tenth"


@pytest.mark.parametrize("corpus, extracted, everything, verdict", [
    ([1.9, 1.91], [2.1, 2.12], [2.0, 2.0], "holds"),
    ([1.9, 1.91], [2.1, 2.12], [1.8, 1.8], "holds in part"),
    ([2.2, 2.21], [2.1, 2.12], [2.0, 2.0], "does not hold here"),
    ([2.0, 2.4], [2.3, 2.31], [1.9, 1.9], "does not hold here"),
])
def test_the_verdict_is_computed(tmp_path, monkeypatch, corpus, extracted, everything, verdict):
    monkeypatch.setattr(artifacts, "OUT", tmp_path)
    measure_filters.claim_quality(
        {"corpus": corpus, "extracted": extracted, "all extracted": everything})
    path = tmp_path / "claims" / "quality-over-quantity.json"
    assert json.loads(path.read_text(encoding="utf-8"))["verdict"] == verdict


def test_a_page_has_a_text_for_each_stage_it_reached():
    body = b"<html><body><nav>Menu</nav><p>Short.</p></body></html>"
    page = {"url": "https://x.example", "kind": "html", "body": body, "charset": None}
    texts = measure_filters.stage_texts(page, "Short.", Settings())
    assert list(texts) == ["raw HTML", "tags stripped", "extracted"], "too short for the rules"
    assert "<p>" in texts["raw HTML"] and "<" not in texts["tags stripped"]


def test_small_pools_and_few_documents_can_be_mixed():
    ids = mix_domains.draw_mixture([np.arange(100), np.arange(1000)], [0.5, 0.5], 1024, 0)
    assert (ids >= 0).all() and 900 <= len(ids) <= 1100, "a pool below a piece is one piece"
    assert len(mix_domains.draw_mixture([np.arange(0), np.arange(1000)], [0, 1], 1024, 0)) == 1024
    with pytest.raises(artifacts.BadInput, match="no tokens"):
        mix_domains.draw_mixture([np.arange(0), np.arange(1000)], [0.5, 0.5], 1024, 0)
    held, rest = mix_domains.hold_out([np.arange(300)], 100)
    assert len(held) == 30 and len(rest) == 270, "one document: its first tenth is held out"


@pytest.mark.parametrize("dtype, cut", [("uint16", 2), ("uint16", 1), ("uint16", 200), ("int16", 0),
                                        ("float32", 0), (None, 0)])
def test_a_shard_that_is_not_what_its_index_says(tmp_path, dtype, cut):
    np.arange(100, dtype="<u2").tofile(tmp_path / "train.bin")
    data = (tmp_path / "train.bin").read_bytes()
    (tmp_path / "train.bin").write_bytes(data[:len(data) - cut])
    rows = {"start": [0], "length": [100], "domain": [0]}
    index = {"dtype": dtype, "domains": ["x"], "splits": {"train": {"tokens": 100, "documents": rows}}}
    with pytest.raises(artifacts.BadInput, match="train.bin"):
        mix_domains.load_domains(tmp_path, index)
