"""chat.py's pieces, rollouts, measuring, and that a killed SFT, reward or DPO run goes on exactly."""

import copy

import pytest
import torch

from chat import prompt_for, reply, until_a_circle
from dpo import train_dpo
from grpo import train_grpo
from measure_policy import form, is_answer, raw_bits_per_byte
from reward_model import from_sft, train_reward_model
from rollouts import sample_answers
from sft import fine_tune
from training_stage import RATES, Progress, batch_indices, rate_for

ROWS = [([129, 97 + i, 130, 98 + i, 131], [0, 0, 0, 1, 1]) for i in range(12)]
PAIRS = [(a, b) for a, b in zip(ROWS, ROWS[1:])]


def test_the_oldest_turns_are_forgotten_first(tokenizer):
    messages = []
    for i in range(5):
        messages += [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a" * 5}]
    messages.append({"role": "user", "content": "last"})
    ids = prompt_for(tokenizer, messages, False, 30)
    text = tokenizer.decode(ids)
    assert len(ids) <= 30 and text.startswith("<|user|>") and text.endswith("last<|assistant|>")
    assert prompt_for(tokenizer, messages, True, 99)[0] == 128, "a base model gets bare text"


def test_a_reply_streams_and_stops(tiny_model, tokenizer):
    tokenizer.stream_decode = lambda ids: (chr(i) for i in ids if i < 128)
    pieces = list(reply(tiny_model, tokenizer, [{"role": "user", "content": "hi"}], is_base=False,
                        temperature=1.0, max_new_tokens=12,
                        generator=torch.Generator().manual_seed(0)))
    assert len(pieces) <= 12


@pytest.mark.parametrize("said, kept", [
    ([1, 2, 7, 8, 7, 8, 7, 8, 7, 8], [1, 2, 7, 8, 7, 8, 7]),
    ([5] * 9, [5] * 5),
    ([1, 2, 3, 4, 5, 6, 7, 8] * 3, [*range(1, 9)] * 2 + [*range(1, 8)]),
    ([1, 2, 3, 4, 5, 6, 7, 8, 9] * 4, [*range(1, 10)] * 4),
    ([0, 0, 0, 1, 0, 1, 1, 2, 1, 2], [0, 0, 0, 1, 0, 1, 1, 2, 1, 2])])
def test_an_answer_that_goes_round_is_cut_off(said, kept):
    assert list(until_a_circle(iter(said))) == kept


def test_sampling_is_repeatable_and_two_steps_equal_one(tiny_model, tokenizer):
    questions = [c * k + "?" for k, c in enumerate("abcdef", 1)]
    first = sample_answers(tiny_model, tokenizer, questions, seed=3, max_new_tokens=24)
    assert first == sample_answers(tiny_model, tokenizer, questions, seed=3, max_new_tokens=24)
    assert first != sample_answers(tiny_model, tokenizer, questions, seed=4, max_new_tokens=24)
    greedy = sample_answers(tiny_model, tokenizer, questions, seed=0, max_new_tokens=24,
                            temperature=0)
    for answer, question in zip(greedy, questions):
        alone = sample_answers(tiny_model, tokenizer, [question], seed=0, max_new_tokens=24,
                               temperature=0)
        assert alone[0].ids == answer.ids, "each row equals answering it alone"
        assert sum(answer.row[1]) == len(answer.ids)


@pytest.mark.parametrize("text, ended, want", [
    ("Return the sum of a.", True, True), ("Return the sum of a.", False, False),
    ("What does it do?", True, False), (">>> f(1)", True, False), ("a\nb", True, False),
    ("", True, False)])
def test_what_has_the_form_of_an_answer(text, ended, want):
    assert is_answer(text, ended) == want


def test_form_and_raw_bits(tiny_model, tokenizer):
    answers = sample_answers(tiny_model, tokenizer, ["a?"] * 4, seed=0, max_new_tokens=4)
    assert set(form(answers)) == {"end_rate", "format_rate", "distinct", "words"}
    flat = copy.deepcopy(tiny_model)
    torch.nn.init.zeros_(flat.lm_head.weight)
    windows = torch.randint(0, 128, (3, 10), generator=torch.Generator().manual_seed(0))
    bits = raw_bits_per_byte(flat, tokenizer, windows)
    assert bits == pytest.approx(7.0553, abs=1e-3), "uniform over 133 tokens of one byte: log2 133"
    windows[:, 4] = 131
    assert raw_bits_per_byte(flat, tokenizer, windows) == pytest.approx(bits, abs=1e-4), \
        "a special token counts neither nats nor bytes"


def test_batches_walk_through_every_epoch():
    seen = [i for step in range(5) for i in batch_indices(10, 4, step, seed=1)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10)) and seen[:10] != seen[10:]
    assert batch_indices(10, 4, 2, seed=1) == seen[8:12], "a step depends on (seed, step) alone"


