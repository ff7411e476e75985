"""optimizers.py against torch's own for 20 steps, tables worked by hand, and properties."""

import math

import pytest
import torch

import optimizers
from optimizers import (AdamW, Muon, clip_gradients, cosine_schedule, linear_schedule,
                        orthogonalise)

torch.set_num_threads(1)


def train_twice(ours, theirs, shape, steps=20):
    """Two equal parameters under two optimizers, the same gradients; the largest gap by step."""
    generator = torch.Generator().manual_seed(0)
    first = torch.nn.Parameter(torch.randn(shape, generator=generator))
    second = torch.nn.Parameter(first.detach().clone())
    a, b = ours([first]), theirs([second])
    gaps = []
    for step in range(steps):
        # gradients of very different sizes, so that bias correction and eps show
        gradient = torch.randn(shape, generator=generator) * 10.0 ** (step % 4 - 3)
        first.grad, second.grad = gradient.clone(), gradient.clone()
        a.step()
        b.step()
        gaps.append((first - second).abs().max().item())
    return gaps


@pytest.mark.exercise("4.7")
def test_adamw_equals_torch_for_20_steps():
    options = dict(lr=1e-2, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.3)
    gaps = train_twice(lambda p: AdamW(p, **options), lambda p: torch.optim.AdamW(p, **options),
                       (7, 5))
    worst = max(range(20), key=lambda i: gaps[i])
    assert gaps[worst] < 2e-6, (f"differs from torch.optim.AdamW by {gaps[worst]:.1e} at step "
                                f"{worst + 1} (step 1: {gaps[0]:.1e}): bias correction, eps or "
                                "the decay that must not pass through the moments?")


@pytest.mark.exercise("4.7")
def test_adamw_first_step_is_the_rate_whatever_the_gradient():
    p = torch.nn.Parameter(torch.zeros(3))
    p.grad = torch.tensor([1e-4, 1.0, -1e4])
    AdamW([p], lr=0.1, eps=1e-12).step()
    assert p.tolist() == pytest.approx([-0.1, -0.1, 0.1], abs=1e-5), \
        f"the first step should be -lr * sign(gradient), got {p.tolist()}"


@pytest.mark.exercise("4.7")
def test_adamw_leaves_parameters_without_gradient_alone():
    p = torch.nn.Parameter(torch.ones(2))
    AdamW([p], lr=0.1, weight_decay=0.5).step()
    assert p.tolist() == [1, 1], "no gradient: not even decay may touch the parameter"


