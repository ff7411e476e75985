"""Tokenizers in the formats of others: HF's tokenizer.json, GPT-2's two files, ranks, GGUF.

    from formats import from_gguf, from_hf, load_gpt2, load_tekken, load_tiktoken, to_hf
    load_tiktoken("cl100k_base.tiktoken", "gpt4", {"<|endoftext|>": 100257})

Every one of them gives the ids of the library that the file was made for, or says in one line why
not. Chapter 4 reads GGUF files and hands their metadata to `from_gguf`.
"""

import binascii
import os
from pathlib import Path
from typing import Mapping, Sequence

from artifacts import BadInput, shown
from bpe import Tokenizer
from bpe_ranks import read_ranks
from byte_alphabet import Spelt, printable, unprintable
from hf_json import odd_ids, read_json
from pretokenize import PATTERNS, Pattern

# llama.cpp's names of the ways to split (tokenizer.ggml.pre), as its llama-vocab.cpp reads them.
QWEN35 = PATTERNS["qwen2"].replace(r"\p{L}+|\p{N}", r"[\p{L}\p{M}]+|\p{N}").replace(
    r"[^\s\p{L}\p{N}]+", r"[^\s\p{L}\p{M}\p{N}]+")
TEKKEN = PATTERNS["o200k"].replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace("{1,3}", "")
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
    "viking": (BLOOM, r"\p{N}"), "qwen35": QWEN35, "tekken": TEKKEN,
}
# What llama.cpp says in code and the file does not: where a piece that is a token stays whole.
GGUF_WHOLE = ("tekken", "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral",
              "midm-2.0", "lfm2")
GGUF_KINDS = {"llama": "SentencePiece with byte fallback", "bert": "WordPiece", "t5": "Unigram",
              "rwkv": "RWKV's greedy tokens", "plamo2": "PLaMo's Unigram", "no_vocab": "none"}
# The first special tokens of a tekken.json that lists none, as mistral-common 1.13 names them.
TEKKEN_SPECIAL = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]",
    "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]")
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
        spelt = Spelt(names)
        vocab = {i: name.encode() if kind in SPECIAL else spelt.token(name)
                 for i, (name, kind) in enumerate(zip(names, types, strict=True))}
        merges = [(spelt[a], spelt[b]) for a, b in
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
    named = read_json(vocab_json)
    try:
        # Split at "\n" only: U+0085 and U+2028 would be line ends too for splitlines().
        merge_lines = Path(merges_txt).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{shown(merges_txt)} is not UTF-8 ({error})")
    if not isinstance(named, dict) or (odd := odd_ids(named)):
        raise BadInput(f"{shown(vocab_json)} "
                       + (odd if isinstance(named, dict) else "is no mapping of tokens to ids"))
    spelt = Spelt(named)
    vocab = {i: name.encode() if name in special_tokens else spelt.token(name)
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
                           f"printable alphabet: {line[:80]!r}")
    return [*dict.fromkeys(reversed(merges))][::-1]


def load_tiktoken(path: str | os.PathLike, pattern: Pattern = "gpt4",
                  special_tokens: Mapping[str, int] | Sequence[str] = (),
                  normalizer: str | None = None) -> Tokenizer:
    """Read a tiktoken rank file: base64(token), a space, its rank, per line.

    As in tiktoken, a piece that is a token stays whole: 678 tokens of Llama 3 are reached only so.
    Its merges are found when somebody asks for them; text is encoded by the ranks.
    """
    ranks = read_ranks(path)
    vocab = {i: token for token, i in ranks.items()}
    # A special token may stand between the others, as in p50k_base.
    named = special_tokens.values() if isinstance(special_tokens, Mapping) else ()
    # Among the first few numbers one is not there, if any is missing below the greatest rank.
    missing = set(range(min(max(vocab), len(vocab) + len(named)) + 1)) - set(vocab) - set(named)
    if missing:
        raise BadInput(f"{shown(path)}: a rank is missing: no line has rank {min(missing)}")
    return Tokenizer(vocab, None, special_tokens, pattern, whole_pieces=True,
                     normalizer=normalizer)


def load_tekken(path: str | os.PathLike) -> Tokenizer:
    """Read Mistral's tekken.json: ranks, split pattern and special tokens in one file.

    The first ids are those of the special tokens (`default_num_special_tokens`), and the token of
    rank k comes k places behind them. Of the ranks only as many count as `default_vocab_size`
    leaves. BadInput if a rank among them is missing or there twice.
    """
    content = read_json(path)
    try:
        config, listed = content["config"], content.get("special_tokens") or []
        first = config["default_num_special_tokens"]
        names = {token["token_str"]: token["rank"] for token in listed} or {
            name: i for i, name in enumerate(TEKKEN_SPECIAL[:first])}
        names |= {f"<SPECIAL_{i}>": i for i in range(len(names), first)}
        vocab = {first + token["rank"]: binascii.a2b_base64(token["token_bytes"], strict_mode=True)
                 for token in content["vocab"][:config["default_vocab_size"] - first]}
        if sorted(vocab) != [*range(first, config["default_vocab_size"])]:
            raise BadInput(f"{shown(path)}: a rank is missing, or there twice")
        return Tokenizer(vocab, None, names, config["pattern"], whole_pieces=True)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{shown(path)} is not a tekken.json of Mistral ({repr(error)[:200]})")
