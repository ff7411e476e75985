"""What a model costs: parameters and training FLOPs, counted exactly and by three conventions.

    from flops import parameters, training_flops
    parameters(config)["total"]; training_flops(config, tokens=1_000_000)

An addition and a multiplication are one FLOP each, so a product of (a, b) and (b, c) matrices is
2abc. Counted are matrix products, as everywhere in the field; norms, activations and the softmax
are left out (under 2 % of the work, though more of the time).

Letters: B batch, T time, C channels (width), L layers, V vocabulary, N parameters.
"""

import math
from typing import Callable

CONVENTIONS = ("exact", "6N", "kaplan", "chinchilla")


def mlp_width(config) -> int:
    """The inner width of the feed-forward half: 4 C, or 8/3 C (a multiple of 8) for SwiGLU."""
    if config.mlp_width:
        return config.mlp_width
    return 8 * config.width // 3 // 8 * 8 if config.mlp == "swiglu" else 4 * config.width


def parameters(config) -> dict[str, int]:
    """How many numbers the model of a GPTConfig holds, by part (gpt_config.py, and gpt.py with
    ngram_embedding.py, say what each setting adds).

    Gives {"embedding", "attention", "mlp", "ngram", "vectors", "head", "total", "non_embedding",
    "products"}. "embedding" are the tables: of tokens, of learned positions, of n-grams (2
    ngram_rows x ngram_width). "attention" and "mlp" are the matrices inside the blocks (all
    layers), "ngram" the small matrix that reads the n-gram table (2 ngram_width x C), "vectors"
    the gains of all norms, biases and shares, "head" the output matrix (0 if tied: it is the
    embedding again). non_embedding = total - embedding - head, Kaplan's N.
    "products" is what a token is multiplied with: attention + mlp + ngram + the output matrix,
    tied or not; tables are only looked up.
    4 layers of width 192, 4,096 tokens, no n-grams: 3,344,768 in all, 1,769,472 in the blocks.
    """
    C, V, L, M = config.width, config.vocab_size, config.layers, mlp_width(config)
    # All heads' queries together are Q numbers: C, unless the heads have a size of their own.
    D, Q = config.D, config.D * config.heads
    # Keys and values are kv numbers each: fewer, where a group of queries shares them.
    kv = D * (config.kv_heads or config.heads)
    # Query and output are C x Q, key and value C x kv; SwiGLU has a third matrix, the gate.
    attention = L * (2 * C * Q + 2 * C * kv)
    mlp = L * (3 if config.mlp == "swiglu" else 2) * C * M
    # Tables: token vectors, learned positions, and both halves of the n-gram table.
    embedding = V * C + (config.sequence_length * C if config.positions == "learned" else 0)
    embedding += 2 * config.ngram_rows * config.ngram_width
    ngram = 2 * config.ngram_width * C if config.ngram_rows else 0
    head = 0 if config.tied else V * C
    # One gain (LayerNorm: and a bias) per norm: two norms a layer and the final one. QK-norm has
    # two more in each layer, over D numbers.
    per_norm = C * (2 if config.norm == "layer" else 1)
    vectors = (2 * L + 1) * per_norm + (L * 2 * D if config.qk_norm else 0)
    vectors += C if config.mix_previous else 0
    if config.bias if config.qkv_bias is None else config.qkv_bias:     # on queries, keys, values
        vectors += L * (Q + 2 * kv)
    if config.bias:     # on the output C; in the MLP M on the way up (SwiGLU: twice) and C down
        vectors += L * (2 * C + (2 if config.mlp == "swiglu" else 1) * M)
    total = embedding + attention + mlp + ngram + vectors + head
    return {"embedding": embedding, "attention": attention, "mlp": mlp, "ngram": ngram,
            "vectors": vectors, "head": head, "total": total,
            "non_embedding": total - embedding - head,
            "products": attention + mlp + ngram + V * C}