@pytest.mark.exercise("4.8")
@pytest.mark.parametrize("shape", [(16, 16), (32, 8), (8, 32)])
def test_orthogonalise_keeps_directions_and_evens_sizes(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    got = orthogonalise(matrix, steps=5, dtype=torch.float32)
    assert got.shape == matrix.shape, f"shape {tuple(got.shape)} for a matrix {shape}"
    sizes = torch.linalg.svdvals(got)
    assert 0.3 < sizes.min() and sizes.max() < 1.3, \
        f"{shape}: singular values should be near 1, are {sizes.min():.2f} to {sizes.max():.2f}"
    U, _, Vh = torch.linalg.svd(matrix, full_matrices=False)
    cosine = (got * (U @ Vh)).sum() / got.norm() / (U @ Vh).norm()
    assert cosine > 0.95, f"{shape}: the singular vectors changed (cosine {cosine:.2f} with U V^T)"


@pytest.mark.exercise("4.8")
def test_orthogonalise_one_step_by_hand():
    """Of a multiple of the identity: a polynomial of one number. 5 I / |5 I| = I / sqrt 2."""
    s = 1 / math.sqrt(2)
    expected = 3.4445 * s - 4.7750 * s ** 3 + 2.0315 * s ** 5
    got = orthogonalise(5 * torch.eye(2), steps=1, dtype=torch.float32)
    assert torch.allclose(got, expected * torch.eye(2), atol=1e-4), \
        f"expected {expected:.4f} on the diagonal, got {got.tolist()}"


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon to compare")
@pytest.mark.parametrize("shape", [(12, 12), (24, 6), (6, 24)])
def test_muon_equals_torch_for_20_steps(shape):
    options = dict(lr=0.02, momentum=0.9, weight_decay=0.1)
    gaps = train_twice(lambda p: Muon(p, **options),
                       lambda p: torch.optim.Muon(p, nesterov=True, **options), shape)
    # both orthogonalise in 16 bits; a missing sqrt(rows / columns) would differ by 0.2
    assert max(gaps) < 0.01, (f"{shape}: differs from torch.optim.Muon by {max(gaps):.3f} (step 1: "
                              f"{gaps[0]:.4f}): look-ahead, scale of tall matrices, decay?")


@pytest.mark.skipif(not torch.__version__.startswith("2.13."), reason="said of torch 2.13 only")
def test_the_way_in_says_to_the_bit():
    """torch 2.13 on the CPU, 10 steps: AdamW (not fused) and Muon end in the very same bits."""
    rates = dict(lr=0.02, weight_decay=0.1)
    for ours, theirs, shapes, options in (
            (AdamW, torch.optim.AdamW, [(33, 17)], dict(betas=(0.9, 0.95), eps=1e-8)),
            (Muon, torch.optim.Muon, [(64, 16), (16, 64)], dict(momentum=0.95))):
        for shape in shapes:
            gaps = train_twice(lambda p: ours(p, **rates, **options),
                               lambda p: theirs(p, **rates, **options), shape, steps=10)
            assert max(gaps) == 0.0, f"{ours.__name__} {shape}: {max(gaps):.1e} from torch's"


@pytest.fixture
def fixed_direction(monkeypatch):
    """orthogonalise replaced by one that notes what it is given and always answers with ones."""
    given = []

    def note(matrix, steps=5, dtype=torch.float32):
        given.append(matrix.clone())
        return torch.ones_like(matrix)
    monkeypatch.setattr(optimizers, "orthogonalise", note)
    return given


@pytest.mark.exercise("4.9")
def test_muon_orthogonalises_the_look_ahead_momentum(fixed_direction):
    """For a constant gradient g the look-ahead at step t is (1 - mu^(t+1)) g."""
    p, g = torch.nn.Parameter(torch.zeros(2, 2)), torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    optimizer = Muon([p], lr=0.1, momentum=0.8)
    for t in range(1, 4):
        p.grad = g.clone()
        optimizer.step()
        share = (fixed_direction[-1] / g).mean().item()
        assert share == pytest.approx(1 - 0.8 ** (t + 1), abs=1e-5), \
            (f"step {t}: orthogonalise should get (1 - 0.8^{t + 1}) g = {1 - 0.8 ** (t + 1):.4f} g,"
             f" got {share:.4f} g (momentum without look-ahead would be {1 - 0.8 ** t:.4f} g)")


@pytest.mark.exercise("4.9")
@pytest.mark.parametrize("shape, scale", [((4, 4), 1), ((8, 2), 2), ((2, 8), 1)])
def test_muon_scales_tall_matrices_and_decays(fixed_direction, shape, scale):
    p = torch.nn.Parameter(torch.full(shape, 10.0))
    p.grad = torch.ones(shape)
    Muon([p], lr=0.1, weight_decay=0.5).step()
    expected = 10 * (1 - 0.1 * 0.5) - 0.1 * scale
    assert p.detach().flatten().tolist() == pytest.approx([expected] * p.numel(), abs=1e-5), \
        (f"{shape}: 10 decayed by 1 - lr wd, less lr * sqrt(max(1, rows / columns)) = "
         f"{0.1 * scale}: expected {expected}, got {p[0, 0].item():.4f}")


@pytest.mark.exercise("4.9")
def test_muon_leaves_matrices_without_gradient_alone(fixed_direction):
    p = torch.nn.Parameter(torch.ones(2, 2))
    Muon([p], lr=0.1, weight_decay=0.5).step()
    assert p.detach().flatten().tolist() == [1.0] * 4, "no gradient: not even decay"


def test_muon_refuses_vectors():
    with pytest.raises(ValueError, match="AdamW"):
        Muon([torch.nn.Parameter(torch.ones(3))])


@pytest.mark.exercise("4.4")
def test_cosine_schedule_by_hand():
    table = {0: 0.5, 1: 1.0, 2: 1.0, 6: 0.55, 10: 0.1, 12: 0.1}
    for step, expected in table.items():
        got = cosine_schedule(step, 10, warmup=2, floor=0.1)
        assert got == pytest.approx(expected, abs=1e-9), \
            f"step {step} of 10, warm-up 2, floor 0.1: expected {expected}, got {got}"
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(
        torch.optim.SGD([torch.zeros(1)], lr=1.0), T_max=7)
    for step in range(7):
        assert cosine_schedule(step, 7) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        theirs.optimizer.step()
        theirs.step()


@pytest.mark.exercise("4.5")
def test_linear_schedule_by_hand():
    table = {0: 0.25, 3: 1.0, 4: 1.0, 10: 1.0, 15: 1.0, 16: 0.8, 19: 0.2, 20: 0.0, 30: 0.0}
    for step, expected in table.items():
        got = linear_schedule(step, 20, warmup=4, warmdown=0.25)
        assert got == pytest.approx(expected, abs=1e-9), \
            f"step {step} of 20, warm-up 4, warm-down 0.25: expected {expected}, got {got}"
    assert linear_schedule(5, 10) == pytest.approx(0.5), "by default it falls from the start"


@pytest.mark.exercise("4.6")
def test_clipping_nothing():
    assert float(clip_gradients([torch.nn.Parameter(torch.ones(2))], 1.0)) == 0, \
        "parameters without gradients have a joint length of 0"


@pytest.mark.exercise("4.6")
def test_clipping_equals_torch_and_uses_one_joint_length():
    for limit in (0.5, 100.0):
        pair = []
        for clip in (clip_gradients, torch.nn.utils.clip_grad_norm_):
            parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
            for p, g in zip(parameters, ([3.0, 0.0], [0.0, 4.0], None)):
                p.grad = torch.tensor(g) if g else None
            norm = float(clip(parameters, limit))
            pair.append((norm, [p.grad.tolist() for p in parameters[:2]]))
        (norm, ours), (_, theirs) = pair
        assert norm == pytest.approx(5.0, abs=1e-5), \
            f"gradients (3, 0) and (0, 4) have joint length 5 before clipping, got {norm}"
        assert sum(ours, []) == pytest.approx(sum(theirs, []), abs=1e-5), \
            f"limit {limit}: torch makes them {theirs}, got {ours}"


@pytest.mark.exercise("4.7")
def test_lazy_rows_equal_torch_sparse_adam():
    generator = torch.Generator().manual_seed(0)
    first = torch.nn.Parameter(torch.randn(9, 4, generator=generator))
    second = torch.nn.Parameter(first.detach().clone())
    ours = AdamW([first], lr=1e-2, betas=(0.9, 0.99), lazy=True)
    theirs = torch.optim.SparseAdam([second], lr=1e-2, betas=(0.9, 0.99))
    for step in range(20):
        gradient = torch.zeros(9, 4)
        gradient[step % 3 + 2] = torch.randn(4, generator=generator)
        first.grad, second.grad = gradient, gradient.to_sparse(1)
        ours.step()
        theirs.step()
    gap = (first - second).abs().amax(dim=1)
    assert gap.max() < 1e-6, (f"rows differ from torch.optim.SparseAdam by {gap.tolist()}: rows "
                              "2 to 4 had gradients, the others must not move at all")


@pytest.mark.parametrize("wrong", [-1.0, float("nan")])
def test_a_length_below_zero_does_not_turn_the_gradients_round(wrong):
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.tensor([3.0, 4.0])
    with pytest.raises(ValueError):
        clip_gradients([p], wrong)
    assert p.grad.tolist() == [3, 4]


def test_a_single_tensor_is_one_parameter():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients(p, 1.0) == 5 and abs(p.grad.norm() - 1) < 1e-5, "not its rows"


def test_muon_refuses_a_vector_that_is_added_later():
    muon = Muon([torch.nn.Parameter(torch.ones(2, 2))])
    with pytest.raises(ValueError, match="belongs to AdamW"):
        muon.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})


