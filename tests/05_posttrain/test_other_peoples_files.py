"""Files of other people are read, or named by line; nan at a pad leaves every gradient alone."""

import gzip
import json
import math

import numpy as np
import pytest
import torch

from artifacts import BadInput
from dpo import dpo_loss
from grpo import grpo_loss
from ppo import AdaptiveKL, policy_loss, value_loss
from instruction_files import load_instructions
from preference_files import as_pair, read_pairs
from reinforce import reinforce_loss
from reward_quality import calibration
from sft import sft_loss
from training_stage import batch_indices, fresh_questions, read_conversations

torch.set_num_threads(1)
ASKED, SAID = {"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}
OTHER = {"role": "assistant", "content": "No."}
PARTS = {"role": "user", "content": [{"type": "text", "text": "Hi?"}]}
SYSTEM, DEVELOPER = ({"role": r, "content": "Be kind."} for r in ("system", "developer"))


@pytest.mark.parametrize("record", [
    {"messages": [ASKED, SAID]}, {"conversations": [ASKED, SAID]},                  # minimind
    {"conversations": [SYSTEM, ASKED, SAID]}, {"messages": [DEVELOPER, ASKED, SAID]},
    {"instruction": "Hi?", "context": "", "response": "Yes.", "category": "x"},     # Dolly
    {"question": "Hi?", "answer": "Yes."}, {"query": "Hi?", "response": "Yes."},    # GSM8K
    {"system_prompt": "", "question": "Hi?", "response": "Yes."},                   # OpenOrca
    {"instruction": "Hi?", "input": None, "output": "Yes."}, {"messages": [PARTS, SAID]},
    {"prompt": "Hi?", "completion": [SAID]}, {"prompt": [ASKED], "response": "Yes."}])
def test_conversations_of_other_people_are_read(tmp_path, record):
    (tmp_path / "x.jsonl").write_text(json.dumps(record), encoding="utf-8")
    assert read_conversations(tmp_path / "x.jsonl", "x.py")[0]["messages"] == [ASKED, SAID]


@pytest.mark.parametrize("text", ["\n [\n%s\n]", "﻿[%s]", "﻿%s\n", "\r\n%s\r\n"])
def test_a_list_and_a_byte_order_mark_are_read(tmp_path, text):
    record = json.dumps({"messages": [ASKED, SAID]})
    (tmp_path / "x.jsonl").write_bytes((text % record).encode("utf-8"))
    assert len(read_conversations(tmp_path / "x.jsonl", "x.py")) == 1


@pytest.mark.parametrize("inside", ['{"data": [%s, %s]}', '{"version": 1, "rows": [%s,%s]}',
                                    "[%s, %s]", "%s\n%s"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_records_in_an_object_indented_or_gzipped_are_read(tmp_path, inside, indent, pack):
    record = json.dumps({"messages": [ASKED, SAID]}, indent=indent)
    if indent and inside == "%s\n%s":
        inside, record = "%s%s", json.dumps({"messages": [ASKED, SAID]}) + "\n"
    path = tmp_path / "x.json"
    path.write_bytes(pack((inside % (record, record)).encode()))
    assert len(read_conversations(path, "x.py")) == len(load_instructions(path)[0]) == 2
    path.write_bytes(pack(json.dumps({"messages": [ASKED, SAID]}, indent=indent).encode()))
    assert len(read_conversations(path, "x.py")) == len(load_instructions(path)[0]) == 1


@pytest.mark.parametrize("name, content, told", [
    ("x.csv", b"instruction,output\nHi?,Yes.\n", "is a table"), ("x.CSV.gz", b"a,b", "is a table"),
    ("x", b"PAR1\x15\xff", "is a table"), ("x.jsonl.gz", gzip.compress(b"{}" * 99)[:20], "gzip")])
def test_a_table_or_a_cut_gzip_is_named_with_the_way_out(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    for read in (load_instructions, lambda path: read_conversations(path, "x.py")):
        with pytest.raises(BadInput, match=told):
            read(tmp_path / name)


@pytest.mark.parametrize("role", ["tool", "function", "User", "model"])
def test_a_role_that_is_not_known_is_named(tmp_path, role):
    record = {"messages": [ASKED, {"role": role, "content": "3"}, SAID]}
    (tmp_path / "x.jsonl").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(BadInput, match=f"unknown role '{role}'"):
        read_conversations(tmp_path / "x.jsonl", "x.py")


@pytest.mark.parametrize("prompt", ["Hi?", [ASKED]])
def test_turns_between_the_prompt_and_the_answers_are_kept(prompt):
    more = [SAID, {"role": "user", "content": "Sure?"}]
    want = [ASKED, *more]
    for before in (more, want):         # what follows the prompt, or the whole talk
        pair = as_pair({"prompt": prompt, "chosen": [*before, SAID], "rejected": [*before, OTHER]})
        assert pair["prompt"] == want, f"the answers belong to {want}, not to {pair['prompt']}"
    with pytest.raises(ValueError, match="differ before"):
        as_pair({"prompt": prompt, "chosen": [*more, SAID], "rejected": [OTHER]})


@pytest.mark.parametrize("content, told", [
    (b'{"messages": []}\n{"a": "caf\xe9"}', "line 2 is damaged .not UTF-8"),
    (b"[" * 100_000, "deep"),
    (json.dumps({"messages": [{"role": "user", "content": "\ud83d"}, SAID]}).encode(),
     "record 1.*surrogates"), (b'[\n{"messages": []},\n{]', "line 3 is damaged"),
    (json.dumps({"messages": [ASKED | {"content": [{"type": "image_url"}]}, SAID]}).encode(),
     "record 1: no content")])
def test_what_is_no_text_is_named_and_not_replaced(tmp_path, content, told):
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(BadInput, match=told):
        read_conversations(tmp_path / "x.jsonl", "x.py")


@pytest.mark.parametrize("record", [
    {"system": "", "question": "Hi?", "chosen": "Yes.", "rejected": "No."},         # Orca pairs
    {"input": "Hi?", "chosen": "Yes.", "rejected": "No."},
    {"instruction": "Hi?", "chosen": "Yes.", "rejected": "No."},
    {"prompt": "Hi?", "chosen": SAID, "rejected": OTHER},
    {"prompt": [PARTS], "chosen": [SAID], "rejected": [OTHER]},
    {"chosen": [DEVELOPER, ASKED, SAID], "rejected": [ASKED, OTHER]}])
def test_pairs_of_other_people_are_read(tmp_path, record):
    (tmp_path / "x.jsonl").write_text(json.dumps(record), encoding="utf-8")
    pair = read_pairs(tmp_path / "x.jsonl", "x.py")[0]
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == ("Hi?", "Yes.", "No.")


def test_nothing_to_ask_or_to_train_on_is_said():
    long = [{"kind": "does", "messages": [{"role": "user", "content": "x" * 65}]}] * 3
    with pytest.raises(BadInput, match="none of 3 conversations"):
        fresh_questions(long, 5)
    with pytest.raises(BadInput, match="nothing to train on"):
        batch_indices(0, 4, 0, 0)


MASK, LOGS = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[-1.0, -2.0, -3.0]])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("loss", [
    lambda x, pad: policy_loss(x, pad, pad, MASK), lambda x, pad: value_loss(x, pad, LOGS, MASK),
    lambda x, pad: value_loss(x, LOGS, pad, MASK),
    lambda x, pad: grpo_loss(x, LOGS, pad, torch.tensor([1.0]), MASK, beta=0.1, longest=3, group=1),
    lambda x, pad: reinforce_loss(x, torch.tensor([1.0]), 0.0, MASK)])
def test_what_stands_at_a_pad_reaches_no_gradient(loss, bad):
    for own in (False, True):           # in the other arguments, or in the differentiated one
        pad = torch.tensor([[0.1, 0.2, bad]])
        x = (pad.clone() if own else LOGS.clone()).requires_grad_()
        value = loss(x, pad)
        value.backward()
        assert math.isfinite(value.item()) and torch.isfinite(x.grad).all(), f"{value}, {x.grad}"


def test_a_forbidden_token_that_is_not_trained_costs_nothing():
    logits = torch.tensor([[[0.0, -math.inf], [0.0, 0.0], [0.0, 0.0]]])
    loss = sft_loss(logits, torch.tensor([[0, 1, 0]]), torch.tensor([[0.0, 0.0, 1.0]]), 1.0)
    assert loss.item() == pytest.approx(math.log(2)), "0 times infinity is nan"


def test_prices_and_betas_stay_above_zero():
    with pytest.raises(ValueError, match="beta"):
        dpo_loss(LOGS[0], LOGS[0], LOGS[0], LOGS[0], -0.1)
    with pytest.raises(ValueError, match="nan"):
        AdaptiveKL(0.1, 6).update(math.nan, 10)
    assert AdaptiveKL(0.1, 6, 10).update(0.0, 10**6) == pytest.approx(0.08), "a short horizon"
    with pytest.raises(ValueError, match="nan"):
        calibration(np.array([1.0, math.nan]))
