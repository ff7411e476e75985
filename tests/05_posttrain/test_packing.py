"""packing.py: packed equals alone."""

import pytest
import torch

from packing import best_fit, block_mask, packed_batch


@pytest.mark.exercise("5.3")
def test_best_fit_by_hand():
    lengths = [3, 6, 4, 7]
    assert best_fit(lengths, 10) == [[3, 0], [1, 2]], "7 + 3 and 6 + 4 fill two bins"
    assert lengths == [3, 6, 4, 7], f"the caller's list was changed to {lengths}"


@pytest.mark.exercise("5.3")
def test_best_fit_takes_the_fullest_bin_that_has_room():
    # After 6, 5: room 4 and 5. The 4 belongs into room 4; the first-fit and the emptiest differ.
    assert best_fit([5, 6, 4], 10) == [[1, 2], [0]], "6 + 4 leaves the 5 of room for others"
    assert best_fit([6, 5, 5, 4], 10) == [[0, 3], [1, 2]]
    assert best_fit([12, 10, 9, 1], 20) == [[0], [1, 2, 3]], \
        "the 1 belongs to 10 + 9 (room 1), not to the 12 before it (room 8): that is first fit"
    assert best_fit([8, 7, 2, 3], 10) == [[0, 2], [1, 3]], "3 first, into the room of 3"


@pytest.mark.exercise("5.3")
def test_best_fit_keeps_everything_once_and_overfills_nothing():
    g = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, 60, (200,), generator=g).tolist()
    bins = best_fit(lengths, 64)
    assert sorted(i for b in bins for i in b) == list(range(200)), "each item in exactly one bin"
    assert max(sum(lengths[i] for i in b) for b in bins) <= 64, "a bin is overfull"
    assert len(bins) <= 1.1 * sum(lengths) / 64 + 1, f"{len(bins)} bins: sort by length first"


@pytest.mark.exercise("5.3")
def test_best_fit_names_what_is_too_long():
    with pytest.raises(ValueError, match=r"\b1\b"):
        best_fit([3, 11], 10)
    assert best_fit([10], 10) == [[0]], "exactly full is not too long"


@pytest.mark.exercise("5.4")
def test_block_mask_by_hand():
    got = block_mask(torch.tensor([[0, 0, 1]]))
    assert got.shape == (1, 1, 3, 3) and got.dtype == torch.bool
    assert got[0, 0].tolist() == [[True, False, False], [True, True, False], [False, False, True]]


@pytest.mark.exercise("5.4")
def test_block_mask_never_crosses_never_looks_ahead_never_is_empty():
    numbers = torch.tensor([[0, 0, 1, 1, 1, -1, -1], [0, 1, 2, 3, -1, -1, -1]])
    got = block_mask(numbers)[:, 0]
    for b in range(2):
        for q in range(7):
            for k in range(7):
                want = numbers[b, q] == numbers[b, k] and k <= q
                assert bool(got[b, q, k]) == bool(want), \
                    f"row {b}: token {q} {'must not' if not want else 'must'} see token {k}"
    assert got.any(-1).all(), "a query that sees nothing gives nan"


ROWS = [([65, 66, 67, 68, 69], [0, 0, 1, 1, 1]), ([70, 71, 72], [0, 1, 1]),
        ([73, 74, 75, 76], [0, 0, 0, 1]), ([77, 78], [0, 1])]


def packed_logits(model, rows):
    ids, mask, positions, numbers = packed_batch(rows, 9, 132)
    logits, _ = model(ids, positions=positions, mask=block_mask(numbers))
    return logits, ids, numbers


def test_packed_logits_equal_unpacked(tiny_model):
    logits, ids, numbers = packed_logits(tiny_model, ROWS)
    assert len(ids) == 2, "14 tokens fit two rows of 9"
    found = 0
    for row_ids, _ in ROWS:
        alone, _ = tiny_model(torch.tensor([row_ids]))
        for b in range(len(ids)):
            for number in range(int(numbers[b].max()) + 1):
                here = numbers[b] == number
                if ids[b, here].tolist() == row_ids:
                    gap = (logits[b, here] - alone[0]).abs().max()
                    assert gap < 1e-5, f"{row_ids}: packed logits differ by {gap:.2e}: a leak"
                    found += 1
    assert found == len(ROWS)


def test_a_changed_neighbour_changes_nothing(tiny_model):
    before, ids, _ = packed_logits(tiny_model, ROWS)
    changed = [([99] * len(r[0]), r[1]) if r is ROWS[0] else r for r in ROWS]
    after, ids_after, _ = packed_logits(tiny_model, changed)
    same = ids == ids_after
    assert same.any() and not same.all()
    assert (before - after)[same].abs().max() == 0, "a neighbour's words reached this answer"


def test_packed_equals_unpacked_where_keys_come_a_token_late():
    """A head with late keys sees the token after the one that its key is of: at the border of two
    conversations that would be the neighbour's."""
    from gpt import GPT, GPTConfig
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=133, sequence_length=64, layers=2, width=32, heads=4, tied=True,
                          late_keys=True, ngram_rows=512)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    test_packed_logits_equal_unpacked(model)
    test_a_changed_neighbour_changes_nothing(model)
