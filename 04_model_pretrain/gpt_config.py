"""The shape of a model: the plain values that make the code of gpt.py ours, GPT-2 or a Llama.

    GPTConfig(vocab_size=4096, layers=4, width=256, heads=4)
    GPTConfig(**GPT2, layers=12, width=768, heads=12, vocab_size=50257, sequence_length=1024)

Values that cannot go together are refused in words when they are put together, not by a reshape
somewhere in the model.
"""

from dataclasses import dataclass

# GPTConfig(**GPT2, ...): the model of Radford et al. 2019
GPT2 = dict(mlp="gelu", norm="layer", positions="learned", qk_norm=False, bias=True, tied=True,
            mix_previous=False, late_keys=False)


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT: plain values only, saved inside every checkpoint."""
    vocab_size: int = 4096
    sequence_length: int = 256          # the longest context trained on, T
    layers: int = 4
    width: int = 256                    # C
    heads: int = 4                      # H
    head_size: int | None = None        # D; None: C / H
    kv_heads: int | None = None         # fewer than H: grouped queries; None: as many as H
    mlp: str = "squared_relu"           # "squared_relu" | "swiglu" | "gelu" (tanh) | "exact_gelu"
    mlp_width: int | None = None        # None: 4 C (8/3 C for swiglu, for equal parameters)
    norm: str = "rms"                   # "rms" | "layer"
    norm_eps: float | None = None       # None: 1e-6 for rms, 1e-5 for layer
    positions: str = "rotary"           # "rotary" | "learned"
    rotary_base: float = 10_000.0
    rotary_factors: tuple | None = None     # D / 2 numbers: pair i turns factors[i] times slower
    qk_norm: bool = True
    bias: bool = False
    qkv_bias: bool | None = None        # on query, key and value alone (Qwen2); None: as bias
    tied: bool = False                  # the head shares its matrix with the embedding
    mix_previous: bool = True           # add a learned share of the previous token's embedding
    late_keys: bool = False             # every second head sees keys one token late: it can copy
    ngram_rows: int = 0                 # hashed table of token pairs and triples; 0: none
    ngram_width: int = 64

    def __post_init__(self) -> None:
        for name, allowed in (("mlp", ("squared_relu", "swiglu", "gelu", "exact_gelu")),
                              ("norm", ("rms", "layer")), ("positions", ("rotary", "learned"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} {getattr(self, name)!r} is not among {allowed}")
        for name in ("vocab_size", "sequence_length", "layers", "width", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)}: a model has at least one")
        if self.late_keys and self.positions != "rotary":
            raise ValueError("late keys need rotary positions")
        D = self.head_size or (0 if self.width % self.heads else self.width // self.heads)
        if D < 2 or D % 2 or self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"{self.heads} heads must divide width {self.width} into even parts, "
                             f"and kv_heads {self.kv_heads} must divide the heads")
        if self.rotary_factors is not None:         # a file of plain values may hold a list
            object.__setattr__(self, "rotary_factors", tuple(map(float, self.rotary_factors)))
            if len(self.rotary_factors) != D // 2:
                raise ValueError(f"{len(self.rotary_factors)} rotary factors for {D // 2} pairs")

    @property
    def D(self) -> int:
        """The size of one head."""
        return self.head_size or self.width // self.heads

    @property
    def M(self) -> int:
        """The width of the feed-forward half; swiglu has three matrices of it, the others two."""
        C = self.width
        return self.mlp_width or (4 * C if self.mlp != "swiglu" else 8 * C // 3 // 8 * 8)
