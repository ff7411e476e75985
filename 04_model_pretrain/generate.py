"""Let a model write: sampling, a key-value cache, tokens streaming as they come.

    python 04_model_pretrain/generate.py "numpy.argsort(a, axis=-1)"

reads out/04_model_pretrain/base.pt and out/01_tokenizer/tokenizer.json, writes to the terminal.
Without the cache each new token costs a pass over the whole text; with it, a pass over one token.
"""

import math
import sys
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from artifacts import CommandLine, BadInput, command, need, out, within
from fast_decoding import packed
from gpt import GPT


class KVCache:
    """The keys and values of all tokens seen so far, so that they are computed only once.

    The model calls `extend` in each layer and `advance` once per pass. `length` tokens are stored
    of at most `capacity`; `last` (B, 2) are the newest two ids.
    """

    def __init__(self, layers: int, capacity: int) -> None:
        self.capacity, self.length, self.last = capacity, 0, None
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self.newest: list[Tensor | None] = [None] * layers      # keys not turned, for late heads

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k, v (B, H_kv, T, D) after what is there; returns all, (B, H_kv, T_total, D).

        Raises ValueError if they do not fit. `length` changes only in `advance`, when every
        layer has stored its part.
        """
        end = self.length + k.shape[2]
        if end > self.capacity:
            raise ValueError(f"{end} tokens do not fit a cache of {self.capacity}")
        if self.keys[layer] is None:
            # allocated once, at full size: growing by concatenation would copy all every token
            shape = (k.shape[0], k.shape[1], self.capacity, k.shape[3])
            self.keys[layer], self.values[layer] = k.new_empty(shape), v.new_empty(shape)
        # the new part behind what is there, and all that is filled goes back
        self.keys[layer][:, :, self.length:end] = k
        self.values[layer][:, :, self.length:end] = v
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def key_before(self, layer: int, k: Tensor) -> Tensor | None:
        """The key before those of k (B, H_kv, T, D), or None; keeps the last one of k."""
        before, self.newest[layer] = self.newest[layer], k[:, :, -1:]
        return before

    def take(self, rows: Tensor) -> None:
        """Keep these rows (B',) of the batch, in this order: fewer when some have ended, more
        when several continue one prompt."""
        for kept in (self.keys, self.values, self.newest):
            kept[:] = [z if z is None else z[rows] for z in kept]
        self.last = self.last[rows]

    def advance(self, ids: Tensor) -> None:
        """Count these ids (B, T) as stored, and remember the newest two (-1: there was none)."""
        self.length += ids.shape[1]
        last = ids.new_full((ids.shape[0], 2), -1) if self.last is None else self.last
        self.last = torch.cat([last, ids], dim=1)[:, -2:]


def penalise_repeats(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make every token that was already used less likely, by the factor of Keskar et al. 2019.

    logits (B, V), seen (B, L) ids -> (B, V) in the dtype of logits: positive logits of seen
    tokens are divided by `penalty`, negative ones multiplied, so that both go down for
    penalty > 1; -inf stays -inf. Each token is penalised once, however often it was used.
    Source: CTRL, section 4.1.
    """
    # (B, L) logits of the tokens that were used; a token used twice is gathered twice and
    # written back twice with the same value, so it is penalised once.
    used = logits.gather(1, seen)
    # Dividing -2 by 1.5 gives -1.3, which is likelier: below zero the factor multiplies.
    return logits.scatter(1, seen, torch.where(used > 0, used / penalty, used * penalty))


def forbid_repeats(logits: Tensor, seen: Tensor, size: int) -> Tensor:
    """No piece of `size` tokens a second time: what would complete one gets -inf.

    logits (B, V), seen (B, L) -> (B, V). Behind 5 6 7 5 6, size 3 forbids the 7; size 1 forbids
    all tokens that were used; a text of fewer than `size` tokens forbids none. A model that
    copies well goes round in circles, at which a penalty of a fifth only nibbles. But: a long name
    that should be said again is cut short too. Source: Paulus et al. 2017, section 2.5.
    """
    if size < 1:
        raise ValueError(f"pieces of {size} tokens cannot be forbidden: 1 or more")
    if seen.shape[1] < size:
        return logits
    pieces = seen.unfold(1, size, 1)                            # (B, L - size + 1, size)
    # a piece that begins with the newest size - 1 tokens: its last one is not said again
    newest = seen[:, None, seen.shape[1] - size + 1:]
    row, place = (pieces[..., :-1] == newest).all(-1).nonzero(as_tuple=True)
    return logits.index_put((row, pieces[row, place, -1]), logits.new_tensor(float("-inf")))


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """(B, V) -> (B, V): all but the k largest logits of each row become -inf (ties stay).
    ValueError for k < 1: something must be left to draw."""
    if k < 1:
        raise ValueError(f"top_k {k} leaves no token to draw")
    smallest_kept = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < smallest_kept, float("-inf"))


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most likely tokens whose probability reaches p.

    (B, V) -> (B, V), the others -inf. The token that crosses p is kept, and the likeliest always:
    probabilities [0.5, 0.3, 0.2] keep one at p = 0 and 0.5, two at p = 0.6, and all at p = 1.
    Source: Holtzman et al. 2020, nucleus sampling, equation 2.
    """
    ordered, index = logits.sort(descending=True)
    probability = ordered.softmax(-1)
    # what was reached BEFORE this token decides: the one that crosses p still belongs to the set
    reached_before = probability.cumsum(-1) - probability
    left_out = (reached_before >= p) & (p < 1)      # a sum that rounds up to 1 leaves none out
    left_out[:, 0] = False
    ordered = ordered.masked_fill(left_out, float("-inf"))
    return torch.empty_like(logits).scatter(1, index, ordered)


def keep_top_p_of_many(logits: Tensor, p: float, few: int = 256) -> Tensor:
    """keep_top_p for a large vocabulary: where the `few` likeliest tokens reach p, nobody needs the
    order of the others, and sorting 4,096 of them was half of a small model's time per token."""
    if logits.shape[1] <= 4 * few:
        return keep_top_p(logits, p)
    best, index = logits.topk(few)
    probability = (best - logits.logsumexp(-1, keepdim=True)).exp()     # of all, not of the few
    reached = probability.cumsum(-1)
    if p >= 1 or not bool((reached[:, -1] >= p).all()):
        return keep_top_p(logits, p)
    left_out = reached - probability >= p
    left_out[:, 0] = False
    nothing = torch.full_like(logits, float("-inf"))
    return nothing.scatter(1, index, best.masked_fill(left_out, float("-inf")))


