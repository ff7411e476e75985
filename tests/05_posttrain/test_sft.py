"""sft.py: what is trained, by how much, and that batching does not change it."""

import math

import pytest
import torch

import sft
import sound_step
from responses import collate
from sft import fine_tune, held_out_loss, rehearsal, render_rows, sft_loss, train_step


@pytest.fixture
def sure_logprobs(monkeypatch):
    """token_logprobs by gather, so that these tests judge the loss alone."""
    def logprobs(logits, ids, temperature=1.0):
        return logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    monkeypatch.setattr(sft, "token_logprobs", logprobs)


def uniform_except(losses, ids, vocab=8):
    """Logits (1, T, V) under which token t + 1 has a loss of exactly losses[t]."""
    logits = torch.zeros(1, len(ids), vocab, dtype=torch.float64)
    for t, loss in enumerate(losses):
        p = math.exp(-loss)
        logits[0, t, ids[t + 1]] = math.log(p * (vocab - 1) / (1 - p))
    return logits


@pytest.mark.exercise("5.5")
def test_three_answer_tokens_by_hand(sure_logprobs):
    ids, losses = [1, 2, 3, 4, 5], [5.0, 1.0, 2.0, 3.0]
    mask = torch.tensor([[0.0, 0, 1, 1, 1]])        # tokens 3, 4, 5 are the answer
    got = sft_loss(uniform_except(losses, ids), torch.tensor([ids]), mask, 3).item()
    assert abs(got - 2.0) < 1e-9, \
        f"losses 1, 2, 3 of the three answer tokens: mean 2.0, got {got:.4f}" \
        " (2.667: the mask was not shifted with the targets)"


@pytest.mark.exercise("5.5")
def test_a_token_counts_the_same_in_every_answer(sure_logprobs):
    long, short = [1, 2, 3, 4], [1, 2]
    total = (sft_loss(uniform_except([1.0, 2, 3], long), torch.tensor([long]),
                      torch.tensor([[0.0, 1, 1, 1]]), 4)
             + sft_loss(uniform_except([10.0], short), torch.tensor([short]),
                        torch.tensor([[0.0, 1]]), 4))
    assert abs(total.item() - 4.0) < 1e-6, \
        f"(1 + 2 + 3 + 10) / 4 = 4.0 over the whole step, got {total.item():.3f} (6.0 is the mean" \
        " of the two answers' means)"


@pytest.mark.exercise("5.5")
def test_prompt_and_pads_get_no_gradient(sure_logprobs):
    logits = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = torch.tensor([[0.0, 0, 1, 1, 0]])
    sft_loss(logits, torch.tensor([[1, 2, 3, 4, 5]]), mask, 2).backward()
    size = logits.grad.abs().sum(-1)[0]
    assert size[1] > 0 and size[2] > 0, "the answer's two tokens must be trained"
    assert size[0] == 0, "the prompt's own tokens must not be trained"
    assert size[3] == 0 and size[4] == 0, "pads must not be trained"


@pytest.mark.exercise("5.5")
def test_gradient_is_right(sure_logprobs):
    g = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 4, 5, generator=g, dtype=torch.float64).requires_grad_()
    ids, mask = torch.randint(0, 5, (2, 4), generator=g), torch.tensor([[0, 1, 1, 1.0],
                                                                       [0, 0, 1, 0]])
    assert torch.autograd.gradcheck(lambda z: sft_loss(z, ids, mask.double(), 4), logits)


ROWS = [(list(range(65, 65 + n)), [0] * 2 + [1] * (n - 2)) for n in (9, 4, 17, 6, 30, 5, 12, 8)]


def gradients(model, rows, **how):
    """The gradients that one train_step on `rows` computes; nothing is stepped or clipped."""
    class Still:
        def zero_grad(self, set_to_none):
            model.zero_grad(set_to_none=True)

        def step(self):
            pass
    loss = train_step(model, Still(), rows, 132, **how)
    return loss, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_accumulation_one_by_one_equals_all_at_once(tiny_model, monkeypatch):
    monkeypatch.setattr(sound_step, "clip_gradients", lambda parameters, norm: 0.0)
    loss_one, one = gradients(tiny_model, ROWS, micro_rows=1)
    loss_all, many = gradients(tiny_model, ROWS, micro_rows=8)
    assert loss_one == pytest.approx(loss_all, abs=1e-6)
    assert max((a - b).abs().max() for a, b in zip(one, many)) < 1e-6, "ragged accumulation differs"


def test_packed_step_equals_padded_loss(tiny_model, monkeypatch):
    monkeypatch.setattr(sound_step, "clip_gradients", lambda parameters, norm: 0.0)
    loss, packed = gradients(tiny_model, ROWS)
    assert loss == pytest.approx(held_out_loss(tiny_model, ROWS, 132), abs=1e-5)
    tiny_model.zero_grad()
    ids, mask = collate(ROWS, 132)
    sft_loss(tiny_model(ids)[0], ids, mask, float(mask.sum())).backward()
    padded = [p.grad for p in tiny_model.parameters() if p.grad is not None]
    assert max((a - b).abs().max() for a, b in zip(packed, padded)) < 1e-5


def test_too_long_examples_are_counted_not_cut(tokenizer):
    chats = [[{"role": "user", "content": "a" * n}, {"role": "assistant", "content": "b"}]
             for n in (3, 50)]
    rows, too_long = render_rows(tokenizer, [{"messages": m} for m in chats], 20)
    assert len(rows) == 1 and too_long == 1


def test_a_few_steps_teach_a_tiny_model_to_answer_and_stop(tiny_model, tokenizer):
    from rollouts import sample_answers
    chats = [[{"role": "user", "content": q}, {"role": "assistant", "content": "Yes."}]
             for q in ("a?", "b?", "c?", "d?")]
    rows, _ = render_rows(tokenizer, [{"messages": m} for m in chats], 64)
    log = fine_tune(tiny_model, rows, 132, steps=25, batch=4, learning_rate=1e-2, seed=0)
    assert log[-1]["loss"] < 0.4 < log[0]["loss"]
    answers = sample_answers(tiny_model, tokenizer, ["a?", "e?"], seed=0, temperature=0)
    assert [(a.text, a.ended) for a in answers] == [("Yes.", True)] * 2


def test_what_is_rehearsed_is_the_loss_of_sfts_own_rows(tiny_model):
    keep = rehearsal(ROWS, 132, batch=4, seed=0)
    losses = [keep(tiny_model, step) for step in range(4)]
    assert losses[0] == keep(tiny_model, 0) != losses[1], "other rows in each step, the same again"
    ids, mask = collate(ROWS, 132)
    whole = rehearsal(ROWS, 132, batch=len(ROWS), seed=0)(tiny_model, 0)
    direct = sft_loss(tiny_model(ids)[0], ids, mask, float(mask.sum()))
    assert whole.item() == pytest.approx(direct.item(), rel=1e-5)
    losses[0].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in tiny_model.parameters())
