"""The optimizers, written out: AdamW, Muon, two schedules, clipping. Equal to torch's own.

    muon = Muon(matrices, lr=0.02)
    adamw = AdamW(others, lr=3e-3, betas=(0.9, 0.95))

AdamW treats a matrix as a heap of independent numbers. Muon treats it as a matrix: it makes the
step turn all directions by the same amount, which small and rare directions profit from most.
But: no fused kernels. torch's `fused=True` AdamW does the same arithmetic in fewer passes.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def called(closure: Callable[[], Tensor] | None) -> Tensor | None:
    """The loss of a closure that computes it and its gradients, as torch's optimizers take one."""
    if closure is None:
        return None
    with torch.enable_grad():       # `step` itself runs without
        return closure()


def check_not_negative(**settings: float) -> None:
    """ValueError naming the first setting that is below 0, infinite, or no number."""
    for name, value in settings.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}: it must be 0 or more, and finite")


def check_shares(**settings: float) -> None:
    """ValueError naming the first share of a running mean that is not in [0, 1): at 1 the mean
    never takes in a gradient, and its correction 1 - b^t divides by 0."""
    for name, value in settings.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} is {value}: it must be at least 0 and below 1")


class AdamW(torch.optim.Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    A group with `lazy=True` holds tables of rows: rows without a gradient are left alone, as
    torch.optim.SparseAdam does. A table of 65,536 rows of which a batch reads 5,000 then costs
    13 times less; and a rare row keeps its momentum until it is needed again.
    """

    def __init__(self, params, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.95),
                 eps: float = 1e-8, weight_decay: float = 0.0, lazy: bool = False) -> None:
        check_not_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        check_shares(beta1=betas[0], beta2=betas[1])
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay,
                                      lazy=lazy))

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One update, in place, of every parameter that has a gradient; gives what `closure` gave.

        A closure, if there is one, is called first, with gradients on: it computes them anew.
        With step count t (from 1), gradient g, rate lr and decay wd, per parameter:
        p <- p (1 - lr wd);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
        p <- p - lr m_hat / (sqrt(v_hat) + eps), m_hat = m / (1 - b1^t), v_hat = v / (1 - b2^t).
        The first step moves every number by about lr, whatever the size of its gradient. t counts
        the steps of THIS parameter. Every group has options of its own; gradients stay as they are.
        t, m and v are kept in `self.state[p]`, as `step`, `m` and `v`: so `state_dict` has them.
        Rows of a matrix in a `lazy` group: `_step_rows` does them. No closure: None.
        """
        loss = called(closure)
        for group in self.param_groups:
            (b1, b2), lr = group["betas"], group["lr"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state.update(step=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
                state["step"] += 1
                if group["lazy"] and p.dim() == 2:
                    self._step_rows(p, state, group)
                    continue
                # Decay acts on the weight itself, not through the gradient: else it would be
                # divided by sqrt(v) too, and often-used weights would hardly decay.
                p.mul_(1 - lr * group["weight_decay"])
                # Running means of the gradient and of its square.
                m, v = state["m"], state["v"]
                m.lerp_(p.grad, 1 - b1)
                v.mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
                # Both began at zero; dividing by 1 - b^t takes that bias out.
                m_scale = 1 - b1 ** state["step"]
                v_scale = math.sqrt(1 - b2 ** state["step"])
                p.addcdiv_(m, (v.sqrt() / v_scale).add_(group["eps"]), value=-lr / m_scale)
        return loss

    @staticmethod
    def _step_rows(p: Tensor, state: dict, group: dict) -> None:
        """The same update for the rows of `p` that have a gradient, and for no others."""
        (b1, b2), lr, t = group["betas"], group["lr"], state["step"]
        rows = torch.linalg.vector_norm(p.grad, dim=1).nonzero()[:, 0]
        # index_select and index_copy_, not [rows]: on a CPU 2.6 times faster (7.1 to 2.7 ms here)
        g, m, v, new = (x.index_select(0, rows) for x in (p.grad, state["m"], state["v"], p))
        m.lerp_(g, 1 - b1)
        v.mul_(b2).addcmul_(g, g, value=1 - b2)
        denominator = (v.sqrt() / math.sqrt(1 - b2 ** t)).add_(group["eps"])
        new.mul_(1 - lr * group["weight_decay"])
        new.addcdiv_(m, denominator, value=-lr / (1 - b1 ** t))
        for table, values in ((state["m"], m), (state["v"], v), (p, new)):
            table.index_copy_(0, rows, values)


def orthogonalise(matrix: Tensor, steps: int = 5, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The matrix with the same singular vectors and all singular values near 1 (0.7 to 1.2).

    matrix (R, C) -> (R, C) in `dtype`; a stack (E, R, C) matrix by matrix. Newton-Schulz:
    X <- a X + (b A + c A^2) X with A = X X^T, (a, b, c) = (3.4445, -4.7750, 2.0315), from
    X = matrix / |matrix|. A matrix of any size gives the same, 1e-30 times itself too, and zero
    stays zero. Only products, no SVD, and 16 bits are enough. Source: Jordan et al. 2024, Muon.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    # Divided by a power of two near its largest number, which loses nothing, so that the squares
    # below are neither too small nor too large for `dtype`.
    wide = torch.promote_types(matrix.dtype, torch.float32)     # the range of 64 bits is larger
    reach = 1022 if wide == torch.float64 else 126
    largest = matrix.abs().amax(dim=(-2, -1), keepdim=True).to(wide)
    exponent = torch.frexp(largest).exponent.clamp(-reach, reach).to(wide)
    X = torch.ldexp(matrix, -exponent).to(dtype)
    # A = X X^T should be the small square: work on the wide side.
    tall = X.shape[-2] > X.shape[-1]
    X = X.mT if tall else X
    # All singular values into [0, 1]: the Frobenius norm is at least the largest of them.
    X = X / torch.linalg.vector_norm(X, dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    add = torch.addmm if X.dim() == 2 else torch.baddbmm
    for _ in range(steps):
        # The odd polynomial a s + b s^3 + c s^5 pushes every singular value s towards 1.
        A = X @ X.mT
        X = add(X, add(A, A, A, beta=b, alpha=c), X, beta=a)
    return X.mT if tall else X


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: for the matrices inside the blocks (Jordan et al. 2024).

    A parameter of three dimensions is a stack of matrices, as a layer of experts holds them.
    """

    def __init__(self, params, lr: float = 0.02, momentum: float = 0.95,
                 weight_decay: float = 0.0, steps: int = 5,
                 dtype: torch.dtype = torch.bfloat16) -> None:
        check_not_negative(lr=lr, weight_decay=weight_decay)
        check_shares(momentum=momentum)
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay,
                                      steps=steps, dtype=str(dtype).removeprefix("torch.")))

    def add_param_group(self, param_group: dict) -> None:
        """Take a group in, at the start or later: ValueError for what is no matrix."""
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            if p.dim() not in (2, 3):
                raise ValueError("Muon is for matrices and stacks of them; a parameter of shape "
                                 f"{tuple(p.shape)} belongs to AdamW")

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One update, in place, of every matrix that has a gradient g; gives what `closure` gave
        (called first, with gradients on).

        M <- mu M + (1 - mu) g;  the look-ahead (Nesterov) u = mu M + (1 - mu) g;
        p <- p (1 - lr wd) - lr sqrt(max(1, rows / columns)) orthogonalise(u).

        M starts at 0 and is kept in `self.state[p]`, so that `state_dict` has it. `orthogonalise`
        gets the steps and the dtype of the group; of a stack (E, rows, columns) the last two sizes
        are rows and columns. Gradients stay as they are.
        """
        loss = called(closure)
        for group in self.param_groups:
            mu, lr = group["momentum"], group["lr"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["M"] = torch.zeros_like(p)
                # Momentum first: one batch's gradient has noise in most of its directions.
                state["M"].lerp_(p.grad, 1 - mu)
                ahead = torch.lerp(p.grad, state["M"], mu)
                update = orthogonalise(ahead, group["steps"], getattr(torch, group["dtype"]))
                # A tall matrix has fewer singular values than rows: scale, so that each
                # output channel moves as far as in a square one.
                scale = math.sqrt(max(1.0, p.shape[-2] / p.shape[-1]))
                p.mul_(1 - lr * group["weight_decay"])
                p.add_(update.to(p.dtype), alpha=-lr * scale)
        return loss


def cosine_schedule(step: int, steps: int, warmup: int = 0, floor: float = 0.0) -> float:
    """The share of the peak rate at `step` (from 0): linear warm-up, then half a cosine.

    Step s < warmup gives (s + 1) / warmup; then it falls from 1 to `floor`, which step `steps`
    reaches. steps=10, warmup=2: 0.5, 1, 1, 0.96, ...; the middle of the fall is (1 + floor) / 2.
    Source: Loshchilov and Hutter 2017 (SGDR), equation 5, without restarts.
    """
    # Counted from 1: a rate of 0 would waste the first step.
    if step < warmup:
        return (step + 1) / warmup
    # How far the fall has come, 0 to 1; it stays at the floor after the last step.
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    # cos runs from 1 to -1, so the half sum runs from 1 to 0: scale that to 1 .. floor.
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def linear_schedule(step: int, steps: int, warmup: int = 0, warmdown: float = 1.0) -> float:
    """The share of the peak rate at `step` (from 0): linear warm-up, a plateau, linear to zero.

    Step s < warmup gives (s + 1) / warmup. The last `warmdown` share of all steps falls to zero,
    which step `steps` would reach: steps=10, warmdown=0.5 gives 1 up to step 5, then 0.8, 0.6, ...;
    from step `steps` on it is 0. A fall of under one step counts as one.
    Source: Defazio et al. 2023 (linear decay is close to optimal); Hägele et al. 2024 (plateau).
    """
    # Step 0 already moves: it has the first of `warmup` equal shares.
    if step < warmup:
        return (step + 1) / warmup
    # The straight line that is zero at the end, cut off at 1.
    fall = max(1.0, warmdown * steps)
    return max(0.0, min(1.0, (steps - step) / fall))


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients together so that their joint length is at most `max_norm`.

    Gives the joint length before clipping, sqrt(sum of squares over ALL gradients), a scalar
    tensor (in 64 bits for gradients of 64); shorter gradients are left alone. Directions stay.
    Parameters without a gradient are left out (none has one: 0), and may come from a generator,
    read once; a single tensor is one parameter. ValueError for a `max_norm` below 0, which would
    turn the gradients round, or nan.
    Source: Pascanu et al. 2013, algorithm 1.
    """
    if not max_norm >= 0:
        raise ValueError(f"max_norm is {max_norm}: it must be 0 or more")
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    # The length of the lengths is the joint length.
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    # One factor for all; the tiny number keeps 0/0 away. Short gradients are not even touched:
    # a pass over all of them costs 2 % of a small model's step.
    factor = max_norm / (norm + 1e-6)
    if factor < 1:
        for g in gradients:
            g.mul_(factor)
    return norm