def keep_min_p(logits: Tensor, min_p: float) -> Tensor:
    """Drop tokens less likely than `min_p` times the most likely one (Nguyen et al. 2024).

    (B, V) -> (B, V): few survive where the model is sure, many where it is not; the likeliest
    always, for every min_p up to 1 and beyond.
    """
    probability = logits.softmax(-1)
    floor = min(min_p, 1.0) * probability.max(dim=-1, keepdim=True).values
    return logits.masked_fill(probability < floor, float("-inf"))


def choose(logits: Tensor, seen: Tensor, *, temperature: float = 1.0, top_k: int | None = None,
           top_p: float | None = None, min_p: float | None = None,
           repetition_penalty: float = 1.0, no_repeat: int | None = None,
           generator: torch.Generator | None = None) -> Tensor:
    """Draw one token per row: logits (B, V), seen (B, L) -> ids (B,). Temperature 0: the likeliest.

    In this order: repetition penalty, no piece of `no_repeat` tokens twice, temperature, top-k,
    top-p, min-p, draw. A temperature near 0 draws what 0 takes. ValueError for a temperature or
    penalty that is not a size; BadInput for logits that are no numbers: a -inf only forbids its
    token.
    """
    if not (0 <= temperature < math.inf and 0 < repetition_penalty < math.inf):
        raise ValueError(f"temperature {temperature} and repetition_penalty {repetition_penalty} "
                         "must be at least and above 0")
    if math.isnan(top_p or 0) or math.isnan(min_p or 0):
        raise ValueError(f"top_p {top_p} and min_p {min_p} must be numbers")
    logits = logits.float()
    if repetition_penalty != 1.0:
        logits = penalise_repeats(logits, seen, repetition_penalty)
    if no_repeat is not None:
        logits = forbid_repeats(logits, seen, no_repeat)
    largest = logits.amax(-1, keepdim=True)
    if not torch.isfinite(largest).all():       # argmax would take a NaN for the likeliest token
        raise BadInput("the model's logits are no numbers: a weight is NaN or infinite, so train "
                       "it again or take an earlier checkpoint")
    if temperature == 0:
        return logits.argmax(-1)
    # The largest becomes 0 first: divided by 1e-38 it would be infinite, and its share NaN.
    logits = (logits - largest) / max(temperature, 1e-30)
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None:
        logits = keep_top_p_of_many(logits, top_p)
    if min_p is not None:
        logits = keep_min_p(logits, min_p)
    # One even number a row, and the token at which the running total passes it. multinomial draws
    # a number for each of B V tokens, which was a quarter of a rollout's time.
    reached = logits.softmax(-1).cumsum(-1)
    drawn = torch.rand(len(logits), 1, device=logits.device, generator=generator)
    return torch.searchsorted(reached, drawn * reached[:, -1:], right=True)[:, 0]


