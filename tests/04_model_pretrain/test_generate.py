"""generate.py: cache equal to no cache, ragged equal to alone, each filter by hand."""

import pytest
import torch


from generate import KVCache, choose, generate, generate_batch
from gpt import GPT, GPT2, GPTConfig

torch.set_num_threads(1)
VARIANTS = {"default": {}, "gpt2": GPT2, "llama": dict(mlp="swiglu", kv_heads=2,
                                                       ngram_rows=50)}
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


def test_same_seed_same_text():
    model = small_model()
    first, second = ([*generate(model, [1], 20, generator=torch.Generator().manual_seed(3))]
                     for _ in range(2))
    other = [*generate(model, [1], 20, generator=torch.Generator().manual_seed(4))]
    assert first == second != other


def test_cache_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="do not fit"):
        small_model()(torch.zeros(1, 5, dtype=torch.long), cache=KVCache(2, 4))


def test_empty_prompt_is_an_error():
    with pytest.raises(ValueError, match="endoftext"):
        next(generate(small_model(), [], 3))
