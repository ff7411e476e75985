"""Tokenizers in the formats of others: HF tokenizer.json, GPT-2's two files, tiktoken ranks, GGUF.

    from formats import from_gguf, from_hf, load_gpt2, load_tiktoken, to_hf
    load_tiktoken("cl100k_base.tiktoken", "gpt4", {"<|endoftext|>": 100257})

Every one of them gives the ids of the library that the file was made for, or says in one line why
not. Chapter 4 reads GGUF files and hands their metadata to `from_gguf`.
"""

import binascii
import codecs
import json
import os
from pathlib import Path
from typing import Mapping, Sequence

from artifacts import BadInput, shown
from bpe import Tokenizer
from byte_alphabet import printable, unprintable
from hf_json import odd_ids, token_of
from pretokenize import PATTERNS, Pattern

# llama.cpp's names of the ways to split (tokenizer.ggml.pre), as its llama-vocab.cpp reads them.
QWEN35 = PATTERNS["qwen2"].replace(r"\p{L}+|\p{N}", r"[\p{L}\p{M}]+|\p{N}").replace(
    r"[^\s\p{L}\p{N}]+", r"[^\s\p{L}\p{M}\p{N}]+")
DEEPSEEK = (r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
            r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
            r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BLOOM = " ?[^(\\s|.,!?…。，、।۔،)]+"
GGUF_PATTERNS = {
    **dict.fromkeys(("gpt-2", "gpt2", "phi-2", "olmo", "mpt", "jais", "gigachat", "a.x-4.0",
                     "mellum", "modern-bert", "exaone4", "trillion", "granite-docling",
                     "roberta-bpe", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de",
                     "jina-v2-code"), "gpt2"),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral",
                     "midm-2.0", "lfm2", "smaug-bpe", "dbrx", "glm4", "chatglm-bpe"), "gpt4"),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "kormo", "megrez", "stablelm2", "hunyuan"),
                    "qwen2"),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone",
                     "minerva-7b"), "smollm"),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2"), "o200k"),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm"), DEEPSEEK),
    **dict.fromkeys(("bloom", "poro-chat", "gpt3-finnish"), BLOOM),
    "viking": (BLOOM, r"\p{N}"), "qwen35": QWEN35,
}
# What llama.cpp says in code and the file does not: where a piece that is a token stays whole.
GGUF_WHOLE = ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0",
              "lfm2")
GGUF_KINDS = {"llama": "SentencePiece with byte fallback", "bert": "WordPiece", "t5": "Unigram",
              "rwkv": "RWKV's greedy tokens", "plamo2": "PLaMo's Unigram", "no_vocab": "none"}
SPECIAL = (2, 3, 4)               # tokenizer.ggml.token_type: unknown, control, defined by the user


def to_hf(tokenizer: Tokenizer, path: str | os.PathLike) -> None:
    """Write a tokenizer.json that HF tokenizers loads with equal ids, and `from_hf` too."""
    tokenizer.save(path)


def from_hf(path: str | os.PathLike) -> Tokenizer:
    """Read a byte-level BPE tokenizer.json; BadInput if it is damaged or of another kind.

    Its ids are those of HF's `encode(text, add_special_tokens=False)` if `encode` is called with
    `allowed_special="all"`. What we would do otherwise than HF is refused, not done silently. Left
    out is what a file says about a model's input: truncation, padding, the tokens around a text.
    """
    return Tokenizer.load(path)