def test_the_rate_of_a_wider_model_is_smaller():
    assert rate_for("dpo", 192) == pytest.approx(RATES["dpo"] / 2), "twice 96 wide: half the rate"
    assert rate_for("dpo", 32) == RATES["dpo"] and rate_for("ppo", 192) == RATES["ppo"]


TRAIN = {"sft": lambda m, p: fine_tune(m, ROWS, 132, steps=6, batch=4, learning_rate=1e-2, seed=0,
                                       progress=p),
         "dpo": lambda m, p: train_dpo(m, PAIRS, 132, steps=6, batch=4, beta=0.1,
                                       learning_rate=1e-2, seed=0, progress=p),
         "reward": lambda m, p: train_reward_model(m, PAIRS, 132, steps=6, batch=4,
                                                   learning_rate=1e-2, seed=0, progress=p)}


def goes_on_exactly(train, start, tmp_path):
    """Train whole; train again, killed after step 3; go on: log and weights must be the same."""
    whole, broken, resumed = (copy.deepcopy(start) for _ in range(3))
    log = train(whole, None)

    class Killed(Progress):
        def save(self, step, *rest, **more):
            super().save(step, *rest, now=True)
            if step == 3:
                raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        train(broken, Killed(tmp_path / "x.pt", {"lr": 1}, []))
    again = train(resumed, Progress(tmp_path / "x.pt", {"lr": 1}, []))
    assert again == log, "the log must be that of the unbroken run"
    for a, b in zip(whole.parameters(), resumed.parameters()):
        assert torch.equal(a, b), "the resumed weights must be equal bit for bit"
    assert any(not torch.equal(a, b) for a, b in zip(whole.parameters(), start.parameters()))


@pytest.mark.parametrize("stage", TRAIN)
def test_a_killed_stage_goes_on_exactly(stage, tiny_model, tmp_path):
    goes_on_exactly(TRAIN[stage], from_sft(tiny_model, 0) if stage == "reward" else tiny_model,
                    tmp_path)


def test_a_killed_grpo_goes_on_exactly(tiny_model, tokenizer, tmp_path):
    frozen = copy.deepcopy(tiny_model)

    def low_letters(answers):
        return torch.tensor([sum(i < 64 for i in a.ids) / max(1, len(a.ids)) for a in answers])
    goes_on_exactly(lambda model, progress: train_grpo(
        model, frozen, low_letters, tokenizer, ["a?", "b?", "c?"], iterations=5, prompts=2, group=2,
        learning_rate=1e-2, beta=0.1, normaliser="token", seed=0, steps=2, max_new_tokens=5,
        progress=progress), tiny_model, tmp_path)


def test_a_damaged_record_is_named_with_its_line(tmp_path):
    from artifacts import BadInput
    from training_stage import read_jsonl, write_jsonl
    path = tmp_path / "preferences.jsonl"
    write_jsonl(path, [{"a": 1}, {"a": 2}])
    assert read_jsonl(path, "x.py") == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\n{"a": \n', encoding="utf-8")
    with pytest.raises(BadInput, match="line 2 is damaged.*x.py"):
        read_jsonl(path, "x.py")
    with pytest.raises(BadInput, match="missing: run python x.py"):
        read_jsonl(tmp_path / "none.jsonl", "x.py")
