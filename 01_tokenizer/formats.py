"""Tokenizers in the formats of others: HF tokenizer.json, GPT-2 vocab + merges, tiktoken ranks.

    from formats import to_hf, from_hf, load_gpt2, load_tiktoken
"""

import base64
import binascii
import json
import os
from pathlib import Path
from typing import Mapping, Sequence

from artifacts import BadInput, need, shown, whole
from bpe import HF_BYTE_ORDER, PRINTABLE, Tokenizer
from pretokenize import PATTERNS, UNICODE_VERSION

# GPT-2's alphabet: a printable character for each byte, so that a merge fits on one line. Printable
# bytes stand for themselves, the others for U+0100, U+0101, ... in order: a space is Ġ.
TO_PRINTABLE = {b: chr(b) if b in set(PRINTABLE) else chr(256 + HF_BYTE_ORDER.index(b)
                                                         - len(PRINTABLE)) for b in range(256)}
FROM_PRINTABLE = {character: byte for byte, character in TO_PRINTABLE.items()}


def printable(token: bytes) -> str:
    """`token` in GPT-2's alphabet: `printable(b" the\\n")` is `'ĠtheĊ'`."""
    return "".join(TO_PRINTABLE[b] for b in token)


def unprintable(text: str) -> bytes:
    """The bytes that `printable` shows as `text`; KeyError for other characters."""
    return bytes(FROM_PRINTABLE[c] for c in text)


def to_hf(tokenizer: Tokenizer, path: str | os.PathLike) -> None:
    """Write a tokenizer.json that HF tokenizers loads with equal ids, and `from_hf` too."""
    specials = set(tokenizer.special_tokens.values())
    split = PATTERNS.get(tokenizer.pattern, tokenizer.pattern)
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name, "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}
                         for name, i in tokenizer.special_tokens.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated",
             "invert": False,
             # What counts as a letter depends on it. HF refuses unknown names elsewhere.
             "unicode_version": UNICODE_VERSION},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": False}]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {printable(token): i for i, token in sorted(tokenizer.vocab.items())
                            if i not in specials},
                  "merges": [f"{printable(a)} {printable(b)}" for a, b in tokenizer.merges]},
    }
    with whole(path) as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
        file.write("\n")


def from_hf(path: str | os.PathLike) -> Tokenizer:
    """Read a byte-level BPE tokenizer.json; BadInput if it is damaged or of another kind."""
    path = need(path, "01_tokenizer/train_tokenizer.py")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        model = content["model"]
        vocab = {i: unprintable(token) for token, i in model["vocab"].items()}
        pairs = [tuple(m.split(" ")) if isinstance(m, str) else m for m in model["merges"]]
        merges = [(unprintable(a), unprintable(b)) for a, b in pairs]
        specials = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{shown(path)} is not a byte-level BPE tokenizer.json ({error!r})")
    vocab.update({i: name.encode() for name, i in specials.items()})
    # What we would silently do otherwise than HF is refused.
    if content.get("normalizer") is not None:
        raise BadInput(f"{shown(path)} changes the text before it splits it (its normalizer): "
                       "only tokenizers without one are read")
    return Tokenizer(vocab, merges, specials, _pattern_of(content))


def _pattern_of(content: Mapping) -> str:
    """The split pattern of a tokenizer.json, by our name where it has one."""
    pre = content.get("pre_tokenizer") or {}
    for step in pre.get("pretokenizers", [pre]):
        if step.get("type") == "Split":
            regex = step["pattern"]["Regex"]
            return next((name for name, known in PATTERNS.items() if known == regex), regex)
    return "gpt2"


def load_gpt2(vocab_json: str | os.PathLike, merges_txt: str | os.PathLike,
              special_tokens: Sequence[str] = ("<|endoftext|>",)) -> Tokenizer:
    """Read GPT-2's two files: vocab.json (token -> id) and merges.txt (a pair per line)."""
    try:
        named = json.loads(Path(vocab_json).read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{shown(vocab_json)} is not JSON ({error})")
    vocab = {i: name.encode() if name in special_tokens else unprintable(name)
             for name, i in named.items()}
    merges = []
    # Split at "\n" only: U+0085 and U+2028 would be line ends too for splitlines().
    lines = Path(merges_txt).read_text(encoding="utf-8").split("\n")
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
            raise BadInput(f"{shown(merges_txt)} line {number} is not two tokens in GPT-2's "
                           f"printable alphabet: {line!r}")
    return Tokenizer(vocab, merges, special_tokens, "gpt2")


def load_tiktoken(path: str | os.PathLike, pattern: str = "gpt4",
                  special_tokens: Mapping[str, int] | Sequence[str] = ()) -> Tokenizer:
    """Read a tiktoken rank file: base64(token), a space, its rank, per line."""
    ranks = {}
    for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise BadInput(f"{shown(path)} line {number} is not 'base64 rank': {line!r}")
    return Tokenizer({i: t for t, i in ranks.items()}, merges_from_ranks(ranks), special_tokens,
                     pattern)


def merges_from_ranks(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The merges implied by ranks: each token is the merge of the last two parts it had."""
    merges = []
    for token in sorted((t for t in ranks if len(t) > 1), key=ranks.get):
        parts = [token[i:i + 1] for i in range(len(token))]
        limit = ranks[token]
        # Encode the token with the ranks below its own: two parts must remain.
        while len(parts) > 2:
            best = min(range(len(parts) - 1),
                       key=lambda i: ranks.get(parts[i] + parts[i + 1], limit))
            if ranks.get(parts[best] + parts[best + 1], limit) >= limit:
                break
            parts[best:best + 2] = [parts[best] + parts[best + 1]]
        if len(parts) != 2:
            raise BadInput(f"token {token!r} (rank {limit}) is not a merge of two earlier ones: "
                           "a rank is missing")
        merges.append((parts[0], parts[1]))
    return merges