def test_clipping_nothing_is_a_length_of_zero():
    assert clip_gradients([torch.nn.Parameter(torch.ones(2))], 1.0) == 0


@pytest.mark.exercise("4.8")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalise_does_not_care_for_the_size(dtype):
    """Late gradients are small: 1e-9 of a matrix has the same directions as the matrix."""
    g = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    g /= g.norm()
    sizes = {scale: orthogonalise(g * scale, dtype=dtype).float().norm().item()
             for scale in (1.0, 1e-9, 1e-10, 1e-30, 1e30, 2e38)}
    for scale, size in sizes.items():
        assert size == pytest.approx(sizes[1.0], rel=0.02), \
            f"{scale:g} times the matrix: norm {size:.2f} instead of {sizes[1.0]:.2f}"
    assert not orthogonalise(torch.zeros(3, 5)).any(), "zero stays zero"


@pytest.mark.exercise("4.8")
@pytest.mark.parametrize("shape", [(3, 8, 12), (2, 12, 5)])
def test_a_stack_is_orthogonalised_matrix_by_matrix(shape):
    stack = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    stack[1] *= 1e-3
    got = orthogonalise(stack, dtype=torch.float32)
    for i, matrix in enumerate(stack):
        gap = (got[i] - orthogonalise(matrix, dtype=torch.float32)).abs().max().item()
        assert gap < 1e-4, f"matrix {i} of the stack is {gap:.2f} off what it gives alone"


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon to compare")
def test_muon_is_torchs_to_the_bit():
    for shape in ((64, 16), (16, 64), (32, 32)):
        gaps = train_twice(lambda p: Muon(p, lr=0.02, momentum=0.95),
                           lambda p: torch.optim.Muon(p, lr=0.02, momentum=0.95, weight_decay=0.0),
                           shape, steps=5)
        assert max(gaps) == 0, f"{shape}: {max(gaps):.1e} from torch {torch.__version__}"


