"""Split models: equal to one process, traffic as the formulas say, schedules as printed."""

import functools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import collectives
import equality
import pipeline_parallel
import tensor_parallel
from gloo_ranks import run_ranks
from gpt import GPT, GPTConfig

torch.set_num_threads(1)
TINY = equality.TINY


@functools.cache
def trained(method, ranks):
    return run_ranks(equality.train_model_parallel, ranks, method, ranks)


@pytest.mark.parametrize("method, ranks", [
    ("tensor", 2), ("tensor", 4), ("sequence", 2), ("gpipe", 2), ("1f1b", 2),
    ("ddp x tensor", 4), ("ddp x 1f1b", 4)])
def test_a_split_model_trains_as_one_process_does(method, ranks):
    results = trained(method, ranks)
    names = set().union(*(r["weights"] for r in results))
    assert names == {n for n, _ in equality.seed_model().named_parameters()}, "a weight is missing"
    gap = equality.gaps(results, *equality.train_alone())
    assert gap["loss_gap"] <= 1e-6 and gap["weight_gap"] <= 1e-5, f"{method} on {ranks}: {gap}"


@pytest.mark.parametrize("method", ["tensor", "sequence", "1f1b"])
def test_other_choices_of_chapter_4_split_as_well(method):
    config = replace(TINY, mix_previous=True, mlp="squared_relu", bias=True, norm="layer",
                     tied=method != "1f1b", qk_norm=False)
    results = run_ranks(equality.train_model_parallel, 2, method, 2, 3, config)
    gap = equality.gaps(results, *equality.train_alone(3, config))
    # The gradient of a key's bias is nothing but rounding, and Adam brings it to the size of a step:
    # 1.2e-5 on a processor with wider vectors.
    assert gap["loss_gap"] <= 1e-6 and gap["weight_gap"] <= 3e-5, f"{method}: {gap}"


@pytest.mark.parametrize("ranks", [2, 4])
def test_tensor_parallel_sends_four_all_reduces_a_layer(ranks):
    activation = 8 * TINY.sequence_length * TINY.width * 4          # (B, T, C) in fp32
    calls = trained("tensor", ranks)[0]["calls"]
    big = [c for c in calls if c.payload == activation]
    # Two forward and two backward a layer; one for the embedding, one before the head.
    assert len(big) == 4 * TINY.layers + 2, f"{len(big)} all-reduces of (B, T, C)"
    assert {c.name for c in calls} == {"all_reduce"}
    one = collectives.ring_bytes("all_reduce", activation, ranks)
    assert all(c.sent == one for c in big)


def test_sequence_parallel_sends_the_same_bytes_in_halves():
    activation = 8 * TINY.sequence_length * TINY.width * 4
    sent = {m: sum(c.sent for c in trained(m, 2)[0]["calls"] if c.payload == activation)
            for m in ("tensor", "sequence")}
    # All layers cost the same; the embedding's split adds one gathering in backward.
    assert sent["sequence"] == sent["tensor"] + activation / 2, sent
    names = {c.name for c in trained("sequence", 2)[0]["calls"] if c.payload == activation}
    assert {"all_gather", "reduce_scatter"} <= names


@pytest.mark.exercise("7.14")
@pytest.mark.parametrize("name, want", [
    ("blocks.0.attention.query.weight", 0), ("blocks.3.attention.key.bias", 0),
    ("blocks.0.mlp.gate.weight", 0), ("blocks.0.mlp.up.bias", 0),
    ("blocks.0.attention.out.weight", 1), ("blocks.0.mlp.down.weight", 1),
    ("blocks.0.mlp.down.bias", None), ("blocks.0.attention.q_norm.weight", None),
    ("blocks.0.mlp_norm.weight", None), ("embedding.weight", 0), ("lm_head.weight", 0),
    ("final_norm.weight", None), ("previous_share", None), ("ngram_embedding.up.weight", None)])
def test_split_dimensions(name, want):
    got = tensor_parallel.split_dimension(name)
    assert got == want and got is not True and got is not False, (
        f"{name}: expected {want}, got {got} (weights are stored (out, in))")


