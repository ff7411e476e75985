"""The commands of chapter 5, one after the other, on a tiny corpus and a tiny base model."""

import gzip
import hashlib
import importlib
import json
import sys

import numpy as np
import pytest

import artifacts

VERBS = ["Return", "Compute", "Split", "Merge", "Sort", "Copy"]
THINGS = ["array", "graph", "matrix", "value", "list", "table", "file", "name", "point", "edge"]


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder `out` with a tokenizer, a corpus, shards and an untrained base model."""
    import torch
    from bpe import Tokenizer, train_bpe
    from checkpoint import save_checkpoint
    from gpt import GPT, GPTConfig
    from pretokenize import count_pretokens
    monkeypatch.setattr(artifacts, "OUT", tmp_path)
    documents = []
    for k in range(12):
        lines = []
        for i in range(30):
            verb, thing = VERBS[(i + k) % 6], THINGS[(i * 7 + k) % 10]
            other = THINGS[(i * 3 + 2 * k) % 10]
            lines.append(f"{verb.lower()}_{thing}{i}(a, b)\n    {verb} the {thing} of an {other} "
                         f"with {THINGS[(i + 5) % 10]} {k} {i}.\n")
        documents.append({"url": f"https://p{k}.pydoc.example/p{k}.html", "text": "\n".join(lines),
                          "package": f"p{k}", "split": "val" if k == 0 else "train"})
    (tmp_path / "02_data").mkdir()
    with gzip.open(tmp_path / "02_data" / "corpus.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(d) + "\n" for d in documents)
    texts = [d["text"] for d in documents]
    specials = ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"]
    tokenizer = Tokenizer(*train_bpe(count_pretokens(texts), 420, specials), specials)
    (tmp_path / "01_tokenizer").mkdir()
    path = tmp_path / "01_tokenizer" / "tokenizer.json"
    tokenizer.save(path)
    np.array(tokenizer.encode(texts[0]), dtype="<u2").tofile(tmp_path / "02_data" / "val.bin")
    artifacts.write_json(tmp_path / "02_data" / "index.json", {"dtype": "uint16"})
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, sequence_length=96, layers=2, width=32,
                          heads=2))
    save_checkpoint(tmp_path / "04_model_pretrain" / "base.pt", model=model,
                    tokenizer_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    return tmp_path


def call(monkeypatch, capsys, module: str, *options: str) -> str:
    """Run a command's main in this process; returns what it printed."""
    monkeypatch.setattr(sys, "argv", [module, *options])
    importlib.import_module(module).main()
    return capsys.readouterr().out


def test_the_walk(world, monkeypatch, capsys):
    run = lambda *a: call(monkeypatch, capsys, *a)  # noqa: E731
    assert "held out" in run("instructions")
    assert "end_rate" in run("sft", "--quick", "--steps", "60", "--learning-rate", "1e-2")
    assert "ceiling" in run("preferences", "--quick")
    assert "accuracy on" in run("reward_model", "--quick")
    assert "0.6931" in run("dpo"), "DPO starts at ln 2"
    told = (world / "05_posttrain" / "dpo_result.json").read_bytes()
    run("dpo", "--out", str(world / "05_posttrain" / "ipo.pt"), "--kind", "ipo", "--epochs", "0.1")
    assert (world / "05_posttrain" / "dpo_result.json").read_bytes() == told, "another --out's"
    assert b"ipo" in (world / "05_posttrain" / "ipo_result.json").read_bytes()
    assert "explained_variance" in run("ppo_loop", "--quick")
    kept = run("rejection_sampling", "--quick", "--answers", "2", "--questions", "12")
    assert "the best of 2" in kept, "--quick makes less, it does not ask for more"
    assert "end_rate" in run("reinforce", "--quick", "--iterations", "1")
    table = run("compare", "--quick")
    assert all(name in table for name in ("base", "sft", "best of 4", "dpo", "ppo", "reinforce",
                                          "rft_random"))
    table = run("right_answers", "--quick")
    assert "open book" in table and "closed book" in table and "List the arguments" in table
    folder = world / "05_posttrain"
    result = json.loads((folder / "sft_result.json").read_text(encoding="utf-8"))
    assert result["base"]["end_rate"] < 0.5 < result["sft"]["end_rate"], "SFT teaches to stop"
    for name in ("sft.pt", "reward.pt", "dpo.pt", "ppo.pt", "ppo.png", "frontier.png",
                 "ppo_samples.jsonl", "compare.json", "answers.json", "rft_random.pt"):
        assert (folder / name).stat().st_size > 0, name
    assert not list(folder.glob("*.progress")), "a finished stage leaves no progress file"
    claim = json.loads((world / "claims" / "rlhf-prefers.json").read_text(encoding="utf-8"))
    assert claim["verdict"] in artifacts.VERDICTS and claim["command"].endswith("compare.py")
    assert "up to date" in run("compare", "--quick"), "the same command again has nothing to do"
    run("grpo", "--quick")
    assert (folder / "grpo.pt").exists()


def test_an_experiment_goes_on_from_its_finished_pieces(world, monkeypatch, capsys):
    run = lambda *a: call(monkeypatch, capsys, *a)  # noqa: E731
    run("instructions")
    run("sft", "--quick", "--steps", "40", "--learning-rate", "1e-2")
    out = run("experiment", "rlhf-prefers", "--quick", "--seeds", "1")
    assert "dpo 0.05" in out and "grpo" in out and "proxy_rise" in out
    claim = json.loads((world / "claims" / "rlhf-prefers.json").read_text(encoding="utf-8"))
    assert claim["interval"] is None, f"one seed has no interval over seeds: {claim['interval']}"
    seed = next((world / "05_posttrain" / "experiments").glob("*/seed0"))
    first = json.loads((seed / "rlhf.json").read_text(encoding="utf-8"))
    for lost in ("rlhf.json", "ppo_0.1.json"):
        (seed / lost).unlink()
    kept = {p: p.stat().st_mtime_ns for p in seed.iterdir()}
    run("experiment", "rlhf-prefers", "--quick", "--seeds", "1")
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items()), "what is made stays"
    again = json.loads((seed / "rlhf.json").read_text(encoding="utf-8"))
    assert again == first, "the lost piece comes back the same"
    assert (world / "05_posttrain" / "experiments" / "frontier.png").stat().st_size > 0


def test_missing_inputs_name_their_command(world, monkeypatch, capsys):
    for module, command in (("sft", "05_posttrain/instructions.py"),
                            ("preferences", "05_posttrain/sft.py"),
                            ("dpo", "05_posttrain/sft.py"), ("ppo_loop", "05_posttrain/sft.py")):
        with pytest.raises(artifacts.BadInput, match=command):
            call(monkeypatch, capsys, module)
