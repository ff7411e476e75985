"""What people give to the commands of chapter 5: files of other tools, and numbers out of range."""

import json
import sys

import pytest
import torch

from artifacts import BadInput
from chat import prompt_for
from chat_template import fit_prompt
from option_ranges import RANGES, out_of_range
from preference_files import as_pair, read_pairs
from training_stage import Progress, read_conversations

TALK = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b."}]


@pytest.mark.parametrize("record", [
    {"messages": TALK}, {"messages": [{"role": "system", "content": "Be kind."}, *TALK]},
    {"prompt": "a?", "completion": "b."}, {"prompt": "a?", "response": " b. "},
    {"prompt": TALK[:1], "completion": TALK[1:]},
    {"prompt": [{"role": "system", "content": "x"}, *TALK[:1]], "completion": TALK[1:]},
    {"instruction": "a?", "input": "", "output": "b."}, {"instruction": "a?", "output": "b."},
    {"conversations": [{"from": "system", "value": "x"}, {"from": "human", "value": "a?"},
                       {"from": "gpt", "value": "b."}]}])
@pytest.mark.parametrize("as_list", [False, True])
def test_questions_and_answers_of_other_tools_load(record, as_list, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps([record] * 2) if as_list else "\n".join([json.dumps(record)] * 2),
                    encoding="utf-8")
    got = read_conversations(path, "x.py")
    assert [r["messages"] for r in got] == [TALK] * 2 and got[0]["kind"] == "does"


@pytest.mark.parametrize("bad, why", [
    ({"prompt": "a?"}, "no completion"), ({"prompt": "a?", "completion": None}, "no completion"),
    ({"completion": "b"}, "no instruction"), ({"messages": TALK[:1]}, "no answered turn"),
    ({"messages": [TALK[0], {"role": "assistant", "content": None}]}, "no content"),
    ({"messages": None}, ""), ({"text": "plain"}, "no instruction"), ([1], "no JSON object"),
    ({"messages": TALK + TALK[1:]}, "alternate"), ({"prompt": 3, "completion": 4}, "")])
