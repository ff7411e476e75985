"""ppo_loop.py: a tiny run that must raise a known reward; ratio 1 at the start; exact resume."""

import copy

import pytest
import torch

from artifacts import BadInput
from ppo_loop import PPOSettings, ActorCritic, finite_scores, prepare, train_ppo, update
from rollouts import sample_answers
from training_stage import Progress, optimizer_for

SMALL = PPOSettings(iterations=16, batch=32, epochs=3, minibatches=2, learning_rate=1e-2,
                    beta=0.02, max_new_tokens=6, missing_end=0.0)
QUESTIONS = [f"{c}?" for c in "abcdefgh"]


def share_of_letters(answers):
    """A known reward: the share of the answer's tokens below 64, as the model cannot dislike."""
    return torch.tensor([sum(i < 64 for i in a.ids) / max(1, len(a.ids)) for a in answers])


def shares(monkeypatch):
    """Answers of a tiny model never end: let the score count all the same."""
    import ppo_loop
    monkeypatch.setattr(ppo_loop, "finite_scores", lambda scorer, answers, low: scorer(answers))


def test_ppo_raises_a_known_reward(tiny_model, tokenizer, monkeypatch):
    shares(monkeypatch)
    log = train_ppo(tiny_model, copy.deepcopy(tiny_model), share_of_letters, tokenizer, QUESTIONS,
                    SMALL, seed=0)
    assert log[-1]["reward"] > log[0]["reward"] + 0.2, \
        f"reward {log[0]['reward']:.2f} -> {log[-1]['reward']:.2f}: PPO does not learn"
    assert abs(log[0]["kl"]) < 1e-4 < log[-1]["kl"], "KL starts at 0 and grows"
    for line in log:
        assert line["first_ratio_gap"] < 1e-4 and line["first_clip_fraction"] == 0, \
            "the first minibatch must see ratio 1: is temperature or the mask treated differently?"


def test_a_huge_price_keeps_the_policy_at_home(tiny_model, tokenizer, monkeypatch):
    shares(monkeypatch)
    s = PPOSettings(**{**SMALL.__dict__, "beta": 50.0, "learning_rate": 1e-3, "iterations": 6})
    log = train_ppo(tiny_model, copy.deepcopy(tiny_model), share_of_letters, tokenizer, QUESTIONS,
                    s, seed=0)
    free = PPOSettings(**{**SMALL.__dict__, "beta": -5.0, "learning_rate": 1e-3, "iterations": 6})
    gone = train_ppo(tiny_model, copy.deepcopy(tiny_model), share_of_letters, tokenizer, QUESTIONS,
                     free, seed=0)
    assert abs(log[-1]["kl"]) < 0.1 < gone[-1]["kl"], "the sign of the KL term is wrong"


def test_a_killed_run_goes_on_exactly(tiny_model, tokenizer, tmp_path, monkeypatch):
    shares(monkeypatch)
    s = PPOSettings(**{**SMALL.__dict__, "iterations": 4})
    start = copy.deepcopy(tiny_model)
    whole = copy.deepcopy(start)
    log = train_ppo(whole, start, share_of_letters, tokenizer, QUESTIONS, s, seed=1)
    broken = copy.deepcopy(start)

    def killed_at_third(answers, calls=[]):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return share_of_letters(answers)
    place = lambda: Progress(tmp_path / "ppo.pt", {"seed": 1}, [], every=0)  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        train_ppo(broken, start, killed_at_third, tokenizer, QUESTIONS, s, 1, place())
    resumed = copy.deepcopy(start)
    again = train_ppo(resumed, start, share_of_letters, tokenizer, QUESTIONS, s, 1, place())
    for a, b in zip(whole.parameters(), resumed.parameters()):
        assert torch.equal(a, b), "the resumed run must end with the same weights, bit for bit"
    assert [x["samples"] for x in log] == [x["samples"] for x in again]
    other = Progress(tmp_path / "ppo.pt", {"seed": 2}, [])
    assert other.resume(resumed, None)[0] == 0, "other settings must not be resumed"


def test_a_second_epoch_moves_away_from_the_old_policy(tiny_model, tokenizer, monkeypatch):
    shares(monkeypatch)
    model = ActorCritic(tiny_model)
    answers = sample_answers(tiny_model, tokenizer, QUESTIONS * 4, seed=0, max_new_tokens=6)
    batch = prepare(model, tiny_model, share_of_letters, answers, 132, 0.1, SMALL)
    assert not any(t.requires_grad for t in (batch.advantages, batch.returns, batch.old_logprobs,
                                             batch.reference_logprobs)), "constants carry no graph"
    optimizer = optimizer_for(model.parameters(), 1e-2)
    watched = update(model, optimizer, batch, SMALL, seed=0)
    assert watched["kl_to_old"] > 1e-6 and watched["clip_fraction"] > 0, \
        "the old log-probabilities must stay those of the sampling policy"


def test_what_is_to_be_kept_is_part_of_every_update(tiny_model, tokenizer, monkeypatch):
    shares(monkeypatch)
    kept, asked = copy.deepcopy(tiny_model), []
    row = torch.tensor([[65, 70, 71, 131]])

    def keep(step):
        asked.append(step)
        return 5 * kept(row, row.roll(-1, 1))[1]
    free = copy.deepcopy(tiny_model)
    for policy, more in ((free, None), (kept, keep)):
        train_ppo(policy, tiny_model, share_of_letters, tokenizer, QUESTIONS, SMALL, seed=1,
                  keep=more)
    assert asked == list(range(len(asked))) and len(asked) > SMALL.iterations, "one step after another"
    with torch.no_grad():
        losses = [m(row, row.roll(-1, 1))[1].item() for m in (free, kept)]
    assert losses[1] < losses[0] - 0.01, f"{losses[1]:.3f} with it, {losses[0]:.3f} without"


def test_scores_must_be_finite_and_cut_answers_score_low(tiny_model, tokenizer):
    answers = sample_answers(tiny_model, tokenizer, ["a?"], seed=0, max_new_tokens=3)
    assert not answers[0].ended
    got = finite_scores(lambda a: torch.tensor([5.0]), answers, -2.0)
    assert got.tolist() == [-2.0], "an answer that never ended gets the fixed low score"
    with pytest.raises(BadInput, match="'a\\?' is nan"):
        finite_scores(lambda a: torch.tensor([float("nan")]), answers, -2.0)
