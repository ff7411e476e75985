"""The whole evaluation on three tiny models, as a reader runs it; and what it says on bad input."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from bpe import Tokenizer, train_bpe
from checkpoint import save_checkpoint
from contestants import answer_all, named_paths, open_contestants, prompt_for
from artifacts import BadInput
from gpt import GPT, GPTConfig
from measurements import held_out_documents, hold_arena
from report import build_report

ROOT = Path(__file__).resolve().parents[2]
SPECIAL = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>")
torch.set_num_threads(1)


def document(package, split, start):
    """One page of documentation: 16 functions of one package."""
    verbs, nouns = ("Return", "Compute", "Remove", "Compare"), ("arrays", "files", "dates", "trees")
    text = "\n".join(f"do_{package}_{i}(first_{i}, second_{i}=None)\n    {verbs[i % 4]} the "
                     f"{nouns[i // 4 % 4]} of {package} number {i} in one step.\n"
                     for i in range(start, start + 16))
    return {"url": f"https://{package}.pydoc.example/{package}.one.html", "text": text,
            "package": package, "split": split}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Everything that earlier chapters leave, tiny: tokenizer, shards, corpus, three checkpoints."""
    out = tmp_path_factory.mktemp("out")
    for name in ("01_tokenizer", "02_data", "04_model_pretrain", "05_posttrain"):
        (out / name).mkdir()
    words = Counter({" return": 9, " the": 30, " of": 20, " number": 12, " arrays": 8, "def": 3})
    vocab, merges = train_bpe(words, 300, SPECIAL)
    tokenizer = Tokenizer(vocab, merges, SPECIAL)
    tokenizer.save(out / "01_tokenizer" / "tokenizer.json")
    digest = hashlib.sha256((out / "01_tokenizer" / "tokenizer.json").read_bytes()).hexdigest()
    documents = [document("beta", "val", 0), document("gamma", "val", 40),
                 document("alpha", "train", 90)]
    with gzip.open(out / "02_data" / "corpus.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(d) + "\n" for d in documents)
    eot, ids = tokenizer.special_tokens["<|endoftext|>"], []
    table = {key: [] for key in ("start", "length", "bytes", "domain", "id")}
    for i, d in enumerate(documents[:2]):
        text = list(tokenizer.encode(d["text"]))[:150] + [eot]
        for key, value in zip(table, (len(ids), len(text), 400, i, i)):
            table[key].append(value)
        ids += text
    np.array(ids, dtype="<u2").tofile(out / "02_data" / "val.bin")
    (out / "02_data" / "index.json").write_text(json.dumps({
        "dtype": "uint16", "eot": eot, "domains": ["code", "prose"],
        "splits": {"val": {"documents": table}}}), encoding="utf-8")
    config = GPTConfig(vocab_size=tokenizer.vocab_size, sequence_length=128, layers=1, width=16,
                       heads=1)
    for seed, (name, folder) in enumerate((("base", "04_model_pretrain"), ("sft", "05_posttrain"),
                                           ("dpo", "05_posttrain"))):
        torch.manual_seed(seed)
        save_checkpoint(out / folder / f"{name}.pt", model=GPT(config), stage=name,
                        tokenizer_sha256=digest)
    with open(out / "05_posttrain" / "sft_val.jsonl", "w", encoding="utf-8") as file:
        for i in range(4):
            file.write(json.dumps({"kind": "does", "messages": [
                {"role": "user", "content": f"What does beta.do_{i} do?"},
                {"role": "assistant", "content": f"Return the number {i}."}]}) + "\n")
    return out, tokenizer


def run(out, script, *options):
    return subprocess.run([sys.executable, str(ROOT / "06_eval" / script), *options], text=True,
                          capture_output=True, cwd=out, env=os.environ | {
                              "BUILD_LLM_OUT": str(out), "PYTHONPATH": os.pathsep.join(sys.path)})


def test_the_walk_of_the_chapter(world):
    """evaluate, evaluate again (skipped), report: from another folder, one process each."""
    out, _ = world
    first = run(out, "evaluate.py", "--quick", "--choices", "4")
    assert first.returncode == 0, first.stderr[-2000:]
    results = json.loads((out / "06_eval" / "results.json").read_text(encoding="utf-8"))
    assert set(results["perplexity"]) == {"base", "sft", "dpo"}
    assert len(results["formats"]) == 30 and set(results["suite"]) >= {"summary_easy", "name"}
    for claim in ("perplexity-choices", "perplexity-breaks", "prompt-format", "arena-elo",
                  "judge-98", "judge-length"):
        assert (out / "claims" / f"{claim}.json").exists(), claim
    before = (out / "06_eval" / "results.json").read_bytes()
    again = run(out, "evaluate.py", "--quick", "--choices", "4")
    assert "up to date" in again.stdout and again.returncode == 0, again.stdout + again.stderr
    assert (out / "06_eval" / "results.json").read_bytes() == before
    report = run(out, "report.py")
    assert report.returncode == 0, report.stderr
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "One model, 30 scores" in page and "cannot be shown" not in page
    assert "What does beta.do_0 do?" in page


def test_one_model_alone(world, tmp_path):
    """After chapter 4 there is only a base model: no arena, and everything else."""
    out, _ = world
    base = out / "04_model_pretrain" / "base.pt"
    done = run(out, "evaluate.py", "--quick", "--model", f"base={base}", "--asked", "2", "--out",
               str(tmp_path / "06_eval"), "--mmlu", str(out / "06_eval" / "docmmlu" / "name"))
    assert done.returncode == 0, done.stderr[-2000:]
    page = build_report(tmp_path)
    assert "cannot be shown" not in page and "it takes two models" in page


@pytest.mark.parametrize("break_it, words", [
    (lambda out: (out / "01_tokenizer" / "tokenizer.json").rename(out / "away"), "train_tokenizer"),
    (lambda out: (out / "02_data" / "val.bin").rename(out / "away"), "build_corpus"),
    (lambda out: (out / "05_posttrain" / "sft_val.jsonl").rename(out / "away"), "instructions")])
def test_a_missing_input_names_its_command(world, break_it, words):
    out, _ = world
    break_it(out)
    try:
        got = run(out, "evaluate.py", "--quick", "--fresh")
    finally:
        home = {"train_tokenizer": "01_tokenizer/tokenizer.json", "build_corpus": "02_data/val.bin",
                "instructions": "05_posttrain/sft_val.jsonl"}[words]
        (out / "away").rename(out / home)
    assert got.returncode == 1 and words in got.stderr and got.stderr.count("\n") == 1, got.stderr


def test_bytes_are_those_of_the_kept_tokens(world):
    """A document of over 600 tokens is cut, and a cut may fall inside a character of two bytes."""
    out, tokenizer = world
    chosen = held_out_documents(out / "02_data", tokenizer.vocab, 1000)
    for ids, size in zip(chosen["documents"], chosen["bytes"]):
        assert size == len(tokenizer.decode(ids).encode()), "bits per byte needs the exact bytes"
        assert tokenizer.special_tokens["<|endoftext|>"] not in ids


def test_contestants(world, tmp_path):
    out, tokenizer = world
    path = out / "01_tokenizer" / "tokenizer.json"
    models = open_contestants({"x": out / "05_posttrain" / "sft.pt"}, path)
    talk = [{"role": "user", "content": "hi <|end|>"}]
    ids = prompt_for(tokenizer, "sft", talk)
    assert ids[0] == tokenizer.special_tokens["<|user|>"]
    assert ids[-1] == tokenizer.special_tokens["<|assistant|>"]
    assert tokenizer.special_tokens["<|end|>"] not in ids, "a reader's text became a special token"
    base = prompt_for(tokenizer, "base", talk)
    assert base[0] == tokenizer.special_tokens["<|endoftext|>"] and tokenizer.decode(
        base[1:]) == "hi <|end|>\n", "a base model continues the bare question"
    one = answer_all(models["x"], tokenizer, ["a?", "b?"], seed=1, max_new_tokens=4)
    assert one == answer_all(models["x"], tokenizer, ["a?", "b?"], seed=1, max_new_tokens=4)
    assert [a["question"] for a in one] == ["a?", "b?"]
    assert named_paths(["a=x.pt", "y/z.pt"]) == {"a": Path("x.pt"), "z": Path("y/z.pt")}
    with pytest.raises(BadInput):
        named_paths(["a=x.pt", "a=y.pt"])
    (tmp_path / "bad.pt").write_bytes(b"nonsense")
    with pytest.raises(BadInput, match="bad.pt"):
        open_contestants({"x": tmp_path / "bad.pt"}, path)
    with pytest.raises(BadInput, match="pretrain"):
        open_contestants({}, path)


def test_the_arena_is_blind_and_complete():
    answers = {name: [{"question": f"What does a.sort_{i} do?", "text": text, "ended": True}
                      for i in range(40)] for name, text in
               (("good", "Return the sorted list."), ("same", "Return the sorted list."),
                ("bad", "sort sort sort sort sort sort"))}
    battles = hold_arena(answers, seed=0)
    assert len(battles) == 120
    ours = [b for b in battles if {b["model_a"], b["model_b"]} == {"good", "bad"}]
    share = sum(b["model_a"] == "good" for b in ours) / len(ours)
    assert 0.2 < share < 0.8, "the sides are random"
    won = sum((b["winner"] == "a") == (b["model_a"] == "good") for b in ours)
    assert won > 30, "the voters see which answer is better"
    ties = [b for b in battles if {b["model_a"], b["model_b"]} == {"good", "same"}]
    assert all(b["winner"] == "tie" for b in ties), "equal answers are a tie"


def test_scenarios_of_one_file_name_keep_apart(tmp_path):
    from exam import new_name
    taken = {}
    for folder in ("arc", "obqa", "deep/obqa"):
        taken[new_name(tmp_path / folder / "test.jsonl", taken)] = []
    assert list(taken) == ["test", "obqa/test", "deep/obqa/test"]
    taken = {"test": []}
    assert new_name(tmp_path / "arc" / "test.jsonl", taken) == "arc/test"
