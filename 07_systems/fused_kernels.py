"""Fewer trips to memory: RMSNorm, SwiGLU and cross-entropy as one kernel each, with gradients.

    y = rms_norm(x, weight)                             # one read and one write, not four
    loss = cross_entropy_(logits, targets)              # the logits become their own gradient
    loss = linear_cross_entropy(hidden, head.weight, targets)       # never holds (B T, V)

The last one is where the memory of a small model goes: at B T = 65,536 and V = 50,304 the logits
alone are 6.6 GB in 16 bits. Computed in chunks of rows, gradients at once, only a chunk exists.
It is plain torch around the cross-entropy kernel and runs anywhere; the others need Triton (on a
CPU: its interpreter, right but slow). But: no second derivatives.

Letters: n = B T tokens, C width, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from flash_attention import by_kernel
from gpt import swiglu
from target_range import check_targets

try:
    import row_kernels
except ImportError:             # Triton has wheels for Linux only: plain torch answers instead
    row_kernels = None


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        y, r = row_kernels.launch_rms_forward(rows, weight, eps)
        ctx.save_for_backward(rows, weight, r)
        return y.view(x.shape)

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple:
        rows, weight, r = ctx.saved_tensors
        dx, dw = row_kernels.launch_rms_backward(rows, weight, r, dy.reshape(rows.shape)
                                                 .contiguous())
        return dx.view(dy.shape), dw, None


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension: x (..., C), weight (C,)."""
    if not by_kernel(x):
        return F.rms_norm(x, weight.shape, weight, eps)
    return _RMSNorm.apply(x, weight, eps)


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        ctx.save_for_backward(gate, up)
        return row_kernels.launch_swiglu(gate, up)

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple:
        return row_kernels.launch_swiglu(*ctx.saved_tensors, dy.contiguous())


def fused_swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, as chapter 4's `swiglu`, in one trip; keeps only its two inputs."""
    if gate.shape != up.shape or gate.dtype != up.dtype:
        raise ValueError(f"gate {tuple(gate.shape)} {gate.dtype}, up {tuple(up.shape)} {up.dtype}")
    return _SwiGLU.apply(gate, up) if by_kernel(gate) else swiglu(gate, up)


def loss_and_gradient_(logits: Tensor, targets: Tensor, scale: float | Tensor) -> Tensor:
    """Cross-entropy of each row in nats, (n,); the logits BECOME scale * d loss / d logits.

    logits (n, V), changed in place; targets (n,), where -100 means no loss and no gradient.
    Plain torch. 16 bits are computed in fp32, and their losses are fp32; fp32 and fp64 stay. For
    logits [0, 0] and target 1 the loss is ln 2 and, with scale 1, the logits become [0.5, -0.5].
    A row of -100 gives 0 whatever stands in it, nan too. A target outside of 0 .. V-1 is an
    IndexError.
    """
    check_targets(targets, logits.shape[1])
    counted = targets != -100
    rows, columns = torch.arange(len(targets), device=logits.device), targets.clamp(min=0)
    # 16 bits are too few for exponents: through fp32 and back (32 and 64 bits: the same tensor).
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # The loss first: log-sum-exp minus the target's logit. After this the logits may go.
    lse = torch.logsumexp(wide, dim=1)
    losses = (lse - wide[rows, columns]).masked_fill(~counted, 0)
    # Softmax in place: no second (n, V) tensor.
    wide.sub_(lse[:, None]).exp_()
    # Minus one at the target.
    wide[rows, columns] -= 1
    # Rows that do not count have no gradient at all.
    wide.masked_fill_(~counted[:, None], 0).mul_(scale)
    logits.copy_(wide)
    return losses


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor) -> Tensor:
        check_targets(targets, logits.shape[1])
        counted = (targets != -100).sum().clamp(min=1)
        gradient = logits.detach()
        in_place = row_kernels.launch_cross_entropy if by_kernel(logits) else loss_and_gradient_
        losses = in_place(gradient, targets, counted.double().reciprocal())
        ctx.save_for_backward(gradient)
        return losses.sum() / counted

    @staticmethod
    def backward(ctx, d_loss: Tensor) -> tuple:
        return ctx.saved_tensors[0] * d_loss, None


def cross_entropy_(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats, as F.cross_entropy; OVERWRITES logits (n, V) with its gradient.

    Nothing of size (n, V) is made besides the logits. Nobody else may use the logits afterwards.
    """
    if not logits.is_contiguous():
        raise ValueError("logits must be contiguous: they are overwritten where they lie")
    return _CrossEntropy.apply(logits, targets)


def chunked_linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int
                                 ) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of logits = hidden weight^T and its gradients, `chunk` rows of logits at a time.

    hidden (n, C), weight (V, C), targets (n,) with -100 ignored -> the mean loss over counted
    targets, its gradient for hidden (n, C) and for weight (V, C). At most (chunk, V) logits
    exist at once. If nothing counts: loss and gradients are zero. A target outside of 0 .. V-1
    is an IndexError.
    """
    check_targets(targets, len(weight))
    counted = (targets != -100).sum().clamp(min=1)
    share = counted.double().reciprocal()       # stays on the GPU: nobody waits for its value
    dh, dw = torch.empty_like(hidden), torch.zeros_like(weight, dtype=torch.promote_types(
        weight.dtype, torch.float32))
    total = torch.zeros((), device=hidden.device, dtype=dw.dtype)
    in_place = loss_and_gradient_
    if hidden.is_cuda and by_kernel(hidden):
        in_place = row_kernels.launch_cross_entropy
    for start in range(0, len(hidden), chunk):
        rows = slice(start, start + chunk)
        logits = hidden[rows] @ weight.T                        # (chunk, V)
        # Scaled by the count of ALL rows: the chunks' gradients then simply add up.
        total += in_place(logits, targets[rows], share).sum()
        # The logits are their gradient now: use it both ways, and forget it.
        dh[rows] = logits @ weight
        dw += logits.T @ hidden[rows]
    return total / counted, dh, dw.to(weight.dtype)


@torch.library.custom_op("build_llm::linear_cross_entropy", mutates_args=())
def _chunked(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int
             ) -> tuple[Tensor, Tensor, Tensor]:
    return chunked_linear_cross_entropy(hidden, weight, targets, chunk)


@_chunked.register_fake
def _(hidden, weight, targets, chunk):
    wide = torch.promote_types(weight.dtype, torch.float32)
    return hidden.new_empty((), dtype=wide), torch.empty_like(hidden), torch.empty_like(weight)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
        loss, dh, dw = _chunked(hidden, weight, targets, chunk)
        ctx.save_for_backward(dh, dw)
        return loss

    @staticmethod
    def backward(ctx, d_loss: Tensor) -> tuple:
        dh, dw = ctx.saved_tensors
        return dh * d_loss, dw * d_loss, None, None


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int = 4096
                         ) -> Tensor:
    """F.cross_entropy(hidden @ weight.T, targets) in the memory of `chunk` rows of logits.

    hidden (..., C), weight (V, C), targets (...). The gradients are computed in forward, so
    backward costs nothing and forward everything. Under autocast the products are its 16 bits;
    torch.compile takes the call as one node.
    """
    hidden = hidden.reshape(-1, hidden.shape[-1])
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    return _LinearCrossEntropy.apply(hidden.contiguous(), weight, targets.flatten(), chunk)
