"""HF's tokenizer.json to the parts of a byte-level BPE tokenizer, and back.

    from hf_json import read_hf, write_hf

The parts are the arguments of `bpe.Tokenizer`, by name. What we would do otherwise than HF is
refused in one line, not done silently. The file is written so that as many readers as possible give
our ids; the table in MEASURED.md says which, with versions.
"""

import json
import os
import re
from pathlib import Path
from typing import Mapping

from artifacts import BadInput, need, shown, whole
from byte_alphabet import printable, unprintable
from pretokenize import PATTERNS, UNDIVIDED, Pattern
from unicode_classes import UNICODE_VERSION

POSSESSIVE = re.compile(r"((?:\\p\{\w+\}|\\.|\[(?:\\.|[^]])*\]|[^\\)])\{\d[\d,]*\})\+")
DIGIT = r"\p{N}"                  # HF's step Digits, which cuts numbers out one by one
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


def write_hf(path: str | os.PathLike, vocab: Mapping[int, bytes],
             merges: list[tuple[bytes, bytes]], special_tokens: Mapping[str, int] = {},
             pattern: Pattern = "gpt2", whole_pieces: bool = False,
             normalizer: str | None = None) -> None:
    """Write a tokenizer.json, whole or not at all, that HF tokenizers loads with equal ids.

    BadInput, before anything is written, names a special token that is spelt in the file like an
    ordinary one ("the", or "Ġthe" for b" the") and has another id: HF would give both one id.
    """
    specials = {i: name for name, i in special_tokens.items()}
    names = {i: printable(token) for i, token in sorted(vocab.items()) if i not in specials}
    ordinary = {name: i for i, name in names.items()}
    for name, i in special_tokens.items():
        if name in ordinary:
            raise BadInput(f"the special token {name!r} (id {i}) is spelt like the ordinary token "
                           f"{ordinary[name]}, {vocab[ordinary[name]]!r}: in {shown(path)} the two "
                           "would be one; give it another name, such as <|name|>")
    names |= specials
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name, "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}
                         for name, i in special_tokens.items()],
        "normalizer": {"type": normalizer} if normalizer else None,
        "pre_tokenizer": _steps_of(pattern),
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": whole_pieces,
                  "vocab": {name: i for i, name in sorted(names.items())},
                  "merges": [f"{printable(a)} {printable(b)}" for a, b in merges]},
    }
    with whole(path) as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
        file.write("\n")


def _steps_of(pattern: Pattern) -> dict:
    """The pre_tokenizer that splits as `pattern` does."""
    # What counts as a letter depends on Unicode's version. Readers skip a name that they do not
    # know here, and refuse it elsewhere.
    version = {"unicode_version": UNICODE_VERSION}
    if pattern == "gpt2":             # the form that every reader knows: HF's own copy of it
        return BYTE_LEVEL | {"use_regex": True} | version
    if pattern == UNDIVIDED:
        return BYTE_LEVEL | {"use_regex": False}
    if pattern == "smollm":
        return {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            BYTE_LEVEL | {"use_regex": True} | version]}
    splits = []
    for step in (pattern,) if isinstance(pattern, str) else pattern:
        # HF's engine takes `x{1,3}+` for one repeat of the other; this way all engines agree.
        regex = POSSESSIVE.sub(r"(?>\1)", PATTERNS.get(step, step))
        splits.append({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated",
                       "invert": False} | version)
    return {"type": "Sequence", "pretokenizers": [*splits, BYTE_LEVEL | {"use_regex": False}]}


def read_hf(path: str | os.PathLike) -> dict:
    """The parts in a byte-level BPE tokenizer.json; BadInput if damaged or of another kind."""
    path = need(path, "01_tokenizer/train_tokenizer.py")
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        model, added = content["model"], content.get("added_tokens") or []
        refused = unlike_ours(content)
        specials = {token["content"]: token["id"] for token in added}
        vocab = {} if refused else {i: unprintable(token) for token, i in model["vocab"].items()
                                    if specials.get(token) != i}
        pairs = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
        merges = [] if refused else [(unprintable(a), unprintable(b)) for a, b in pairs]
        pattern = None if refused else pattern_of(content.get("pre_tokenizer") or {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{shown(path)} is not a byte-level BPE tokenizer.json ({error!r})")
    if refused or pattern is None:
        raise BadInput(f"{shown(path)} {refused or 'splits the text in steps of another kind'}: "
                       "only byte-level BPE behind split patterns is read")
    vocab.update({i: name.encode() for name, i in specials.items()})
    return {"vocab": vocab, "merges": merges, "special_tokens": specials, "pattern": pattern,
            "whole_pieces": bool(model.get("ignore_merges")),
            "normalizer": normalizer_of(content)}


def unlike_ours(content: Mapping) -> str | None:
    """What in a tokenizer.json makes HF give other ids than we would, in words; or None."""
    model, added = content["model"], content.get("added_tokens") or []
    flagged = [token["content"] for token in added
               if any(token.get(flag) for flag in ("lstrip", "rstrip", "single_word"))]
    if model.get("type", "BPE") != "BPE":
        return f"is a tokenizer of type {model['type']}"
    if model.get("byte_fallback"):
        return "spells unknown characters as <0x..> tokens (byte_fallback)"
    if normalizer_of(content) not in (None, "NFC"):
        return f"changes the text before it splits it (its normalizer {normalizer_of(content)})"
    if flagged:
        return f"takes white space or words beside {flagged[0]!r} into account"
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            return f"has a {name}"
    return None


def normalizer_of(content: Mapping) -> str | None:
    """The name of what changes the text before the split: "NFC", another one, or None."""
    step = content.get("normalizer") or {"type": "Sequence", "normalizers": []}
    steps = step.get("normalizers", [step])
    return " and ".join(inner["type"] for inner in steps) or None


def pattern_of(pre_tokenizer: Mapping) -> Pattern | None:
    """What a pre_tokenizer splits by, under our name where it has one; None if we lack a step.

    `{"type": "ByteLevel", "add_prefix_space": False}` is "gpt2"; after a step Digits, "smollm".
    """
    *steps, last = _flat(pre_tokenizer)
    patterns = [_split_step(step) for step in steps]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space", True) or None in patterns:
        return None
    if last.get("use_regex", True):             # HF's own copy of GPT-2's pattern
        patterns.append("gpt2")
    if patterns == [DIGIT, "gpt2"]:
        return "smollm"
    return tuple(patterns) if len(patterns) > 1 else (*patterns, UNDIVIDED)[0]


def _flat(step: Mapping) -> list[Mapping]:
    """The steps of a pre_tokenizer in order, those of sequences inside sequences too."""
    return [step] if "pretokenizers" not in step else [
        part for inner in step["pretokenizers"] for part in _flat(inner)]


def _split_step(step: Mapping) -> str | None:
    """The pattern that one step splits by; None if it does more, or something else."""
    if step.get("type") == "Digits":
        return DIGIT if step.get("individual_digits") else DIGIT + "+"
    if step.get("type") != "Split":
        return None
    regex = step["pattern"].get("Regex") or re.escape(step["pattern"]["String"])
    name = next((name for name, known in PATTERNS.items() if known == regex), None)
    # To remove what does not match is to isolate what does, if the pattern leaves nothing out.
    isolated = step["behavior"] == "Isolated" or (
        step["behavior"] == "Removed" and step.get("invert") and name)
    return (name or regex) if isolated and not POSSESSIVE.search(regex) else None
