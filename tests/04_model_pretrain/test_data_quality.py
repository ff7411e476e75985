"""data_quality.py: the verdict and the exchange rate follow the numbers; a tiny run end to end."""

import json

import numpy as np
import pytest

import artifacts
import data_quality as dq

RAW, TWICE = dq.MORE


def results(raw, extracted, corpus, raw_more, twice):
    return {"raw HTML": [raw, raw + 0.01], "extracted": [extracted, extracted + 0.01],
            "corpus": [corpus, corpus + 0.01], RAW: [raw_more] * 2, TWICE: [twice] * 2}


@pytest.mark.parametrize("numbers, verdict", [
    ((4.0, 3.2, 3.0, 3.9, 3.1), "holds"),
    ((4.0, 3.2, 3.0, 3.9, 2.9), "holds in part"),       # twice the extracted text catches up
    ((4.0, 3.0, 3.2, 3.9, 2.9), "holds in part"),       # only HTML is beaten
    ((3.0, 3.0, 3.2, 2.9, 2.9), "does not hold here"),
])
def test_the_verdict_is_computed(numbers, verdict):
    assert dq.verdict_of(results(*numbers))[0] == verdict


def test_what_a_clean_token_is_worth():
    # twice the tokens save 0.2 bits, the corpus 0.1: as much as sqrt(2) times the tokens
    assert dq.worth_of(results(4, 3.2, 3.1, 3.9, 3.005)) == pytest.approx(2 ** 0.5, rel=1e-6)
    assert dq.worth_of(results(4, 3.2, 3.1, 3.9, 3.3)) is None, "more tokens did not help"


def test_a_tiny_run_trains_on_each_set(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    for name in dq.STAGES:
        folder = tmp_path / "steps" / name.replace(" ", "_")
        folder.mkdir(parents=True)
        rows = {"start": [0, 300], "length": [300, 300], "bytes": [900, 900], "domain": [0, 0]}
        for split in ("train", "val"):
            rng.integers(0, 50, 600).astype("<u2").tofile(folder / f"{split}.bin")
        (folder / "index.json").write_text(json.dumps({
            "dtype": "uint16", "eot": 0, "vocab_size": 50, "tokenizer_sha256": "", "mixture": {},
            "corpus_sha256": "", "domains": [name],
            "splits": {s: {"tokens": 600, "documents": rows} for s in ("train", "val")}}))
    monkeypatch.setattr(artifacts, "OUT", tmp_path)
    monkeypatch.setattr("sys.argv", ["data_quality", "--steps", str(tmp_path / "steps"), "--out",
                                     str(tmp_path / "q.json"), "--tokens", "2048", "--seeds", "1",
                                     "--workers", "1"])
    dq.main()
    made = json.loads((tmp_path / "q.json").read_text())
    assert set(made["bits_per_byte"]) == {*dq.STAGES, *dq.MORE}
    assert all(0 < v[0] < 10 for v in made["bits_per_byte"].values())
    assert (tmp_path / "q.png").stat().st_size > 5000
    claim = json.loads((tmp_path / "claims" / "quality-over-quantity.json").read_text())
    assert claim["verdict"] in artifacts.VERDICTS
    dq.main()
    assert "up to date" in capsys.readouterr().out


def test_the_recorded_run_gives_way_to_one_made_here(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(artifacts, "OUT", tmp_path)
    monkeypatch.setattr("sys.argv", ["data_quality", "--recorded", "--out",
                                     str(tmp_path / "q.json")])
    artifacts.record_claim(dq.CLAIM, measured="", value={"corpus": 2.1}, expected="",
                           verdict="holds", command="python 02_data/measure_filters.py")
    for _ in range(2):          # again: chapter 2's answer is not lost the second time
        dq.main()
        claim = json.loads((tmp_path / "claims" / f"{dq.CLAIM}.json").read_text())
        assert claim["command"].endswith("--recorded") and claim["verdict"] == "holds in part"
        assert claim["details"]["counting model"] == {"corpus": 2.1}
    artifacts.record_claim(dq.CLAIM, measured="", value=0, expected="", verdict="holds",
                           command=dq.COMMAND)
    capsys.readouterr()
    dq.main()
    assert "not needed" in capsys.readouterr().out
    claim = json.loads((tmp_path / "claims" / f"{dq.CLAIM}.json").read_text())
    assert claim["value"] == 0, "a run made here was overwritten by the recorded one"
