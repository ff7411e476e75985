"""HF's tokenizer.json to the parts of a byte-level BPE tokenizer, and back.

    from hf_json import read_hf, write_hf

The parts are the arguments of `bpe.Tokenizer`, by name. What we would do otherwise than HF is
refused in one line, not done silently. The file is written so that as many readers as possible give
our ids; the table in MEASURED.md says which, with versions.
"""

import json
import os
import re
from itertools import product
from pathlib import Path
from typing import Mapping

from artifacts import BadInput, need, shown, whole
from byte_alphabet import FROM_PRINTABLE, Spelt, printable
from pretokenize import PATTERNS, UNDIVIDED, Pattern
from unicode_classes import UNICODE_VERSION

POSSESSIVE = re.compile(r"((?:\\p\{\w+\}|\\.|\[(?:\\.|[^]])*\]|[^\\)])\{(?=,?\d)[\d,]*\})\+")
DIGIT = r"\p{N}"                  # HF's step Digits, which cuts numbers out one by one
PUNCTUATION = r"[\p{P}$+<=>^`|~]"  # HF's step Punctuation: Unicode's, and all signs of ASCII
COMPOSED = "K;`"                  # in ASCII: what the signs of kelvin, ; and ` in Greek become
OTHER_STEPS = "splits the text in steps of another kind"
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
    content = read_json(need(path, "01_tokenizer/train_tokenizer.py"))
    try:
        model = content["model"]
        if refused := unlike_ours(content):
            raise BadInput(refused + ": only byte-level BPE behind split patterns is read")
        specials = {token["content"]: token["id"] for token in content.get("added_tokens") or []}
        spelt = Spelt(model["vocab"])
        vocab = {i: spelt.token(name) for name, i in model["vocab"].items()
                 if specials.get(name) != i}
        # A pair that stands there twice has its last rank, as in HF's table.
        pairs = [tuple(m.split(" ") if isinstance(m, str) else m) for m in model["merges"]
                 if not (isinstance(m, str) and m.startswith("#version"))]
        pairs = [*dict.fromkeys(reversed(pairs))][::-1]
        try:
            merges = [(spelt[a], spelt[b]) for a, b in pairs]
        except KeyError as error:
            raise BadInput(f"has a merge with {error.args[0]!r}, which is not in GPT-2's alphabet")
        if twice := two_roles(specials, model, pairs):
            raise BadInput(twice)
        pattern = pattern_of(content.get("pre_tokenizer") or {})
    except BadInput as error:
        raise BadInput(f"{shown(path)} {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{shown(path)} is not a byte-level BPE tokenizer.json "
                       f"({repr(error)[:200]})")
    vocab.update({i: name.encode() for name, i in specials.items()})
    return {"vocab": vocab, "merges": merges, "special_tokens": specials, "pattern": pattern,
            "whole_pieces": bool(model.get("ignore_merges")),
            "normalizer": normalizer_of(content)}


