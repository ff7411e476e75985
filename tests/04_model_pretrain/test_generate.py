"""generate.py: cache equal to no cache, ragged equal to alone, each filter by hand."""

import math

import pytest
import torch

from batch_generation import generate_batch
from generate import (KVCache, choose, forbid_repeats, generate, keep_min_p, keep_top_k, keep_top_p,
                      keep_top_p_of_many, penalise_repeats)
from gpt import GPT, GPT2, GPTConfig

torch.set_num_threads(1)
VARIANTS = {"default": {}, "gpt2": GPT2, "llama": dict(mlp="swiglu", kv_heads=2,
                                                       ngram_rows=50),
            "late keys": dict(late_keys=True)}
PROMPTS = [[7, 3, 9], [1, 2, 3, 4, 5, 6, 7], [11]]


def small_model(**changes) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(**(dict(vocab_size=50, sequence_length=32, layers=2, width=32, heads=4)
                             | changes))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", VARIANTS)
def test_cached_logits_equal_uncached(name):
    """Fed in pieces of 5, 1, 1 and 9 tokens, the cache must give the logits of one pass."""
    model = small_model(**VARIANTS[name])
    ids = torch.randint(0, 50, (2, 16), generator=torch.Generator().manual_seed(1))
    cache, pieces = KVCache(2, 16), []
    for piece in ids.split([5, 1, 1, 9], dim=1):
        pieces.append(model(piece, cache=cache)[0])
    gap = (torch.cat(pieces, 1) - model(ids)[0]).abs().amax(dim=(0, 2))
    assert gap.max() < 1e-5, (f"{name}: logits with the cache differ by {gap.max():.1e}, most at "
                              f"position {gap.argmax()} (pieces begin at 0, 5, 6, 7)")


@pytest.mark.parametrize("name", VARIANTS)
def test_same_text_with_and_without_cache_past_a_full_context(name):
    model = small_model(**VARIANTS[name])
    fast, slow = ([*generate(model, [5, 6], 60, temperature=0, use_cache=c)] for c in (True, False))
    assert fast == slow, "the cache changed the text"
    assert len(fast) == 60, "a full context must not end the text"


@pytest.mark.parametrize("name", VARIANTS)
def test_ragged_batch_equals_each_alone(name):
    model = small_model(**VARIANTS[name])
    together, logprobs = generate_batch(model, PROMPTS, 12, temperature=0, return_logprobs=True)
    for prompt, row, values in zip(PROMPTS, together, logprobs):
        alone = list(generate(model, prompt, 12, temperature=0))
        assert row == alone, f"prompt of {len(prompt)} tokens: padding changed the text"
        logits = model(torch.tensor([prompt + row]))[0][0].log_softmax(-1)
        exact = [logits[len(prompt) - 1 + i, t].item() for i, t in enumerate(row)]
        assert values == pytest.approx(exact, abs=1e-4), "log-probabilities of the new tokens"


def test_stop_ends_a_row_and_is_its_last_token():
    model = small_model()
    free = generate_batch(model, PROMPTS, 12, temperature=0)
    stop = free[1][4]
    rows = generate_batch(model, PROMPTS, 12, temperature=0, stop=(stop,))
    for row, full in zip(rows, free):
        expected = full[:full.index(stop) + 1] if stop in full else full
        assert row == expected, "a row ends with its first stop token, the others go on"
    assert list(generate(model, PROMPTS[1], 12, temperature=0, stop=(stop,))) == free[1][:4], \
        "when streaming, the stop token itself is not given"


@pytest.mark.parametrize("name", VARIANTS)
def test_rows_that_end_leave_and_repeated_prompts_are_read_once(name):
    """Seven rows of three prompts; with so many stop tokens most rows end early."""
    model = small_model(**VARIANTS[name])
    prompts, stop = [PROMPTS[i] for i in (0, 1, 0, 2, 1, 1, 2)], tuple(range(0, 50, 6))
    rows = generate_batch(model, prompts, 20, temperature=0, stop=stop)
    for prompt, row in zip(prompts, rows):
        alone = list(generate(model, prompt, 20, temperature=0, stop=stop))
        assert row[:len(alone)] == alone, f"{name}, prompt {prompt}: {row}, alone {alone}"
        assert len(row) == len(alone) + (len(alone) < 20), "and the stop token behind it"
    assert len({len(row) for row in rows}) > 1, "the test wants rows that end at different times"
    drawn = generate_batch(model, [PROMPTS[0]] * 6, 8, generator=torch.Generator().manual_seed(0))
    assert len(set(map(tuple, drawn))) == 6, "one prompt, six draws of its own"


def test_drawn_in_proportion_and_never_what_cannot_come():
    share = torch.tensor([0.0, 0.1, 0.0, 0.6, 0.3, 0.0])
    drawn = choose(share.log().repeat(20_000, 1), torch.zeros(20_000, 0).long(),
                   generator=torch.Generator().manual_seed(0)).bincount(minlength=6) / 20_000
    assert (drawn - share).abs().max() < 0.012, f"shares {share.tolist()}, drawn {drawn.tolist()}"
    assert drawn[share == 0].tolist() == [0, 0, 0], "a token of probability 0 was drawn"