def test_a_broken_row_reaches_its_own_tokens_only():
    rows = torch.tensor([[float("nan")], [7.0]])
    got = tensor_parallel.lookup_own_rows(torch.tensor([[0, 3, 9]]), rows, 2)
    assert got.tolist() == [[[0.0], [7.0], [0.0]]], f"nan times 0 is nan: {got}"


@pytest.mark.exercise("7.15")
def test_shares_of_an_embedding_add_up_to_the_whole():
    table = torch.arange(1.0, 13).view(6, 2).requires_grad_()
    ids = torch.tensor([[0, 5, 2], [3, 3, 1]])
    parts = [tensor_parallel.lookup_own_rows(ids, table[a:a + 2], a) for a in (0, 2, 4)]
    for first, part in zip((0, 2, 4), parts):
        foreign = (ids < first) | (ids >= first + 2)
        assert not part[foreign].any(), f"tokens of other ranks must be zero here: {part}"
    assert torch.equal(sum(parts), F.embedding(ids, table)), "the sum is the embedding"
    parts[1].sum().backward()
    assert table.grad[:, 0].tolist() == [0, 0, 1, 2, 0, 0], f"own rows only: {table.grad}"


def split_loss_of_a_broken_row(rank):
    logits = torch.tensor([[float("nan")] * 2, [1.0, 2.0]], requires_grad=True)
    loss = tensor_parallel.VocabCrossEntropy.apply(logits, torch.tensor([-100, 1]), None)
    loss.backward()
    return loss.item(), logits.grad.isfinite().all().item(), logits.grad[0].any().item()


def test_a_row_that_does_not_count_has_no_gradient_whatever_stands_in_it():
    for loss, finite, any_gradient in run_ranks(split_loss_of_a_broken_row, 2):
        assert math.isfinite(loss) and finite and not any_gradient


def split_loss(rank):
    logits = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)) * 300
    part = logits.chunk(2, 1)[rank].clone().requires_grad_()
    loss = tensor_parallel.VocabCrossEntropy.apply(part, torch.tensor([0, 7, -100, 3, 4]), None)
    loss.backward()
    return loss.item(), part.grad


def test_cross_entropy_over_a_split_vocabulary():
    logits = (torch.randn(5, 8, generator=torch.Generator().manual_seed(0)) * 300).requires_grad_()
    want = F.cross_entropy(logits, torch.tensor([0, 7, -100, 3, 4]))
    want.backward()
    (loss, left), (again, right) = run_ranks(split_loss, 2)
    assert loss == again and abs(loss - want.item()) < 1e-4 * want.item()
    assert torch.allclose(torch.cat([left, right], 1), logits.grad, rtol=0, atol=1e-6)


def foreign_tokens(rank):
    ids = torch.tensor([[1, 2, 3]])
    split = tensor_parallel.TensorParallelGPT(GPT(TINY))
    for token in (TINY.vocab_size, -1, -100):
        with pytest.raises(IndexError, match="out of bounds"):
            split(torch.tensor([[1, token, 2]]), ids)
    with pytest.raises(ValueError, match="3 positions do not split over 2 ranks"):
        tensor_parallel.TensorParallelGPT(GPT(TINY), sequence=True)(ids, ids)


def test_tokens_that_nobody_has_and_positions_that_do_not_split_are_refused():
    run_ranks(foreign_tokens, 2)


def impossible(rank):
    with pytest.raises(ValueError, match="heads 3 does not split over 2"):
        tensor_parallel.TensorParallelGPT(GPT(GPTConfig(vocab_size=8, width=12, heads=3, layers=1)))


def test_what_cannot_be_split_is_refused():
    run_ranks(impossible, 2)
    with pytest.raises(ValueError, match="tied"):
        pipeline_parallel.cut_stage(GPT(replace(TINY, tied=True)), 0, 2)
    with pytest.raises(ValueError, match="2 layers do not split into 3"):
        pipeline_parallel.cut_stage(GPT(TINY), 0, 3)


