"""A GPT in one file: every piece is a function or a small module, with its shape and its paper.

    model = GPT(GPTConfig(vocab_size=4096, layers=4, width=256, heads=4))
    logits, loss = model(ids, targets)        # ids, targets: (B, T) of token ids

The defaults are what a small machine learns most from per second; GPT-2's own choices are settings
too (`GPT2`): all are in gpt_config.py. But: no dropout, and nothing about devices, parallelism or
precision: those are applied from outside.
Letters: B batch, T time, C channels (width), H heads, D head size, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_config import GPT2, GPTConfig          # noqa: F401, whoever imports gpt finds both here
from ngram_embedding import NgramEmbedding, late_keys, tokens_before


def at_least_32_bits(x: Tensor) -> Tensor:
    """16-bit numbers as float32, in which sums and exponentials are safe; wider ones unchanged."""
    return x.float() if x.element_size() < 4 else x


class RMSNorm(nn.Module):
    """Vectors brought to one size, then scaled channel by channel by a learned gain."""
    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        """x / sqrt(mean(x^2) + eps) * weight over the last dimension: (..., C) -> (..., C).

        The gain `weight` (C,) starts at one. The mean is not subtracted: that is LayerNorm. The
        result has the dtype of x; 16-bit numbers are squared and averaged in float32, float64 in
        float64. RMSNorm(2) of [3, 4] is [0.849, 1.131]. Source: Zhang and Sennrich 2019, eq. 4.
        """
        # squares of 16-bit numbers run over or round to nothing: compute in 32 at least
        wide = at_least_32_bits(x)
        # one number per token, the mean of its squares: (..., C) -> (..., 1)
        square = wide.square().mean(-1, keepdim=True)
        return (wide * torch.rsqrt(square + self.eps)).to(x.dtype) * self.weight.to(x.dtype)


def new_norm(config: GPTConfig, width: int) -> nn.Module:
    """A norm of the kind and with the eps that this model has."""
    kind, eps = (RMSNorm, 1e-6) if config.norm == "rms" else (nn.LayerNorm, 1e-5)
    return kind(width, eps=eps if config.norm_eps is None else config.norm_eps)


def rotary_angles(positions: Tensor, size: int, base: float, factors: tuple | None = None,
                  dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angles by which pairs of channels turn at each position.

    positions (..., T) integers -> cos, sin (..., T, size/2): pair i at position t turns by
    t * base^(-2 i / size), pair 0 by one radian per token, divided by factors[i] if there are
    any. Source: Su et al. 2021, equation 15.
    """
    pair = torch.arange(0, size, 2, device=positions.device, dtype=dtype)       # 2 i
    speed = base ** (-pair / size)
    if factors is not None:
        speed = speed / torch.tensor(factors, device=positions.device, dtype=dtype)
    angle = positions[..., None].to(dtype) * speed
    return angle.cos(), angle.sin()


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of channels of a query or key by its position's angle.

    x (B, H, T, D), cos and sin (T, D/2) or (B, 1, T, D/2) -> (B, H, T, D), in the dtype of x.
    Channel i pairs with i + D/2: (a, b) -> (a cos - b sin, a sin + b cos). Lengths stay, and
    q_s . k_t then depends on s - t alone.
    """
    a, b = x.chunk(2, dim=-1)           # the two halves hold the two sides of each pair
    # each pair turned by its angle; the halves side by side again, in the dtype they came in
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention, scores scaled by 1/sqrt(D), in which no query sees a later key.

    q (B, H, T, D), k and v (B, H, T_total, D) -> (B, H, T, D). The T queries are the LAST T of
    the T_total positions (T < T_total when a cache holds the earlier ones). `mask`, bool
    (B, 1, T, T_total), True = may attend, replaces the causal rule. The softmax of 16-bit scores
    is in float32, of float64 in float64. ValueError for T > T_total, no mask. Vaswani et al. 2017.
    """
    (T, D), T_total = q.shape[-2:], k.shape[-2]
    if mask is None and T > T_total:        # the first would see no key: 0 / 0
        raise ValueError(f"{T} queries cannot be the last of {T_total} positions")
    if mask is None and T > 1:      # query i stands at T_total - T + i, and sees up to there
        mask = torch.ones(T, T_total, dtype=torch.bool, device=q.device).tril(T_total - T)
    scores = at_least_32_bits(q @ k.transpose(-2, -1) * D ** -0.5)      # (B, H, T, T_total)
    if mask is not None:    # minus infinity: exp gives zero, and the rest still sums to one
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1).to(v.dtype) @ v


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up with silu(z) = z sigmoid(z): (..., M) twice -> (..., M) (Shazeer 2020)."""
    return F.silu(gate) * up


class Attention(nn.Module):
    """Multi-head attention with rotary positions, QK-norm and grouped queries as configured."""
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        C, self.D, kv_heads = config.width, config.D, config.kv_heads or config.heads
        self.groups = config.heads // kv_heads
        bias = config.bias if config.qkv_bias is None else config.qkv_bias
        self.query = nn.Linear(C, config.heads * self.D, bias=bias)
        self.key = nn.Linear(C, kv_heads * self.D, bias=bias)
        self.value = nn.Linear(C, kv_heads * self.D, bias=bias)
        self.out = nn.Linear(config.heads * self.D, C, bias=config.bias)
        eps = config.norm_eps if config.norm == "rms" and config.norm_eps is not None else 1e-6
        norm = (lambda: RMSNorm(self.D, eps)) if config.qk_norm else nn.Identity
        self.q_norm, self.k_norm, self.late_keys = norm(), norm(), config.late_keys
        self.attend = causal_attention      # replaceable from outside: same signature, any kernel

    def forward(self, x: Tensor, angles, cache, layer: int, mask) -> Tensor:
        B, T, C = x.shape
        # (B, T, H * D) -> (B, H, T, D): heads become a batch dimension
        q, k, v = (project(x).view(B, T, -1, self.D).transpose(1, 2)
                   for project in (self.query, self.key, self.value))
        # Norm, then turn: a turn keeps lengths, so q . k stays bounded (Henry et al. 2020).
        q, k = self.q_norm(q), self.k_norm(k)
        if self.late_keys:
            k = late_keys(k, cache and cache.key_before(layer, k), angles[2])
        if angles is not None:
            q, k = rotary(q, *angles[:2]), rotary(k, *angles[:2])
        if cache is not None:
            k, v = cache.extend(layer, k, v)            # (B, H_kv, T_total, D)
        if self.groups > 1:                             # each key/value head serves a group
            k, v = (z.repeat_interleave(self.groups, dim=1) for z in (k, v))
        y = self.attend(q, k, v, mask)                  # (B, H, T, D) -> (B, T, H * D)
        return self.out(y.transpose(1, 2).reshape(B, T, -1))


class MLP(nn.Module):
    """The feed-forward half of a block: widen, bend, narrow."""
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        C, self.kind = config.width, config.mlp
        M = config.M
        self.up = nn.Linear(C, M, bias=config.bias)
        self.gate = nn.Linear(C, M, bias=config.bias) if self.kind == "swiglu" else None
        self.down = nn.Linear(M, C, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "swiglu":
            return self.down(swiglu(self.gate(x), self.up(x)))
        if self.kind != "squared_relu":                         # GPT-2's is the tanh form
            return self.down(F.gelu(self.up(x),
                                    approximate="tanh" if self.kind == "gelu" else "none"))
        return self.down(F.relu(self.up(x)).square())           # So et al. 2021 (Primer)


class Block(nn.Module):
    """One layer, pre-norm: x + attention(norm(x)), then x + mlp(norm(x)) (Xiong et al. 2020)."""
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention_norm = new_norm(config, config.width)
        self.mlp_norm = new_norm(config, config.width)
        self.attention, self.mlp = Attention(config), MLP(config)

    def forward(self, x: Tensor, angles, cache, layer: int, mask) -> Tensor:
        x = x + self.attention(self.attention_norm(x), angles, cache, layer, mask)
        return x + self.mlp(self.mlp_norm(x))


class GPT(nn.Module):
    """A decoder-only transformer: `hidden` is the body, `head` turns it into logits."""
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        C, V = config.width, config.vocab_size
        self.embedding = nn.Embedding(V, C)
        self.position_embedding = (nn.Embedding(config.sequence_length, C)
                                   if config.positions == "learned" else None)
        self.previous_share = nn.Parameter(torch.zeros(C)) if config.mix_previous else None
        self.ngram_embedding = (NgramEmbedding(config.ngram_rows, config.ngram_width, C)
                                if config.ngram_rows else None)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = new_norm(config, C)
        self.lm_head = nn.Linear(C, V, bias=False)
        self.initialise()
        if config.tied:
            self.lm_head.weight = self.embedding.weight

    @torch.no_grad()
    def initialise(self) -> None:
        """Matrices by 1/sqrt(fan in); what writes into the residual stream starts at zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                module.weight.normal_(std=module.in_features ** -0.5)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(std=0.02 if self.config.tied else 0.5)
        for block in self.blocks:       # every block starts as the identity: depth costs nothing
            block.attention.out.weight.zero_()
            block.mlp.down.weight.zero_()
            if self.config.late_keys and block.attention.groups == 1:
                # a late head starts as a look-up: it finds keys like its queries
                late = torch.arange(self.config.heads * self.config.D) // self.config.D % 2 == 1
                block.attention.key.weight[late] = block.attention.query.weight[late]
        self.lm_head.weight.mul_(0.1)   # first loss close to ln V: no certainty before evidence

    def hidden(self, ids: Tensor, *, cache=None, positions: Tensor | None = None,
               mask: Tensor | None = None) -> Tensor:
        """ids (B, T) -> (B, T, C), after the final norm. `positions` (B, T) for rows that hold
        several documents or padding; `cache` continues an earlier call (see generate.py)."""
        if positions is None:
            start = 0 if cache is None else cache.length
            positions = torch.arange(start, start + ids.shape[1], device=ids.device)
        x, before = self.embedding(ids), tokens_before(ids, positions, cache and cache.last)
        if self.previous_share is not None:         # nothing where there is no token before
            previous = self.embedding(before[..., 0].clamp(min=0)) * (before[..., :1] >= 0)
            x = x + self.previous_share * previous
        if self.ngram_embedding is not None:
            x = x + self.ngram_embedding(ids, before)
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions)
        angles = None
        if self.config.positions == "rotary":       # ([B,] T, D/2) -> ([B,] 1, T, D/2): all heads
            angles = [z.unsqueeze(-3) for z in rotary_angles(
                positions, self.config.D, self.config.rotary_base, self.config.rotary_factors,
                torch.promote_types(x.dtype, torch.float32))]
            angles.append((positions > 0)[..., None].unsqueeze(-3))     # False: a text starts
        for layer, block in enumerate(self.blocks):
            x = block(x, angles, cache, layer, mask)
        if cache is not None:
            cache.advance(ids)
        return self.final_norm(x)

    def head(self, hidden: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V) logits."""
        return self.lm_head(hidden)

    def forward(self, ids: Tensor, targets: Tensor | None = None, **context
                ) -> tuple[Tensor, Tensor | None]:
        """Logits (B, T, V) and, given targets (B, T), their mean cross-entropy in nats; targets
        of -100 do not count. `targets[b, t]` follows `ids[b, t]`. `context`: as in `hidden`."""
        logits = self.head(self.hidden(ids, **context))
        if targets is None:
            return logits, None
        # (B, T, V) -> (B T, V), in 32 bits: the sum over V needs them. Rows of nothing but padding
        # have no mean: their loss is 0, not 0 / 0.
        total = F.cross_entropy(at_least_32_bits(logits).flatten(0, 1), targets.flatten(),
                                reduction="sum")
        return logits, total / (targets != -100).sum().clamp(min=1)