def test_same_seed_same_text():
    model = small_model()
    first, second = ([*generate(model, [1], 20, generator=torch.Generator().manual_seed(3))]
                     for _ in range(2))
    other = [*generate(model, [1], 20, generator=torch.Generator().manual_seed(4))]
    assert first == second != other


def test_cache_refuses_what_does_not_fit():
    with pytest.raises(ValueError):
        small_model()(torch.zeros(1, 5, dtype=torch.long), cache=KVCache(2, 4))


def test_empty_prompt_is_an_error():
    with pytest.raises(ValueError, match="endoftext"):
        next(generate(small_model(), [], 3))


def kept(logits: torch.Tensor) -> list[list[int]]:
    """Which tokens of each row are still possible."""
    return [torch.isfinite(row).nonzero()[:, 0].tolist() for row in logits]


@pytest.mark.exercise("4.13")
@pytest.mark.parametrize("p, expected", [(0.4, [1]), (0.5, [1]), (0.6, [1, 3]), (0.79, [1, 3]),
                                         (0.85, [0, 1, 3]), (1.0, [0, 1, 2, 3])])
def test_top_p_keeps_the_smallest_set_that_reaches_p(p, expected):
    logits = torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log()
    got = kept(keep_top_p(logits, p))[0]
    assert got == expected, f"of 0.15, 0.5, 0.05, 0.3 at p = {p}: keep {expected}, got {got}"


@pytest.mark.exercise("4.13")
def test_top_p_works_row_by_row_and_keeps_the_logits():
    logits = torch.tensor([[4.0, 0.0, 0.0], [1.0, 1.0, 1.1]])
    got = keep_top_p(logits, 0.9)
    assert kept(got) == [[0], [0, 1, 2]], f"a sure and an unsure row: got {kept(got)}"
    assert torch.equal(got[1], logits[1]), "what is kept keeps its logit, in its own place"
    assert logits[0].tolist() == [4, 0, 0], "the logits that were given must not change"


@pytest.mark.exercise("4.14")
def test_repetition_penalty_lowers_both_signs_once():
    logits = torch.tensor([[2.0, -2.0, 1.0, 0.0]])
    got = penalise_repeats(logits, torch.tensor([[0, 1, 1, 0]]), 2.0).tolist()[0]
    assert got == [1.0, -4.0, 1.0, 0.0], \
        f"2 -> 1, -2 -> -4, once each, others untouched: got {got}"


@pytest.mark.parametrize("seen, size, forbidden", [
    ([5, 6, 7, 5, 6], 3, {7}), ([5, 6, 7, 5, 6, 8, 5, 6], 3, {7, 8}), ([5, 6, 7, 5, 6], 4, set()),
    ([5, 6, 7, 5, 6], 1, {5, 6, 7}), ([3, 3, 3], 2, {3}), ([3, 3], 3, set()), ([3, 3, 3], 3, {3}),
    ([1, 2, 1], 3, set()), ([], 1, set()), ([], 2, set())])
def test_no_piece_is_said_twice(seen, size, forbidden):
    logits = torch.arange(18.0).reshape(2, 9)
    rows = torch.tensor([seen, [0] * len(seen)]).long()
    got = forbid_repeats(logits, rows, size)
    assert {i for i in range(9) if got[0, i] == -math.inf} == forbidden
    assert logits.isfinite().all(), "the caller's logits were changed"
    kept = got.isfinite()
    assert (got == logits)[kept].all() and not (size <= len(seen) and got[1, 0].isfinite())
    with pytest.raises(ValueError):
        forbid_repeats(logits, rows, 0)


def test_a_model_that_says_one_thing_for_ever_stops_repeating():
    model = small_model()
    free = list(generate(model, [1], 28, temperature=0))
    kept = [1, *generate(model, [1], 28, temperature=0, no_repeat=3)]
    pieces = [tuple(kept[i:i + 3]) for i in range(len(kept) - 2)]
    assert len(set(pieces)) == len(pieces) and kept[1:] != free


@pytest.mark.exercise("4.14")
def test_repetition_penalty_per_row_and_without_changing_its_input():
    logits = torch.ones(2, 3)
    got = penalise_repeats(logits, torch.tensor([[0], [2]]), 4.0)
    got = got.tolist()
    assert got == [[0.25, 1, 1], [1, 1, 0.25]], f"each row has its own past: {got}"
    assert logits.eq(1).all(), "the logits that were given must not change"


@pytest.mark.exercise("4.16")
def test_cache_stores_after_what_is_there():
    cache = KVCache(2, 5)
    first, second = torch.arange(6.0).view(1, 1, 3, 2), 10 + torch.arange(4.0).view(1, 1, 2, 2)
    for layer in (0, 1):
        k, v = cache.extend(layer, first, -first)
        assert torch.equal(k, first) and torch.equal(v, -first), f"layer {layer}: {k.tolist()}"
    cache.advance(torch.zeros(1, 3, dtype=torch.long))
    for layer in (0, 1):
        k, v = cache.extend(layer, second, -second)
        expected = torch.cat([first, second], dim=2)
        assert torch.equal(k, expected) and torch.equal(v, -expected), \
            f"layer {layer}: the earlier three tokens, then the two new ones; got {k.tolist()}"