def test_a_record_that_is_no_conversation_is_named(bad, why, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(f"{json.dumps({'messages': TALK})}\n{json.dumps(bad)}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=rf"x\.jsonl, record 2: .*{why}"):
        read_conversations(path, "x.py")


HH = "\n\nHuman: a?\n\nAssistant: "


@pytest.mark.parametrize("record", [
    {"prompt": "a?", "chosen": "b.", "rejected": "c."},
    {"prompt": TALK[:1], "chosen": TALK[1:], "rejected": [{"role": "assistant", "content": "c."}]},
    {"prompt": "a?", "chosen": TALK, "rejected": [TALK[0], {"role": "assistant", "content": "c."}]},
    {"chosen": TALK, "rejected": [TALK[0], {"role": "assistant", "content": "c."}]},
    {"chosen": [{"role": "system", "content": "s"}, *TALK],
     "rejected": [TALK[0], {"role": "assistant", "content": "c."}]},
    {"chosen": HH + "b.", "rejected": HH + "c."},
    {"prompt": HH, "chosen": "b.", "rejected": "c."}])
def test_preferences_of_other_tools_load(record):
    got = as_pair(record)
    assert (got["prompt"], got["chosen"], got["rejected"]) == ("a?", "b.", "c."), got


def test_a_longer_dialogue_keeps_its_turns_and_renders(tokenizer):
    from reward_model import answer_row
    got = as_pair({"chosen": HH + "b.\n\nHuman: d?\n\nAssistant: e.",
                   "rejected": HH + "b.\n\nHuman: d?\n\nAssistant: f."})
    assert got["prompt"] == [*TALK, {"role": "user", "content": "d?"}] and got["rejected"] == "f."
    ids, mask = answer_row(tokenizer, got["prompt"], got["chosen"])
    assert tokenizer.decode(ids) == ("<|user|>a?<|assistant|>b.<|end|><|user|>d?<|assistant|>e."
                                     "<|end|>") and sum(mask) == 3


@pytest.mark.parametrize("bad", [
    {"prompt": "a?", "chosen": "b."}, {"prompt": "a?", "chosen": "b.", "rejected": None},
    {"prompt": "", "chosen": "b.", "rejected": "c."}, {"chosen": "b.", "rejected": "c."},
    {"chosen": HH + "b.", "rejected": "\n\nHuman: z?\n\nAssistant: c."}, [],
    {"prompt": "a?", "chosen": ["b"], "rejected": ["c"]}, {"prompt": 1, "chosen": "b", "rejected": "c"}])
def test_a_record_that_is_no_pair_is_named(bad, tmp_path):
    path = tmp_path / "x.jsonl"
    good = json.dumps({"prompt": "a?", "chosen": "b.", "rejected": "c."})
    path.write_text(f"{good}\n{json.dumps(bad)}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"x\.jsonl, record 2: "):
        read_pairs(path, "x.py")


def test_pairs_without_a_split_are_split_by_prompt(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": str(i // 2), "chosen": "b", "rejected": "c"})
                              for i in range(20)), encoding="utf-8")
    got = read_pairs(path, "x.py")
    sides = {s: {p["prompt"] for p in got if p["split"] == s} for s in ("train", "val")}
    assert len(sides["val"]) == 2 and not sides["val"] & sides["train"] and len(got) == 20


# ------------------------------------------------------------------------------------- the options

@pytest.mark.parametrize("module, options", [
    ("ppo_loop", "--batch 3"), ("ppo_loop", "--kl-target 0"), ("ppo_loop", "--beta -1"),
    ("ppo_loop", "--iterations 0"), ("dpo", "--label-smoothing 0.6"), ("dpo", "--beta 0"),
    ("dpo", "--kind robust --label-smoothing 0.5"), ("dpo", "--kind ipo --label-smoothing 0.1"),
    ("dpo", "--learning-rate nan"), ("dpo", "--epochs 0"), ("dpo", "--batch 0"),
    ("reward_model", "--learning-rate 1e20"), ("reward_model", "--pairs 0"),
    ("sft", "--learning-rate 0"), ("sft", "--steps 0"), ("sft", "--examples -5"),
    ("sft", "--threads 0"), ("grpo", "--group 1"), ("grpo", "--beta inf"),
    ("preferences", "--answers 1"), ("preferences", "--temperature -1"),
    ("preferences", "--sharpness 0"), ("compare", "--best-of 0"), ("instructions", "--limit 0"),
    ("chat", "--max-new-tokens 0"), ("chat", "--temperature -0.1"),
    ("experiment", "sft-few --seeds 0"), ("self_instruct", "--seed -1")])
def test_an_option_out_of_range_is_one_line_that_names_the_flag(module, options, monkeypatch,
                                                                capsys):
    import importlib
    monkeypatch.setattr(sys, "argv", [module, *options.split()])
    flag = [word for word in options.split() if word.startswith("--")][-1]
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(module).main()
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and told.count("\n") == 1, told
    assert told.startswith(f"error: {flag} "), told


def test_every_number_has_a_range_and_nan_is_in_none():
    for name, limits in RANGES.items():
        assert out_of_range(name, float("nan"), *limits) and out_of_range(name, -1, *limits)
    assert out_of_range("beta", 0.1, *RANGES["beta"]) == ""


# ---------------------------------------------------------------------- the question, and the place

def test_two_long_answers_do_not_push_two_questions_out(tokenizer):
    for limit, wanted in ((64, 64), (64, 1000), (64, 8)):
        prompts = []
        for asked in ("What does numpy.sort do?", "What does numpy.copy do?"):
            room = limit - min(wanted, limit // 2)
            ids = prompt_for(tokenizer, [{"role": "user", "content": asked}], False, room)
            assert tokenizer.decode(ids) == f"<|user|>{asked}<|assistant|>", f"{wanted} new tokens"
            prompts.append(ids)
        assert prompts[0] != prompts[1]


def test_a_reply_of_the_whole_context_still_sees_the_question(tiny_model, tokenizer, monkeypatch):
    import chat
    seen = []
    monkeypatch.setattr(chat, "generate", lambda model, ids, *a, **k: seen.append(ids) or iter(()))
    tokenizer.stream_decode = lambda ids: iter(())
    for asked in ("first?", "second?"):
        list(chat.reply(tiny_model, tokenizer, [{"role": "user", "content": asked}], is_base=False,
                        temperature=1.0, max_new_tokens=64, generator=torch.Generator()))
    assert [tokenizer.decode(ids) for ids in seen] == ["<|user|>first?<|assistant|>",
                                                       "<|user|>second?<|assistant|>"]


def test_a_question_longer_than_the_room_keeps_who_speaks(tokenizer):
    asked = [{"role": "user", "content": "abcdefgh"}]
    assert tokenizer.decode(fit_prompt(tokenizer, asked, 6)) == "<|user|>efgh<|assistant|>"
    assert tokenizer.decode(fit_prompt(tokenizer, asked, 6, most=20)).startswith("<|user|>abcdefgh")
    talk = [*TALK, {"role": "user", "content": "c?"}]
    assert tokenizer.decode(fit_prompt(tokenizer, talk, 5)) == "<|user|>c?<|assistant|>"


def test_the_arena_keeps_the_question_too(tokenizer):
    from contestants import answer_all, Contestant
    from gpt import GPT, GPTConfig
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=133, sequence_length=32, layers=1, width=8, heads=2)).eval()
    got = answer_all(Contestant("x", "sft", model), tokenizer, ["What?", "How?"], 0,
                     max_new_tokens=32, temperature=1.0)
    assert [a["question"] for a in got] == ["What?", "How?"] and all(a["tokens"] for a in got)


def test_a_progress_of_other_settings_says_so(tiny_model, tmp_path, capsys):
    optimizer = torch.optim.AdamW(tiny_model.parameters(), 1e-3)
    Progress(tmp_path / "x.pt", {"learning_rate": 0.1}, []).save(7, tiny_model, optimizer, [],
                                                                 now=True)
    assert Progress(tmp_path / "x.pt", {"learning_rate": 0.1}, []).resume(tiny_model,
                                                                          optimizer)[0] == 7
    capsys.readouterr()
    assert Progress(tmp_path / "x.pt", {"learning_rate": 0.2}, []).resume(tiny_model,
                                                                          optimizer)[0] == 0
    told = capsys.readouterr().out
    assert "--learning-rate 0.1" in told and "step 7" in told and "replace" in told, told