@pytest.mark.exercise("7.16")
def test_gpipe_by_hand():
    want = [("F", 0), ("F", 1), ("B", 1), ("B", 0)]
    assert pipeline_parallel.gpipe(2, 2) == [want, want], pipeline_parallel.gpipe(2, 2)


def text(order):
    return " ".join(f"{action}{micro}" for action, micro in order)


@pytest.mark.exercise("7.17")
def test_one_f_one_b_by_hand():
    made = [text(order) for order in pipeline_parallel.one_f_one_b(3, 4)]
    assert made == ["F0 F1 F2 B0 F3 B1 B2 B3", "F0 F1 B0 F2 B1 F3 B2 B3",
                    "F0 B0 F1 B1 F2 B2 F3 B3"], made
    few = [text(order) for order in pipeline_parallel.one_f_one_b(4, 2)]
    assert few[0] == "F0 F1 B0 B1", f"no more warm-up than there are micro-batches: {few[0]}"


@pytest.mark.exercise("7.18")
def test_live_micro_batches():
    for string, want in (("", 0), ("F0 F1 B1 B0", 2), ("F0 B0 F1 B1", 1),
                         ("F0 F1 B0 F2 B1 F3 B2 B3", 2), ("F0 F1 F2 B2 B1 B0 F3 B3", 3)):
        got = pipeline_parallel.live_micros([(w[0], int(w[1:])) for w in string.split()])
        assert got == want, f"{string!r} holds {want} at once, got {got}"


def test_the_schedule_as_text():
    drawn = pipeline_parallel.draw(pipeline_parallel.one_f_one_b(2, 3)).split("\n")
    assert drawn[0] == "stage 0 | 0 1 . .b0b0 2b1b1 .b2b2  live 2", drawn[0]
    assert drawn[1] == "stage 1 | . 0b0b0 1b1b1 2b2b2  live 1", drawn[1]


@pytest.mark.parametrize("micros", [3, 12, 120])
def test_columns_of_the_drawing_stay_in_line(micros):
    lines = pipeline_parallel.draw(pipeline_parallel.gpipe(2, micros)).splitlines()[:2]
    wide, ticks = 1 + len(str(micros - 1)), 3 * micros
    first, second = (line.split("|")[1].split("  live")[0] for line in lines)
    for tick in range(micros):          # stage 1 works one tick behind
        assert first[wide * tick:wide * (tick + 1)].strip() == str(tick), lines[0]
        assert second[wide * (tick + 1):wide * (tick + 2)].strip() == str(tick), lines[1]
    assert len(second) == wide * (ticks + 1), "no cell is wider than the others"


@pytest.mark.parametrize("make", [pipeline_parallel.gpipe, pipeline_parallel.one_f_one_b])
@pytest.mark.parametrize("p, m", [(1, 3), (2, 4), (4, 8), (4, 2), (3, 3)])
def test_bubble_and_live_micro_batches_are_the_formulas(make, p, m):
    schedule = make(p, m)
    assert abs(pipeline_parallel.bubble(schedule) - (p - 1) / (m + p - 1)) < 1e-12
    live = [pipeline_parallel.live_micros(order) for order in schedule]
    want = [m] * p if make is pipeline_parallel.gpipe else [min(p - s, m) for s in range(p)]
    assert live == want, f"{make.__name__}({p}, {m}): live {live}, formula {want}"


def test_live_micro_batches_really_held():
    assert [r["live"] for r in trained("gpipe", 2)] == [4, 4]
    assert [r["live"] for r in trained("1f1b", 2)] == [2, 1]


def test_pipeline_sends_each_activation_once_each_way():
    activation = 8 * TINY.sequence_length * TINY.width * 4
    for r in trained("1f1b", 2):
        assert collectives.sent_bytes(r["calls"]) == activation and len(r["calls"]) == 4


def test_a_schedule_that_would_wait_for_ever_is_refused():
    with pytest.raises(ValueError, match="waits for ever"):
        pipeline_parallel.simulate([[("B", 0), ("F", 0)]])
