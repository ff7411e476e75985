"""A model made to talk: weights in 4, 8 or 16 bits, products that read each weight once.

    model = TalkingGPT(gpt.config, gpt.state_dict(), bits=4)
    tokens = generate(model, ids, 100)

Writing one token multiplies one vector with every weight, so the processor waits for memory: half
the bytes are half the time. What else costs is the number of small operations: here about twenty
in a layer, where the teaching model takes fifty. On one core of an AMD EPYC (AVX2), SmolLM2-135M:
see MEASURED.md. A prompt is read in one pass, with the same weights.

But: for the Llama shape alone (rotary positions, RMS norms; with or without biases and norms on
query and key), on a CPU, and not for training. Vectors are rounded to 16 bits. Rounding them to 8
too (torch's dynamic quantisation) would be as fast as 4-bit weights and was tried: SmolLM2's few
huge channels cost it 1.7 % of its loss, and a whole prompt under one scale 22 %.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt import GPTConfig, rotary_angles
from model_families import pairs_from_halves


class Product16:
    """x @ W^T + b with W kept in 16 bits; x and the result are float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight.to(torch.bfloat16), bias

    def __call__(self, x: Tensor) -> Tensor:
        # One vector: read 16-bit weights. Many: a processor without 16-bit products is 6 times
        # faster when the matrix is widened once.
        y = F.linear(x.to(torch.bfloat16), self.weight).float() if len(x) <= 4 else \
            F.linear(x, self.weight.float())
        return y if self.bias is None else y + self.bias


class Product8:
    """x @ W^T + b with W in 8 bits and a float32 scale for each row; x is rounded to 16 bits."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.scale = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        self.rows, self.bias = (weight / self.scale[:, None]).round_().to(torch.int8), bias
        self.ones = torch.ones(len(weight), dtype=torch.bfloat16)

    def __call__(self, x: Tensor) -> Tensor:
        # torch's kernel would take the scale in 16 bits, a gain of its own for every row: ours
        # comes after, in 32
        y = torch._weight_int8pack_mm(x.to(torch.bfloat16), self.rows, self.ones).float() \
            if len(x) <= 4 else F.linear(x, self.rows.float())
        y = y.mul_(self.scale)
        return y if self.bias is None else y + self.bias


class Product4:
    """x @ W^T + b with W in the 4 bits of Q4_1: 32 neighbours of a row share scale and minimum.

    The weights of a Q4_1 file come through unchanged, for every block of it uses both ends of its
    16 steps. x is rounded to 16 bits.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        blocks = weight.unflatten(1, (-1, 32))                              # (R, C / 32, 32)
        low, high = blocks.amin(-1, keepdim=True), blocks.amax(-1, keepdim=True)
        d = (high - low) / 15
        q = ((blocks - low) / d.clamp(min=1e-30)).round_().to(torch.int32).flatten(1)
        self.packed = torch._convert_weight_to_int4pack_for_cpu(q, 1)
        # torch's kernel computes (q - 8) scale + zero
        pair = torch.stack([d, low + 8 * d], dim=-1).squeeze(2)             # (R, C / 32, 2)
        self.scale, self.bias = pair.transpose(0, 1).contiguous().to(torch.bfloat16), bias

    def __call__(self, x: Tensor) -> Tensor:
        y = torch._weight_int4pack_mm_for_cpu(x.to(torch.bfloat16), self.packed, 32,
                                              self.scale).float()
        return y if self.bias is None else y + self.bias


class Layer:
    """One block's products, packed: query, key and value are one, gate and up are one."""

    def __init__(self, config: GPTConfig, state: Mapping[str, Tensor], number: int,
                 product: type) -> None:
        own = f"blocks.{number}."
        kv_heads = config.kv_heads or config.heads
        def get(name: str) -> Tensor | None:
            return state[own + name].float() if own + name in state else None
        def joined(parts: tuple[str, ...], kind: str) -> Tensor | None:
            values = [get(f"{part}.{kind}") for part in parts]
            return None if values[0] is None else torch.cat(values)
        rows = {}
        for kind in ("weight", "bias"):
            q, k, v = (get(f"attention.{part}.{kind}") for part in ("query", "key", "value"))
            # Neighbours turn together here (one complex number), and scores come out scaled.
            rows[kind] = None if q is None else torch.cat([
                pairs_from_halves(q, config.heads) * (1 if config.qk_norm else config.D ** -0.5),
                pairs_from_halves(k, kv_heads), v])
        self.qkv = product(rows["weight"], rows["bias"])
        self.out = product(get("attention.out.weight"), get("attention.out.bias"))
        parts = ("mlp.gate", "mlp.up") if config.mlp == "swiglu" else ("mlp.up",)
        self.up = product(joined(parts, "weight"), joined(parts, "bias"))
        self.down = product(get("mlp.down.weight"), get("mlp.down.bias"))
        self.norm, self.mlp_norm = get("attention_norm.weight"), get("mlp_norm.weight")
        if config.qk_norm:
            self.q_norm = pairs_from_halves(get("attention.q_norm.weight"), 1) * config.D ** -0.5
            self.k_norm = pairs_from_halves(get("attention.k_norm.weight"), 1)