@pytest.mark.exercise("4.16")
def test_cache_refuses_what_does_not_fit_and_counts_only_in_advance():
    cache = KVCache(1, 4)
    k, v = cache.extend(0, torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 4, 2))
    assert k.shape == v.shape == (1, 1, 4, 2), "all 4 of 4 fit"
    assert cache.length == 0, "`length` changes in `advance`, when every layer has stored its part"
    with pytest.raises(ValueError):
        cache.extend(0, torch.zeros(1, 1, 5, 2), torch.zeros(1, 1, 5, 2))


def test_top_k_min_p_and_temperature():
    logits = torch.tensor([[0.15, 0.5, 0.05, 0.3]]).log()
    assert kept(keep_top_k(logits, 2)) == [[1, 3]]
    assert kept(keep_top_k(logits, 99)) == [[0, 1, 2, 3]], "k above V keeps all"
    assert kept(keep_min_p(logits, 0.25)) == [[0, 1, 3]], "at least a quarter of the likeliest"
    assert choose(logits, torch.zeros(1, 0).long(), temperature=0).item() == 1
    draws = torch.stack([choose(logits.repeat(2000, 1), torch.zeros(2000, 0).long(),
                                temperature=t, generator=torch.Generator().manual_seed(0))
                         for t in (0.5, 1.0)])
    share = (draws == 1).float().mean(1).tolist()
    assert share == pytest.approx([0.25 / 0.365, 0.5], abs=0.04), \
        f"temperature 0.5 squares the probabilities: {share}"


def test_a_penalty_in_a_ragged_batch_counts_no_padding():
    """Pads are nobody's words: with token 0 among the likeliest they used to be penalised."""
    model = small_model()
    for penalty in (1.5, 3.0):
        together = generate_batch(model, PROMPTS, 16, temperature=0, repetition_penalty=penalty)
        for prompt, row in zip(PROMPTS, together):
            alone = list(generate(model, prompt, 16, temperature=0, repetition_penalty=penalty))
            assert row == alone, f"penalty {penalty}, prompt {prompt}: {row} together, {alone} alone"
    with torch.no_grad():                           # and a head that likes token 0 best
        model.lm_head.weight[0] = 3 * model.lm_head.weight[1:].abs().amax(0)
    together = generate_batch(model, PROMPTS, 4, temperature=0, repetition_penalty=1.5)
    assert together == [[*generate(model, p, 4, temperature=0, repetition_penalty=1.5)]
                        for p in PROMPTS]


def test_an_empty_prompt_in_a_batch_is_an_error():
    with pytest.raises(ValueError, match="nothing to continue"):
        generate_batch(small_model(), [[1, 2], []], 3)


@pytest.mark.exercise("4.13")
def test_top_p_at_its_edges():
    logits = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0)) * 4
    for p in (0.0, 1e-9):
        kept = keep_top_p(logits, p).isfinite()
        assert (kept.sum(1) == 1).all() and (kept.float().argmax(1) == logits.argmax(1)).all(), \
            f"p = {p}: the likeliest token stays, and no other"
    kept = keep_top_p(logits, 1.0).isfinite().sum(1).tolist()
    assert kept == [1000] * 3, f"p = 1 leaves nothing out, kept {kept} of 1000"


def test_options_at_their_edges():
    logits, seen = torch.tensor([[1.0, 3.0, 2.0], [5.0, -40.0, 4.999]]), torch.zeros(2, 1).long()
    best = logits.argmax(1)
    for options in (dict(temperature=1e-38), dict(temperature=1e-40), dict(temperature=5e-324),
                    dict(top_k=1), dict(top_p=0.0), dict(min_p=1.0), dict(min_p=7.0)):
        drawn = choose(logits, seen, **options)
        assert torch.equal(drawn, best), f"{options}: {drawn.tolist()} instead of {best.tolist()}"
    assert choose(logits * 1e30, seen, temperature=1e-5).tolist() == best.tolist()
    for wrong in (dict(top_k=0), dict(top_k=-1), dict(temperature=-1.0),
                  dict(temperature=float("nan")), dict(repetition_penalty=0.0)):
        with pytest.raises(ValueError):
            choose(logits, seen, **wrong)


@pytest.mark.parametrize("peak", [0.1, 3, 30])
def test_top_p_of_a_large_vocabulary_is_top_p(peak):
    """Flat rows need the whole order, peaked ones a few tokens; a batch may hold both."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 3000, generator=g) * torch.tensor([[1.0], [peak], [peak / 3]])
    for p in (0.0, 0.5, 0.95, 1.0):
        assert torch.equal(keep_top_p_of_many(logits, p), keep_top_p(logits, p)), f"p {p}"
        assert torch.equal(keep_top_p_of_many(logits[1:], p), keep_top_p(logits[1:], p)), f"p {p}"