def forward_flops(config, batch: int = 1, length: int | None = None, causal: bool = False) -> int:
    """FLOPs of the matrix products in one forward pass over (batch, length) tokens.

    `length` None: the config's sequence_length. Every weight of a product ("products" above)
    costs 2 per token. Attention adds scores and weighted sum:
    2 x 2 T^2 H D per layer and row; `causal=True` counts only the half that is not masked
    (2 x 2 H D x T (T + 1) / 2), which a good kernel really computes. torch's counter counts it all.
    """
    T = length or config.sequence_length
    # The matrices: each token meets every weight of a product once, with a multiply and an add.
    weights = 2 * parameters(config)["products"] * batch * T
    # The tokens among themselves: each of T queries meets T keys, or on average (T + 1) / 2.
    pairs = T * (T + 1) // 2 if causal else T * T
    return weights + 2 * 2 * config.layers * batch * pairs * config.heads * config.D


def training_flops(config, tokens: int, convention: str = "exact") -> float:
    """FLOPs to train on `tokens`: forward and backward, by one of four ways of counting.

    "exact"       3 x forward with causal attention (backward: one product for each factor);
    "6N"          6 x all parameters x tokens, the rule of thumb;
    "kaplan"      6 x non-embedding parameters x tokens: no head, no tables, no attention scores
                  (Kaplan et al. 2020, section 2.1);
    "chinchilla"  3 x forward with full attention, its softmax (3 H T^2 per layer and row), and
                  the embedding counted as the product with one-hot vectors that it is on paper
                  (2 T V C per row; Hoffmann et al. 2022, app. F).
    Forward is counted on a row of T = config.sequence_length tokens, and per token is a T-th of
    it; `tokens` need not fill whole rows.
    ValueError for another name.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention {convention!r} is not one of {CONVENTIONS}")
    count, T = parameters(config), config.sequence_length
    # The two rules of thumb need no shapes: 6 FLOPs a token for each parameter that they count.
    if convention == "6N":
        return 6.0 * count["total"] * tokens
    if convention == "kaplan":
        return 6.0 * count["non_embedding"] * tokens
    # The same row of T tokens again and again: cost of one row, divided by its tokens.
    if convention == "exact":
        return 3.0 * forward_flops(config, 1, T, causal=True) / T * tokens
    lookup = 2 * config.vocab_size * config.width * T
    softmax = 3 * config.layers * config.heads * T * T
    return 3.0 * (forward_flops(config, 1, T) + lookup + softmax) / T * tokens


def counted_flops(step: Callable[[], object]) -> int:
    """FLOPs of the matrix products that `step()` really runs, by torch's own FlopCounterMode.

    Attention runs as plain products meanwhile: the counter does not look into CPU kernels.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def kaplan_exponent(low: float = 1e12, high: float = 1e20, alpha: float = 0.348,
                    beta: float = 0.366, A: float = 482.0, B: float = 2085.4,
                    omega: float = 47_491.0) -> float:
    """The exponent of N against C that Kaplan's way of counting shows between two budgets.

    Take a law L = E + A / N^alpha + B / D^beta in ALL parameters N. A model of n parameters
    without embeddings has N = n + omega n^(1/3) in all (omega fits Chinchilla's model table:
    Pearce and Song 2024, equation 7). Counting compute as 6 n D, give the slope of log n_opt
    over log C from `low` to `high` FLOPs. From 1e22 to 1e26 it is the law's own
    beta / (alpha + beta) = 0.51; from 1e12 to 1e20 it is 0.76: the same law, counted differently.
    """
    def best_log_n(C: float) -> float:
        # At fixed C = 6 n D the loss has one minimum in n: golden section in log n finds it.
        def loss(log_n: float) -> float:
            n = math.exp(log_n)
            return A / (n + omega * n ** (1 / 3)) ** alpha + B / (C / (6 * n)) ** beta
        a, b = math.log(1e-3), math.log(C / 6)
        for _ in range(200):
            left, right = b - 0.618034 * (b - a), a + 0.618034 * (b - a)
            a, b = (a, right) if loss(left) < loss(right) else (left, b)
        return (a + b) / 2
    return (best_log_n(high) - best_log_n(low)) / math.log(high / low)