class TalkingGPT:
    """A GPT of the Llama shape that reads and writes fast; takes `generate`'s calls.

    `state` is a GPT's state dict (or a mapping that reads each tensor when it is asked for, so
    that the whole model is never in memory in 32 bits), `bits` 4, 8 or 16. ValueError for another
    shape of model.
    """

    def __init__(self, config: GPTConfig, state: Mapping[str, Tensor], bits: int = 8) -> None:
        wrong = [name for name, needed in (("positions", "rotary"), ("norm", "rms"),
                 ("mix_previous", False), ("ngram_rows", 0)) if getattr(config, name) != needed]
        if wrong or getattr(config, "late_keys", False) or bits not in (4, 8, 16):
            raise ValueError(f"{bits} bits, {wrong[0] if wrong else 'late_keys'} of this model: "
                             "not the Llama shape in 4, 8 or 16 bits")
        self.config, product = config, {4: Product4, 8: Product8, 16: Product16}[bits]
        self.eps = 1e-6 if config.norm_eps is None else config.norm_eps
        # the table stays in 16 bits, which a tied head reads too
        self.table = state["embedding.weight"].to(torch.bfloat16)
        self.head = Product16(self.table if config.tied else state["lm_head.weight"], None)
        self.layers = [Layer(config, state, i, product) for i in range(config.layers)]
        self.final_norm = state["final_norm.weight"].float()
        self.turns = torch.empty(0, config.D // 2, dtype=torch.complex64)

    def parameters(self):
        """What tells `generate` the device."""
        return iter([self.final_norm])

    def eval(self) -> "TalkingGPT":
        return self

    def _turns(self, start: int, T: int, positions: Tensor | None) -> Tensor:
        """Unit complex numbers ([B,] T, 1, D/2): by how much each position turns its pairs."""
        need = start + T if positions is None else int(positions.max()) + 1
        if need > len(self.turns):
            cos, sin = rotary_angles(torch.arange(2 * need), self.config.D,
                                     self.config.rotary_base, self.config.rotary_factors)
            self.turns = torch.complex(cos, sin)
        found = self.turns[start:start + T] if positions is None else self.turns[positions]
        return found.unsqueeze(-2)

    def hidden(self, ids: Tensor, *, cache=None, positions: Tensor | None = None,
               mask: Tensor | None = None) -> Tensor:
        """ids (B, T) -> (B, T, C) after the final norm, as GPT.hidden."""
        (B, T), C = ids.shape, self.config.width
        turns = self._turns(0 if cache is None else cache.length, T, positions)
        x = self.table[ids.reshape(-1)].float()                             # (B T, C)
        for number, layer in enumerate(self.layers):
            qkv = layer.qkv(self._norm(x, layer.norm))
            y = self._attention(layer, number, qkv.view(B, T, -1), turns, cache, mask)
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

    def _attention(self, layer: Layer, number: int, qkv: Tensor, turns: Tensor, cache,
                   mask: Tensor | None) -> Tensor:
        """(B, T, (H + 2 H_kv) D) -> (B T, H D)."""
        B, T, _ = qkv.shape
        H, KV, D = self.config.heads, self.config.kv_heads or self.config.heads, self.config.D
        qk, v = qkv[..., :(H + KV) * D].view(B, T, H + KV, D), qkv[..., (H + KV) * D:]
        if self.config.qk_norm:
            qk = torch.cat([F.rms_norm(qk[:, :, :H], (D,), layer.q_norm, self.eps),
                            F.rms_norm(qk[:, :, H:], (D,), layer.k_norm, self.eps)], dim=2)
        # a turn is one complex product for queries and keys together
        qk = torch.view_as_real(torch.view_as_complex(qk.unflatten(-1, (-1, 2))) * turns)
        qk = qk.flatten(-2).transpose(1, 2)                                 # (B, H + H_kv, T, D)
        q, k, v = qk[:, :H], qk[:, H:], v.view(B, T, KV, D).transpose(1, 2)
        if cache is not None:
            k, v = cache.extend(number, k, v)
        if T == 1:          # the queries of a group stand where T stood: no key is copied
            scores = q.reshape(B, KV, H // KV, D) @ k.mT                    # (B, H_kv, H/H_kv, T)
            if mask is not None:
                scores = scores.masked_fill(~mask, float("-inf"))
            return (scores.softmax(-1) @ v).reshape(B, H * D)
        if mask is None and k.shape[2] > T:
            mask = torch.ones(T, k.shape[2], dtype=torch.bool).tril(k.shape[2] - T)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None,
                                           scale=1.0, enable_gqa=H != KV)
        return y.transpose(1, 2).reshape(B * T, H * D)

    def __call__(self, ids: Tensor, **context) -> tuple[Tensor, None]:
        """Logits (B, T, V) and no loss, as GPT gives without targets."""
        h = self.hidden(ids, **context)
        return self.head(h.flatten(0, 1)).view(*ids.shape, -1), None