def read_json(path: str | os.PathLike) -> object:
    """What a JSON file holds; BadInput if it is no UTF-8 or no JSON, or nested without end."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadInput(f"{shown(path)} is not UTF-8 ({error}), so it is no JSON")
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{shown(path)} is not JSON ({error})")


def unlike_ours(content: Mapping) -> str | None:
    """What in a tokenizer.json makes HF give other ids than we would, in words; or None."""
    model, normalizer = content["model"], normalizer_of(content)
    if not isinstance(model["merges"], list):
        return "has merges that are no list"
    if model.get("type", "BPE") != "BPE":
        return f"is a tokenizer of type {model['type']}"
    if model.get("byte_fallback"):
        return "spells unknown characters as <0x..> tokens (byte_fallback)"
    if normalizer not in (None, "NFC"):
        return f"changes the text before it splits it (its normalizer {normalizer})"
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            return f"has a {name}"
    if model.get("unk_token") and (lost := set(FROM_PRINTABLE) - set(model["vocab"])):
        return (f"has an unk_token, {model['unk_token']!r}, in the place of {len(lost)} of the 256 "
                f"bytes ({min(lost)!r} in its spelling)")
    added = content.get("added_tokens") or []
    return odd_ids(model["vocab"]) or odd_added_tokens(model["vocab"], added, normalizer)


def odd_ids(vocab: Mapping[str, int]) -> str | None:
    """What is wrong with the ids of a vocabulary, token -> id, in words; or None."""
    ids, owner = vocab.values(), {}
    if {*map(type, ids)} == {int} and len({*ids}) == len(ids) and min(ids) >= 0:
        return None                   # nearly always; otherwise one by one, to say which
    for name, i in vocab.items():
        if type(i) is not int or i < 0:
            return f"gives the token {name!r} the id {i!r}, which is no number from 0 on"
        if owner.setdefault(i, name) != name:
            return f"gives two tokens the id {i}: {owner[i]!r} and {name!r}"
    return None


def two_roles(specials: Mapping[str, int], model: Mapping, pairs: list[tuple]) -> str | None:
    """Which token two kinds of text would reach, or one kind in HF and another here; or None."""
    alphabet, vocab = FROM_PRINTABLE.keys(), model["vocab"]
    plain = [name for name in specials if name in vocab and alphabet >= set(name)]
    made = {a + b for a, b in pairs} if plain else set()
    if both := next((name for name in plain if len(name) == 1 or name in made), None):
        return f"has the added token {both!r}, which is an ordinary token too"
    # Looked up by its bytes, a token in other letters would be found; HF does not find it.
    if model.get("ignore_merges"):
        if odd := next((name for name in vocab if name not in specials
                        and not alphabet >= set(name)), None):
            return f"has ignore_merges and the token {odd!r}, which is not in GPT-2's alphabet"
    return None


def odd_added_tokens(vocab: Mapping, added: list[Mapping], normalizer: str | None) -> str | None:
    """What about the added tokens is otherwise in HF, in words; or None.

    HF looks a token's id up in the vocabulary, or takes the next free one: the file's own number is
    not asked. Those with the mark "normalized" it looks for in the text behind the normalizer, and
    after all others.
    """
    known, greatest = dict(vocab), -1
    for token in added:
        name, i = token["content"], token["id"]
        if any(token.get(flag) for flag in ("lstrip", "rstrip", "single_word")):
            return f"takes white space or words beside {name!r} into account"
        theirs = known.setdefault(name, max(len(vocab), greatest + 1))
        if theirs != i:
            return (f"gives the added token {name!r} the id {i}, where HF tokenizers, which does "
                    f"not read that number, gives {theirs}")
        greatest = max(greatest, theirs)
    late = [token["content"] for token in added if token.get("normalized")]
    early = [token["content"] for token in added if not token.get("normalized")]
    for name in late if normalizer else ():
        # Composing leaves ASCII alone, but for these and a last sign that a mark may follow.
        if not name.isascii() or set(COMPOSED) & set(name) or re.search("[A-Za-z<=>]$", name):
            return f"looks for the added token {name!r} in the text behind its normalizer"
    for a, b in product(early, late):
        if overlap(a, b) or overlap(b, a):
            return f"has the added tokens {a!r} and {b!r}, which overlap, and looks for {a!r} first"
    return None


def overlap(a: str, b: str) -> bool:
    """Whether a text can hold both so that `b` begins inside `a`."""
    return any(b.startswith(a[k:]) or a[k:].startswith(b) for k in range(len(a)))


def normalizer_of(content: Mapping) -> str | None:
    """The name of what changes the text before the split: "NFC", another one, or None."""
    names = [step["type"] for step in _flat(content.get("normalizer") or {"normalizers": []},
                                            "normalizers")]
    return " and ".join(dict.fromkeys(names)) or None


def pattern_of(pre_tokenizer: Mapping) -> Pattern:
    """What a pre_tokenizer splits by, under our name where it has one; BadInput names what we lack.

    `{"type": "ByteLevel", "add_prefix_space": False}` is "gpt2"; after a step Digits, "smollm".
    """
    *steps, last = _flat(pre_tokenizer, "pretokenizers") or [{}]
    patterns = [_split_step(step) for step in steps]
    if last.get("type") != "ByteLevel":
        raise BadInput(f"{OTHER_STEPS} ({last.get('type', 'none')} comes last, not ByteLevel)")
    if last.get("add_prefix_space", True):
        raise BadInput(f"{OTHER_STEPS} (ByteLevel with add_prefix_space)")
    if last.get("use_regex", True):             # HF's own copy of GPT-2's pattern
        patterns.append("gpt2")
    if patterns == [DIGIT, "gpt2"]:
        return "smollm"
    return tuple(patterns) if len(patterns) > 1 else (*patterns, UNDIVIDED)[0]


def _flat(step: Mapping, inner: str) -> list[Mapping]:
    """The steps of a sequence in order, those of sequences inside sequences too."""
    return [step] if inner not in step else [
        part for within in step[inner] for part in _flat(within, inner)]


def _split_step(step: Mapping) -> str:
    """The pattern that one step splits by; BadInput if it does more, or something else."""
    kind, behavior = step.get("type"), step.get("behavior", "Isolated")
    if kind == "Digits":
        return DIGIT if step.get("individual_digits") else DIGIT + "+"
    if kind == "Punctuation" and behavior in ("Isolated", "Contiguous"):
        return PUNCTUATION + "+" * (behavior == "Contiguous")
    if kind in ("Split", "Punctuation"):
        kind += f" with behavior {behavior}" + ", inverted" * bool(step.get("invert"))
    if step.get("type") != "Split":
        raise BadInput(f"{OTHER_STEPS} ({kind} before the last one)")
    regex = step["pattern"].get("Regex", re.escape(step["pattern"].get("String", "")))
    if name := next((name for name, known in PATTERNS.items() if known == regex), None):
        regex = name
    # To remove what does not match is to isolate what does, if the pattern leaves nothing out.
    if behavior != "Isolated" and not (behavior == "Removed" and step.get("invert") and name):
        raise BadInput(f"{OTHER_STEPS} ({kind})")
    # HF's engine takes `x{1,3}+` for one repeat of the other.
    return POSSESSIVE.sub(r"(?:\1)+", regex)