def from_gguf(metadata: Mapping) -> Tokenizer:
    """The tokenizer in the metadata of a GGUF file, given as a mapping of its keys to values.

    Read are tokenizer.ggml.model ("gpt2": byte-level BPE), .pre (how text is split), .tokens,
    .merges ("a b" in GPT-2's printable alphabet) and .token_type (1 ordinary; 2 unknown, 3 control,
    4 defined by the user: these become special tokens; 5 unused, 6 a byte). BadInput names the key
    and what it holds if it is of another kind. Source: llama.cpp, gguf-py/gguf/constants.py and
    src/llama-vocab.cpp.
    """
    def value(name: str, default=None):
        found = metadata.get("tokenizer.ggml." + name, default)
        if found is None:
            raise BadInput(f"the GGUF metadata has no tokenizer.ggml.{name}")
        return found

    kind, pre = value("model"), value("pre", "default")
    if kind != "gpt2":
        raise BadInput(f"tokenizer.ggml.model is {kind!r} ({GGUF_KINDS.get(kind, 'unknown')}): "
                       "only byte-level BPE, 'gpt2', is read")
    if pre not in GGUF_PATTERNS:
        raise BadInput(f"tokenizer.ggml.pre is {pre!r}, a way to split that is not known here; "
                       f"known are {', '.join(GGUF_PATTERNS)}")
    try:
        names = list(value("tokens"))
        types = list(value("token_type", [1] * len(names)))
        vocab = {i: name.encode() if kind in SPECIAL else token_of(name)
                 for i, (name, kind) in enumerate(zip(names, types, strict=True))}
        merges = [(unprintable(a), unprintable(b)) for a, b in
                  (merge.split(" ") for merge in value("merges"))]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"the tokens or merges of the GGUF metadata are damaged ({error!r})")
    specials = {name: i for i, (name, kind) in enumerate(zip(names, types)) if kind in SPECIAL}
    # Qwen's own tokenizer composes characters first; llama.cpp leaves that out.
    return Tokenizer(vocab, merges, specials, GGUF_PATTERNS[pre], whole_pieces=pre in GGUF_WHOLE,
                     normalizer="NFC" if pre in ("qwen2", "deepseek-r1-qwen") else None)


def load_gpt2(vocab_json: str | os.PathLike, merges_txt: str | os.PathLike,
              special_tokens: Sequence[str] = ("<|endoftext|>",)) -> Tokenizer:
    """Read GPT-2's two files: vocab.json (token -> id) and merges.txt (a pair per line)."""
    try:
        named = json.loads(Path(vocab_json).read_text(encoding="utf-8-sig"))
        # Split at "\n" only: U+0085 and U+2028 would be line ends too for splitlines().
        merge_lines = Path(merges_txt).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{shown(vocab_json)} or {shown(merges_txt)} is not UTF-8 ({error})")
    except ValueError as error:
        raise BadInput(f"{shown(vocab_json)} is not JSON ({error})")
    if not isinstance(named, dict) or (odd := odd_ids(named)):
        raise BadInput(f"{shown(vocab_json)} "
                       + (odd if isinstance(named, dict) else "is no mapping of tokens to ids"))
    vocab = {i: name.encode() if name in special_tokens else token_of(name)
             for name, i in named.items()}
    merges = _merges_of(merge_lines, merges_txt)
    made = {a + b for a, b in merges} | {name.encode() for name in special_tokens}
    for i, token in vocab.items():
        if len(token) > 1 and token not in made:
            raise BadInput(f"no line of {shown(merges_txt)} makes {printable(token)!r}, token {i} "
                           f"of {shown(vocab_json)}: a line is missing, or it is a special token")
    return Tokenizer(vocab, merges, special_tokens, "gpt2")


def _merges_of(lines: Sequence[str], path: str | os.PathLike) -> list[tuple[bytes, bytes]]:
    """The merges in the lines of a merges.txt; of two equal ones the last counts."""
    merges = []
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r")
        if not line or number == 1 and line.startswith("#version"):
            continue
        try:
            a, b = map(unprintable, line.split(" "))
            if not a or not b:
                raise ValueError("an empty token")
            merges.append((a, b))
        except (ValueError, KeyError):
            raise BadInput(f"{shown(path)} line {number} is not two tokens in GPT-2's "
                           f"printable alphabet: {line!r}")
    return [*dict.fromkeys(reversed(merges))][::-1]


def load_tiktoken(path: str | os.PathLike, pattern: Pattern = "gpt4",
                  special_tokens: Mapping[str, int] | Sequence[str] = (),
                  normalizer: str | None = None) -> Tokenizer:
    """Read a tiktoken rank file: base64(token), a space, its rank, per line.

    As in tiktoken, a piece that is a token stays whole: 678 tokens of Llama 3 are reached only so.
    """
    ranks = read_ranks(path)
    vocab = {i: token for token, i in ranks.items()}
    # A special token may stand between the others, as in p50k_base.
    named = special_tokens.values() if isinstance(special_tokens, Mapping) else ()
    # Among the first few numbers one is not there, if any is missing below the greatest rank.
    missing = set(range(min(max(vocab), len(vocab) + len(named)) + 1)) - set(vocab) - set(named)
    if missing:
        raise BadInput(f"{shown(path)}: a rank is missing: no line has rank {min(missing)}")
    return Tokenizer(vocab, merges_from_ranks(ranks), special_tokens, pattern, whole_pieces=True,
                     normalizer=normalizer)