def generate(model: GPT, ids: Sequence[int], max_new_tokens: int, temperature: float = 1.0,
             top_k: int | None = None, top_p: float | None = None, stop: Sequence[int] = (), *,
             min_p: float | None = None, repetition_penalty: float = 1.0,
             no_repeat: int | None = None, generator: torch.Generator | None = None,
             use_cache: bool = True) -> Iterator[int]:
    """Continue one sequence, giving each token id as soon as it is drawn.

    Ends after `max_new_tokens`, or at a token of `stop`, which is not given. When the context is
    full, its newer half is read again and the text goes on. `use_cache=False` gives the same
    tokens, slowly.
    """
    if not len(ids):
        raise ValueError("nothing to continue: begin with <|endoftext|>")
    device = next(model.parameters()).device
    model = packed(model) if use_cache else model
    limit = model.config.sequence_length
    row = torch.tensor([[int(i) for i in ids][-limit:]], device=device)         # (1, T)
    cache, unread = None, 0
    for _ in range(max_new_tokens):
        if row.shape[1] > limit:            # full: forget the older half
            row, cache = row[:, -max(1, limit // 2):], None
        if use_cache and cache is None:
            # room for what can come: 8,192 tokens of 30 layers would be 377 MB, touched or not
            room = min(limit, row.shape[1] + max_new_tokens)
            cache, unread = KVCache(model.config.layers, room), 0
        with torch.inference_mode():        # a tenth faster than no_grad: no versions are counted
            # with a cache only what it has not seen goes in: all of the prompt, then one token
            h = model.hidden(row[:, unread:], cache=cache)
            logits = model.head(h[:, -1])                                   # (1, V)
            unread = row.shape[1] if use_cache else 0
            drawn = choose(logits, row, temperature=temperature, top_k=top_k, top_p=top_p,
                           min_p=min_p, repetition_penalty=repetition_penalty,
                           no_repeat=no_repeat, generator=generator)
            row = torch.cat([row, drawn[:, None]], dim=1)
        token = int(drawn)
        if token in stop:
            return
        yield token


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("prompt", nargs="?", default="", help="text to continue (default: none)")
    parser.add_argument("--model", default=out("04_model_pretrain", "base.pt"))
    parser.add_argument("--tokenizer", default=out("01_tokenizer", "tokenizer.json"))
    parser.add_argument("--max-new-tokens", type=within(int, low=0), default=200)
    parser.add_argument("--temperature", type=float, default=0.8, help="0: always the likeliest")
    parser.add_argument("--top-k", type=int, default=None,
                        help="sample among the k likeliest tokens")
    parser.add_argument("--top-p", type=float, default=0.95,
                        help="sample among the likeliest tokens of this total probability")
    parser.add_argument("--min-p", type=float, default=None,
                        help="leave out tokens under this share of the likeliest one's probability")
    parser.add_argument("--repetition-penalty", type=float, default=1.2,
                        help="divide the score of tokens already there; 1: off")
    parser.add_argument("--no-repeat", type=int, default=5,
                        help="say no piece of so many tokens twice; 0: off")
    parser.add_argument("--device", default="auto", help="cpu or cuda; auto: a GPU if any")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    from bpe import Tokenizer
    from checkpoint import check_tokenizer, load_model
    from ranks import device_named
    device = device_named(args.device)
    for name, least, most in (("temperature", 0, 1e9), ("top_k", 1, 1e9), ("top_p", 1e-9, 1),
                              ("min_p", 0, 1), ("repetition_penalty", 1e-9, 1e9),
                              ("no_repeat", 0, 1e9)):
        if not least <= (least if getattr(args, name) is None else getattr(args, name)) <= most:
            raise BadInput(f"--{name.replace('_', '-')} {getattr(args, name)} must be between "
                           f"{least:g} and {most:g}")
    need(args.tokenizer, "01_tokenizer/train_tokenizer.py")
    model, checkpoint = load_model(args.model, device)
    check_tokenizer(checkpoint, args.tokenizer, args.model)
    tokenizer = Tokenizer.load(args.tokenizer)
    end = tokenizer.special_tokens["<|endoftext|>"]
    generator = torch.Generator(device).manual_seed(args.seed)
    tokens = generate(model, [end] + list(tokenizer.encode(args.prompt)), args.max_new_tokens,
                      args.temperature, args.top_k, args.top_p, stop=(end,), min_p=args.min_p,
                      repetition_penalty=args.repetition_penalty,
                      no_repeat=args.no_repeat or None, generator=generator)
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    print(args.prompt, end="", flush=True)
    for piece in tokenizer.stream_decode(tokens):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    command(main)
