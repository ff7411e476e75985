"""A model made to talk: fewer operations a token, and weights in 4, 8, 16 or 32 bits.

    model = TalkingGPT(gpt.config, gpt.state_dict(), bits=4)
    tokens = generate(model, ids, 100)

Writing one token multiplies one vector with every weight, so a large model waits for its memory:
half the bytes are half the time. A small one waits for the number of its operations: here about
twenty-five in a layer, where the teaching model takes fifty. `generate` therefore lets a small
GPT talk through this file (`packed`), in 32 bits, and single tokens through one_token.py. How fast:
MEASURED.md. A prompt is read in one pass, with the same weights.

But: for rotary positions and RMS norms alone (ours and the Llama family, with or without biases
and norms on query and key), and not for training. Below 32 bits vectors are rounded to 16, on a
CPU. Rounding them to 8 too (torch's dynamic quantisation) would be as fast as 4-bit weights and was
tried: SmolLM2's few huge channels cost it 1.7 % of its loss, and a whole prompt under one scale
22 %.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from few_bits import PRODUCTS
from gpt import GPT, MLP, Attention, Block, GPTConfig, RMSNorm, rotary_angles
from model_families import pairs_from_halves
from ngram_embedding import NgramEmbedding, tokens_before
from one_token import OneToken

PLAIN = {GPT, Block, Attention, MLP, RMSNorm, NgramEmbedding, nn.Linear, nn.Embedding,
         nn.ModuleList, nn.Identity}
SMALL = 20_000_000      # parameters; above it the copy costs more than the operations it saves


class Layer:
    """One block's products, packed: query, key and value are one, gate and up are one."""

    def __init__(self, config: GPTConfig, state: Mapping[str, Tensor], number: int,
                 product: type) -> None:
        own = f"blocks.{number}."
        H, KV, D = config.heads, config.kv_heads or config.heads, config.D
        def get(name: str) -> Tensor | None:
            return state[own + name].float() if own + name in state else None
        def joined(parts: tuple[str, ...], kind: str = "weight") -> Iterator[Tensor]:
            for part in parts:
                value = get(f"{part}.{kind}")
                # Neighbours turn together here (one complex number), and scores come out scaled.
                if part in ("attention.query", "attention.key"):
                    value = pairs_from_halves(value, H if part.endswith("query") else KV)
                    value = value * (1 if config.qk_norm or part.endswith("key") else D ** -0.5)
                yield value
        def built(rows: int, *parts: str) -> Callable[[Tensor], Tensor]:
            bias = f"{own}{parts[0]}.bias" in state
            return product(rows, joined(parts), torch.cat(list(joined(parts, "bias"))) if bias
                           else None)
        self.qkv = built((H + 2 * KV) * D, "attention.query", "attention.key", "attention.value")
        self.out = built(config.width, "attention.out")
        parts = ("mlp.gate", "mlp.up") if config.mlp == "swiglu" else ("mlp.up",)
        self.up = built(len(parts) * config.M, *parts)
        self.down = built(config.width, "mlp.down")
        self.norm, self.mlp_norm = get("attention_norm.weight"), get("mlp_norm.weight")
        if config.qk_norm:          # one gain for both: (H + H_kv, 1, D)
            q, k = (pairs_from_halves(get(f"attention.{x}_norm.weight"), 1) for x in "qk")
            self.qk_gain = torch.stack([q * D ** -0.5] * H + [k] * KV)[:, None]


def can_talk(config: GPTConfig) -> bool:
    """True for the models that a TalkingGPT can be."""
    return config.positions == "rotary" and config.norm == "rms"