def read_ranks(path: str | os.PathLike) -> dict[bytes, int]:
    """Token -> rank, from a tiktoken rank file; BadInput names the line that is none."""
    data = Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    columns = data.split()
    try:
        tokens = [binascii.a2b_base64(name, strict_mode=True) for name in columns[::2]]
        ranks = dict(zip(tokens, map(int, columns[1::2]), strict=True))
        if len({*ranks.values()}) == len(tokens) and min(ranks.values()) >= 0:
            return ranks
    except ValueError:                    # also what binascii raises
        pass
    # Something is wrong in this file: line by line, to say where.
    ranks, tokens = {}, {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            name, rank = line.split() if line.strip() else (None, 0)
            token, rank = name and binascii.a2b_base64(name, strict_mode=True), int(rank)
        except ValueError:
            raise BadInput(f"{shown(path)} line {number} is not 'base64 rank': {line[:80]!r}")
        if rank < 0:
            raise BadInput(f"{shown(path)} line {number}: the rank is negative")
        if name and (tokens.setdefault(rank, token) != token
                     or ranks.setdefault(token, rank) != rank):
            raise BadInput(f"{shown(path)} line {number} gives {token!r} the rank {rank}: another "
                           "line gives it another rank, or the rank to another token")
    if not ranks:
        raise BadInput(f"{shown(path)} holds no token")
    return ranks


def merges_from_ranks(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The merges implied by ranks, in order: a token is the merge of the last two parts it had.

    tiktoken merges any two neighbours that make a token, the lowest rank first. Inside one token
    this goes the same way whatever stands around it, so that one pair per token is enough; a token
    that its own bytes do not lead to has none.
    `merges_from_ranks({b"a": 0, b"b": 1, b"c": 2, b"bc": 3, b"ab": 4, b"abc": 5})` is
    `[(b"b", b"c"), (b"a", b"b"), (b"a", b"bc")]`.
    """
    # Token -> when it was made, and its two parts, both older.
    born, parts, merges = {token: -1 for token in ranks if len(token) == 1}, {}, []
    for token in sorted((t for t in ranks if len(t) > 1), key=ranks.get):
        rank = ranks[token]
        for k in range(1, len(token)):
            pair = left, right = token[:k], token[k:]
            # Nothing merges across the border between them before: these are the two. Six times
            # faster than to encode the token.
            if left in born and right in born and _stay_apart(*pair, rank, ranks, parts, born):
                parts[token], born[token] = pair, rank
                merges.append(pair)
                break
        else:                     # Llama 3 has 107 tokens that are older than one of their parts
            merges += _last_parts(token, ranks)
    return merges


def _last_parts(token: bytes, ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The two parts that `token` has last when its bytes merge by rank; [] if it stays in more."""
    parts, none = [token[i:i + 1] for i in range(len(token))], max(ranks.values()) + 1
    while len(parts) > 2:
        rank, k = min((ranks.get(a + b, none), k) for k, (a, b) in
                      enumerate(zip(parts, parts[1:])))
        if rank == none:
            return []
        parts[k:k + 2] = [parts[k] + parts[k + 1]]
    return [tuple(parts)]


def _stay_apart(left: bytes, right: bytes, rank: int, ranks: Mapping, parts: Mapping,
                born: Mapping) -> bool:
    """Whether no merge below `rank` crosses the border between two neighbouring tokens."""
    left_end = right_end = rank               # until when `left` and `right` are neighbours
    born_left, born_right = born[left], born[right]
    while born_left >= 0 or born_right >= 0:
        # Before the younger of the two was made, a part of it stood here; of two of the same rank
        # the left one was made first.
        if born_left > born_right:
            left_end, left = born_left, parts[left][1]
            born_left = born[left]
        else:
            right_end, right = born_right, parts[right][0]
            born_right = born[right]
        across = ranks.get(left + right, rank)
        # Of equal ranks the leftmost merges first, also across.
        if across < left_end and across <= right_end:
            return False
    return True
