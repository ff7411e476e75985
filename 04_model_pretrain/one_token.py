"""One token of a small model: the sums of fast_decoding.py with numpy around torch's products.

    step = OneToken(talking)                    # a TalkingGPT in 32 bits on the processor
    h = step(ids, cache)                        # (1, 1) -> (1, 1, C), as TalkingGPT.hidden

A model of width 128 needs 0.2 ms of arithmetic for a token. What it waits for is calls: torch asks
at each of them which device, type and gradient it is for, 2 to 5 microseconds, and numpy takes
one. So vectors are numpy's here and only matrices times vectors go to torch, which obeys
--threads (numpy's own library of products does not). The arrays share torch's memory: no copy.
How much faster: MEASURED.md, "Writing".
"""

import numpy as np
import torch
from torch import Tensor


def product(weight: Tensor, bias: np.ndarray | None, x: np.ndarray) -> np.ndarray:
    """(M, C) times (C,), and the bias (M,) -> (M,)."""
    y = torch.mv(weight, torch.from_numpy(x)).numpy()
    return y if bias is None else y + bias


def softmax(scores: np.ndarray) -> np.ndarray:
    """(..., T) -> (..., T), in place."""
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= np.add.reduce(scores, axis=-1, keepdims=True)
    return scores


class OneToken:
    """Hidden states of the next token of one text, behind what a KVCache holds."""

    def __init__(self, talk) -> None:
        self.talk, self.config, self.eps = talk, talk.config, talk.eps
        H, KV, D = self.config.heads, self.config.kv_heads or self.config.heads, self.config.D
        self.H, self.KV, self.D, self.split = H, KV, D, (H + KV) * D
        self.table = talk.table.weight.numpy()
        self.share = None if talk.share is None else talk.share.numpy()
        self.final_norm = talk.final_norm.numpy()
        self.norms = [(layer.norm.numpy(), layer.mlp_norm.numpy()) for layer in talk.layers]
        self.matrices = [[(p.weight, None if p.bias is None else p.bias.numpy()) for p in
                          (layer.qkv, layer.out, layer.up, layer.down)] for layer in talk.layers]
        self.gains = [layer.qk_gain.numpy()[:, 0] for layer in talk.layers] \
            if self.config.qk_norm else None
        self.late = talk.late.numpy()[:, 0]                                 # (H + H_kv, 1)
        self.stored, self.views = None, []
        if talk.ngrams is not None:
            self.memory = talk.ngrams.table.detach().numpy()
            self.up = talk.ngrams.up.weight.detach()

    def __call__(self, ids: Tensor, cache) -> Tensor:
        if self.stored is not cache.keys[0]:            # another text, or other rows of a batch
            self.stored = cache.keys[0]
            self.views = [(k.numpy()[0], v.numpy()[0]) for k, v in zip(cache.keys, cache.values)]
        turn = self.talk._turns(cache.length, 1, None)[0].numpy()           # (D / 2,) complex
        x = self.embedded(int(ids), *cache.last[0].tolist())                # (C,)
        for number, (qkv, out, up, down) in enumerate(self.matrices):
            norm, mlp_norm = self.norms[number]
            x = x + product(*out, self.attention(number, product(*qkv, self.norm(x, norm)), turn,
                                                 cache))
            x += product(*down, self.bend(product(*up, self.norm(x, mlp_norm))))
        cache.advance(ids)
        return torch.from_numpy(self.norm(x, self.final_norm))[None, None]

    def norm(self, x: np.ndarray, gain: np.ndarray) -> np.ndarray:
        y = x * gain
        y *= (float(x.dot(x)) / len(x) + self.eps) ** -0.5
        return y

    def embedded(self, token: int, further: int, before: int) -> np.ndarray:
        """The token, its share of the one before, and what pairs and triples remember."""
        x = self.table[token]
        if self.share is not None:
            x = x + self.share * self.table[before]
        if self.talk.ngrams is not None:
            pair, triple = self.talk.ngrams.places(token, before, further)
            x = x + product(self.up, None, np.concatenate([self.memory[pair], self.memory[triple]]))
        return x

    def bend(self, h: np.ndarray) -> np.ndarray:
        if self.config.mlp != "squared_relu":           # others bend in a single call of torch
            return self.talk._bend(torch.from_numpy(h)[None])[0].numpy()
        np.maximum(h, 0, out=h)
        h *= h
        return h

    def attention(self, number: int, qkv: np.ndarray, turn: np.ndarray, cache) -> np.ndarray:
        """((H + 2 H_kv) D,) -> (H D,): the token's key and value join the cache, then it looks."""
        H, KV, D, n = self.H, self.KV, self.D, cache.length
        qk = qkv[:self.split].reshape(-1, D)                                # (H + H_kv, D)
        if self.gains is not None:
            size = np.einsum("hd,hd->h", qk, qk)
            size /= D
            size += self.eps
            qk /= np.sqrt(size, out=size)[:, None]
            qk *= self.gains[number]
        if self.config.late_keys:
            before = cache.key_before(number, torch.from_numpy(qk)[None, :, None])
            qk = np.where(self.late, before.numpy()[0, :, 0], qk)
        # a pair of channels is one complex number, and a turn a product
        qk = (qk.view(np.complex64) * turn).view(np.float32)
        keys, values = self.views[number]                                   # (H_kv, capacity, D)
        keys[:, n], values[:, n] = qk[H:], qkv[self.split:].reshape(KV, D)
        # einsum's loops, since a library of products would wake its threads for so little
        share = softmax(np.einsum("kgd,ktd->kgt", qk[:H].reshape(KV, H // KV, D), keys[:, :n + 1]))
        return np.einsum("kgt,ktd->kgd", share, values[:, :n + 1]).reshape(-1)