class TalkingGPT:
    """A GPT with rotary positions that reads and writes fast; takes `generate`'s calls.

    `state` is a GPT's state dict (or a mapping that reads each tensor when it is asked for, so
    that the whole model is never in memory in 32 bits), `bits` 4, 8, 16 or 32. ValueError for
    another shape of model.
    """

    def __init__(self, config: GPTConfig, state: Mapping[str, Tensor], bits: int = 8) -> None:
        if not can_talk(config) or bits not in PRODUCTS:
            raise ValueError(f"{bits} bits, positions {config.positions}, norm {config.norm}: not "
                             "a model of rotary positions and RMS norms in 4, 8, 16 or 32 bits")
        self.config = config
        self.eps = 1e-6 if config.norm_eps is None else config.norm_eps
        # the table is a matrix too, of which rows are looked up: a tied head is the same
        few = PRODUCTS[max(bits, 8)]
        self.table = few(config.vocab_size, [state["embedding.weight"]])
        self.head = self.table if config.tied else few(config.vocab_size, [state["lm_head.weight"]])
        self.layers = [Layer(config, state, i, PRODUCTS[bits]) for i in range(config.layers)]
        self.final_norm = state["final_norm.weight"].float()
        self.share = state["previous_share"].float() if config.mix_previous else None
        self.ngrams = None
        if config.ngram_rows:
            with torch.device("meta"):
                self.ngrams = NgramEmbedding(config.ngram_rows, config.ngram_width, config.width)
            self.ngrams.load_state_dict({name: state[f"ngram_embedding.{name}"].float() for name
                                         in ("table", "up.weight")}, assign=True)
        kv_heads, device = config.kv_heads or config.heads, self.final_norm.device
        number = torch.arange(config.heads + kv_heads, device=device) - config.heads
        self.late = ((number > 0) & (number % 2 == 1))[:, None, None]       # (H + H_kv, 1, 1)
        self.turns = torch.empty(0, config.D // 2, dtype=torch.complex64, device=device)
        self.one_token = OneToken(self) if bits == 32 and device.type == "cpu" else None

    def parameters(self):
        """What tells `generate` the device."""
        return iter([self.final_norm])

    def eval(self) -> "TalkingGPT":
        return self

    def _turns(self, start: int, T: int, positions: Tensor | None) -> Tensor:
        """Unit complex numbers ([B, 1,] T, D/2): by how much each position turns its pairs."""
        need = max(start + T, 0 if positions is None else self.config.sequence_length)
        if need > len(self.turns):
            cos, sin = rotary_angles(torch.arange(2 * need, device=self.turns.device),
                                     self.config.D, self.config.rotary_base,
                                     self.config.rotary_factors)
            self.turns = torch.complex(cos, sin)
        return self.turns[start:start + T] if positions is None else self.turns[positions][:, None]

    def _embedded(self, ids: Tensor, positions: Tensor | None, cache) -> Tensor:
        """(B, T) -> (B T, C): each token, its share of the one before, what n-grams remember."""
        x = self.table.look_up(ids.reshape(-1))
        if self.share is None and self.ngrams is None:
            return x
        if positions is None:
            start = 0 if cache is None else cache.length
            positions = torch.arange(start, start + ids.shape[1], device=ids.device)
        before = tokens_before(ids, positions, cache and cache.last)
        if self.share is not None:
            last = before[..., 0].reshape(-1)
            x = x + self.share * self.table.look_up(last.clamp(min=0)) * (last >= 0)[:, None]
        return x if self.ngrams is None else x + self.ngrams(ids, before).flatten(0, 1)

    def hidden(self, ids: Tensor, *, cache=None, positions: Tensor | None = None,
               mask: Tensor | None = None) -> Tensor:
        """ids (B, T) -> (B, T, C) after the final norm, as GPT.hidden."""
        (B, T), C = ids.shape, self.config.width
        if B == T == 1 and self.one_token is not None and cache is not None and mask is None \
                and positions is None and 1 < cache.length < cache.capacity \
                and cache.keys[0].shape[2] == cache.capacity:       # it writes into the room left
            return self.one_token(ids, cache)
        turns = self._turns(0 if cache is None else cache.length, T, positions)
        x = self._embedded(ids, positions, cache)                           # (B T, C)
        starts = None if positions is None else (positions == 0)[:, None, :, None]
        for number, layer in enumerate(self.layers):
            qkv = layer.qkv(self._norm(x, layer.norm))
            y = self._attention(layer, number, qkv.view(B, T, -1), turns, cache, mask, starts)
            x = x + layer.out(y)
            h = layer.up(self._norm(x, layer.mlp_norm))
            x = x + layer.down(self._bend(h))
        if cache is not None:
            cache.advance(ids)
        return F.rms_norm(x, (C,), self.final_norm, self.eps).view(B, T, C)

    def _norm(self, x: Tensor, gain: Tensor) -> Tensor:
        if len(x) > 1:
            return F.rms_norm(x, gain.shape, gain, self.eps)
        # one vector: four small operations instead of seven
        v = x[0]
        return (x * gain).mul_((torch.dot(v, v).item() / len(v) + self.eps) ** -0.5)

    def _bend(self, h: Tensor) -> Tensor:
        if self.config.mlp == "swiglu":
            gate, up = h.chunk(2, dim=-1)
            return F.silu(gate) * up
        if self.config.mlp == "squared_relu":
            return F.relu(h).square()
        return F.gelu(h, approximate="tanh" if self.config.mlp == "gelu" else "none")

    def _late(self, qk: Tensor, before: Tensor | None, starts: Tensor | None) -> Tensor:
        """(B, H + H_kv, T, D) -> the same, every second head's keys one token late (see
        ngram_embedding.late_keys); `starts`, bool (B, 1, T, 1), marks where a text begins."""
        if starts is None and qk.shape[2] == 1 and before is not None:
            return torch.where(self.late, before, qk)
        first = torch.zeros_like(qk[:, :, :1]) if before is None else before
        late = torch.cat([first, qk[:, :, :-1]], dim=2)
        return torch.where(self.late, late if starts is None else late.masked_fill(starts, 0), qk)

    def _attention(self, layer: Layer, number: int, qkv: Tensor, turns: Tensor, cache,
                   mask: Tensor | None, starts: Tensor | None) -> Tensor:
        """(B, T, (H + 2 H_kv) D) -> (B T, H D)."""
        B, T, _ = qkv.shape
        H, KV, D = self.config.heads, self.config.kv_heads or self.config.heads, self.config.D
        qk, v = qkv[..., :(H + KV) * D], qkv[..., (H + KV) * D:]
        qk = qk.view(B, T, H + KV, D).transpose(1, 2)                       # queries, then keys
        if self.config.qk_norm:
            size = qk.square().mean(-1, keepdim=True).add_(self.eps).rsqrt_()
            qk = (qk * size).mul_(layer.qk_gain)
        if self.config.late_keys:
            qk = self._late(qk, cache and cache.key_before(number, qk), starts)
        # a turn is one complex product for queries and keys together
        qk = torch.view_as_complex(qk.unflatten(-1, (-1, 2))) * turns
        qk = torch.view_as_real(qk).flatten(-2)
        q, k, v = qk[:, :H], qk[:, H:], v.view(B, T, KV, D).transpose(1, 2)
        if cache is not None:
            k, v = cache.extend(number, k, v)
        if T == 1:          # the queries of a group stand where T stood: no key is copied
            scores = q.reshape(B, KV, H // KV, D) @ k.mT                    # (B, H_kv, H/H_kv, T)
            if mask is not None:
                scores = scores.masked_fill_(~mask, float("-inf"))
            return (scores.softmax(-1) @ v).reshape(B, H * D)
        if mask is None and k.shape[2] > T:
            mask = torch.ones(T, k.shape[2], dtype=torch.bool,
                              device=k.device).tril(k.shape[2] - T)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None,
                                           scale=1.0, enable_gqa=H != KV)
        return y.transpose(1, 2).reshape(B * T, H * D)

    def __call__(self, ids: Tensor, **context) -> tuple[Tensor, None]:
        """Logits (B, T, V) and no loss, as GPT gives without targets."""
        h = self.hidden(ids, **context)
        return self.head(h.flatten(0, 1)).view(*ids.shape, -1), None


def packed(model):
    """`model` as it talks fastest: a small GPT of rotary positions in 32 bits as a TalkingGPT,
    which is made anew in a fraction of a token's time; every other model as it is, too one that
    holds modules of others (LoRA's, experts)."""
    if not isinstance(model, GPT) or not can_talk(model.config) or \
            {type(part) for part in model.modules()} - PLAIN:
        return model
    weights = list(model.parameters())
    if sum(p.numel() for p in weights) > SMALL or any(p.dtype != torch.float32 for p in weights):
        return model
    return TalkingGPT(model.config, {n: p.detach() for n, p in model.state_dict().items()}, 32)
