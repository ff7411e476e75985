"""Tokenizers in the formats of others: HF tokenizer.json, GPT-2 vocab + merges, tiktoken ranks.

    from formats import to_hf, from_hf, load_gpt2, load_tiktoken
"""

import base64
import binascii
import json
import os
import re
from pathlib import Path
from typing import Mapping, Sequence

from artifacts import BadInput, need, shown, whole
from bpe import HF_BYTE_ORDER, PRINTABLE, Tokenizer
from pretokenize import PATTERNS, UNICODE_VERSION

# GPT-2's alphabet: a printable character for each byte, so that a merge fits on one line. Printable
# bytes stand for themselves, the others for U+0100, U+0101, ... in order: a space is Ġ.
TO_PRINTABLE = {b: chr(b) if b in set(PRINTABLE) else chr(256 + HF_BYTE_ORDER.index(b)
                                                         - len(PRINTABLE)) for b in range(256)}
UNDIVIDED = "(?s:.+)"              # the pattern that takes every text for one piece
POSSESSIVE = re.compile(r"((?:\\p\{\w+\}|\\.|\[(?:\\.|[^]])*\]|[^\\)])\{\d[\d,]*\})\+")
FROM_PRINTABLE = {character: byte for byte, character in TO_PRINTABLE.items()}


def printable(token: bytes) -> str:
    """`token` in GPT-2's alphabet: `printable(b" the\\n")` is `'ĠtheĊ'`."""
    return "".join(TO_PRINTABLE[b] for b in token)


def unprintable(text: str) -> bytes:
    """The bytes that `printable` shows as `text`; KeyError for other characters."""
    return bytes(FROM_PRINTABLE[c] for c in text)


def to_hf(tokenizer: Tokenizer, path: str | os.PathLike) -> None:
    """Write a tokenizer.json that HF tokenizers loads with equal ids, and `from_hf` too."""
    specials = {i: name for name, i in tokenizer.special_tokens.items()}
    names = {i: printable(token) for i, token in sorted(tokenizer.vocab.items())
             if i not in specials}
    # HF numbers a special token anew if the vocabulary lacks it. One that is spelt like an ordinary
    # token (a merge made "the") cannot be in there twice.
    ordinary = set(names.values())
    names |= {i: name for i, name in specials.items() if name not in ordinary}
    # HF's engine takes `x{1,3}+` for one repeat of the other; this way all engines agree.
    regex = POSSESSIVE.sub(r"(?>\1)", PATTERNS.get(tokenizer.pattern, tokenizer.pattern))
    split = [] if tokenizer.pattern == UNDIVIDED else [{
        "type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False,
        # What counts as a letter depends on it. HF refuses unknown names elsewhere.
        "unicode_version": UNICODE_VERSION}]
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name, "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}
                         for name, i in tokenizer.special_tokens.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            *split, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                     "use_regex": False}]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {name: i for i, name in sorted(names.items())},
                  "merges": [f"{printable(a)} {printable(b)}" for a, b in tokenizer.merges]},
    }
    with whole(path) as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
        file.write("\n")


def from_hf(path: str | os.PathLike) -> Tokenizer:
    """Read a byte-level BPE tokenizer.json; BadInput if it is damaged or of another kind.

    Its ids are those of HF's `encode(text, add_special_tokens=False)` if `encode` is called with
    `allowed_special="all"`. What we would do otherwise than HF is refused, not done silently.
    """
    path = need(path, "01_tokenizer/train_tokenizer.py")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        model, added = content["model"], content.get("added_tokens") or []
        specials = {token["content"]: token["id"] for token in added}
        vocab = {i: unprintable(token) for token, i in model["vocab"].items()
                 if specials.get(token) != i}
        pairs = [tuple(m.split(" ")) if isinstance(m, str) else m for m in model["merges"]]
        merges = [(unprintable(a), unprintable(b)) for a, b in pairs]
        refused = unlike_ours(content)
        pattern = None if refused else _pattern_of(content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{shown(path)} is not a byte-level BPE tokenizer.json ({error!r})")
    if refused or pattern is None:
        raise BadInput(f"{shown(path)} {refused or 'splits the text in steps of another kind'}: "
                       "only byte-level BPE behind at most one split pattern is read")
    vocab.update({i: name.encode() for name, i in specials.items()})
    tokenizer = Tokenizer(vocab, merges, specials, pattern)
    ids = set(vocab) - set(specials.values())
    if model.get("ignore_merges") and (lost := ids - set(tokenizer.whole_ids())):
        raise BadInput(f"{shown(path)} takes token {vocab[min(lost)]!r}, which its merges do not "
                       "make, for whole words (ignore_merges): that is not read")
    return tokenizer


def unlike_ours(content: Mapping) -> str | None:
    """What in a tokenizer.json makes HF give other ids than we would, in words; or None."""
    model, added = content["model"], content.get("added_tokens") or []
    flagged = [token["content"] for token in added
               if any(token.get(flag) for flag in ("lstrip", "rstrip", "single_word"))]
    if model.get("type", "BPE") != "BPE":
        return f"is a tokenizer of type {model['type']}"
    if content.get("normalizer") is not None:
        return "changes the text before it splits it (its normalizer)"
    if flagged:
        return f"takes white space or words beside {flagged[0]!r} into account"
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            return f"has a {name}"
    return None


def _pattern_of(content: Mapping) -> str | None:
    """The split pattern of a tokenizer.json, by our name where it has one; None if we lack it."""
    pre = content.get("pre_tokenizer") or {}
    *splits, last = pre.get("pretokenizers", [pre])
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space", True) or len(splits) > 1:
        return None
    own = last.get("use_regex", True)           # HF's own copy of GPT-2's pattern
    if not splits:
        return "gpt2" if own else UNDIVIDED
    split = splits[0]
    if own or split.get("type") != "Split" or split["behavior"] != "Isolated":
        return None
    regex = split["pattern"].get("Regex") or re.escape(split["pattern"]["String"])
    if POSSESSIVE.search(regex):
        return None
    return next((name for name, known in PATTERNS.items() if known == regex), regex)


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
    made = {a + b for a, b in merges} | {name.encode() for name in special_tokens}
    for i, token in vocab.items():
        if len(token) > 1 and token not in made:
            raise BadInput(f"no line of {shown(merges_txt)} makes {printable(token)!r}, token {i} "
                           f"of {shown(vocab_json)}: a line is missing, or it is a special token")
    return Tokenizer(vocab, merges, special_tokens, "gpt2")


def load_tiktoken(path: str | os.PathLike, pattern: str = "gpt4",
                  special_tokens: Mapping[str, int] | Sequence[str] = ()) -> Tokenizer:
    """Read a tiktoken rank file: base64(token), a space, its rank, per line."""
    ranks = {}
    for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise BadInput(f"{shown(path)} line {number} is not 'base64 rank': {line!r}")
    vocab = {i: token for token, i in ranks.items()}
    # A special token may stand between the others, as in p50k_base.
    named = special_tokens.values() if isinstance(special_tokens, Mapping) else ()
    if missing := set(range(max(vocab, default=-1) + 1)) - set(vocab) - set(named):
        raise BadInput(f"{shown(path)}: a rank is missing: no line has rank {min(missing)}")
    return Tokenizer(vocab, merges_from_ranks(ranks), special_tokens, pattern)


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