def test_muon_trains_a_stack_as_it_trains_each():
    generator = torch.Generator().manual_seed(0)
    stack = torch.nn.Parameter(torch.randn(3, 8, 4, generator=generator))
    alone = [torch.nn.Parameter(m.clone()) for m in stack.detach()]
    both = Muon([stack], weight_decay=0.1), Muon(alone, weight_decay=0.1)
    for _ in range(3):
        stack.grad = torch.randn(3, 8, 4, generator=generator)
        for p, g in zip(alone, stack.grad):
            p.grad = g.clone()
        for optimizer in both:
            optimizer.step()
    gap = (stack - torch.stack(list(alone))).abs().max().item()
    assert gap < 2e-3, f"a stack of three differs by {gap:.3f} from its three matrices alone"


@pytest.mark.parametrize("foreach", [False, True])
def test_adamw_is_torchs_to_the_bit(foreach):
    """Of torch 2.13's three forms two are ours, bit for bit; the fused one rounds otherwise."""
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(33, 17))
    theirs = torch.nn.Parameter(ours.detach().clone())
    options = dict(lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    mine, torchs = AdamW([ours], **options), torch.optim.AdamW([theirs], foreach=foreach, **options)
    for step in range(10):
        ours.grad = torch.randn(33, 17, generator=torch.Generator().manual_seed(step))
        theirs.grad = ours.grad.clone()
        mine.step()
        torchs.step()
        assert torch.equal(ours, theirs), f"step {step + 1}: {(ours - theirs).abs().max():.1e} apart"


@pytest.mark.parametrize("optimizer", [AdamW, Muon])
@pytest.mark.parametrize("setting", [dict(lr=-1.0), dict(lr=math.nan), dict(weight_decay=-0.1),
                                     dict(lr=math.inf)])
def test_a_rate_that_is_none_is_refused(optimizer, setting):
    with pytest.raises(ValueError, match=f"{[*setting][0]} is "):
        optimizer([torch.nn.Parameter(torch.ones(2, 2))], **setting)


@pytest.mark.parametrize("make", [
    lambda p: AdamW(p, betas=(0.9, 1.0)), lambda p: AdamW(p, betas=(-0.1, 0.9)),
    lambda p: Muon(p, momentum=1.0), lambda p: Muon(p, momentum=math.nan)])
def test_a_mean_that_takes_nothing_in_is_refused(make):
    with pytest.raises(ValueError, match="below 1"):
        make([torch.nn.Parameter(torch.ones(2, 2))])
