"""Cut text into pre-tokens, the pieces inside which byte pairs may merge, and count them.

    from pretokenize import split
    split("We've 12 dogs")                    # ['We', "'ve", ' 12', ' dogs']

GPT-2's and GPT-4's published patterns run here on the standard library's `re`, twice as fast as
on the `regex` package they were written for. Left out: patterns with look-behind or set algebra.
The letters and numbers are those of this Python's Unicode version: a later one knows more letters,
so that a tokenizer.json records the version it was trained with.
"""

import os
import re
from collections import Counter, deque
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Iterable, Iterator

from artifacts import BadInput, shown
from array_split import FAMILIES, ArrayCounter
from unicode_classes import ASTRAL, SPACE, character_class, translate

# The patterns as published: openai/gpt-2 encoder.py; tiktoken cl100k_base (its first form, which is
# Llama 3's too) and o200k_base; Qwen 2 to 3 and SmolLM from their tokenizer.json. SmolLM cuts the
# digits out before it splits, so that white space before a digit is at the end of a text.
PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
             r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
    "qwen2": (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
              r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
    "smollm": (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+"
               r"|\s+(?![^\s\p{N}])|\s+"),
    "o200k": (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
              r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
              r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
              r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
              r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
}
GUARDED = ("gpt2", "gpt4", "qwen2", "smollm")     # those whose classes never give a character back
Pattern = str | tuple[str, ...]           # a name, a pattern, or several, one after another
BLOCK = 1 << 16                           # characters in a block of a stream
UNDIVIDED = "(?s:.+)"                      # the pattern that takes every text for one piece
SAMPLE = "ab Cd  12 3\n4 é\te! f.  - \n(x) y\r\n 'z 一 二\n"     # letters, signs and white space


@lru_cache(maxsize=None)
def compiled(pattern: str, ascii_only: bool = False) -> re.Pattern:
    """The compiled form of "gpt2", "gpt4", another name, or any pattern in the published notation.

    With `ascii_only` it is faster, and right for texts that are all ASCII. BadInput for a pattern
    that does not compile, or holds what engines read differently (`translate` says what).
    """
    if pattern not in GUARDED:
        published = PATTERNS.get(pattern, pattern)
        try:
            return re.compile(translate(published, astral=not ascii_only))
        except re.error as error:
            raise BadInput(f"the split pattern {pattern!r} does not compile: {error}")
        except ValueError as error:
            raise BadInput(f"the split pattern {pattern!r} has {error}, which engines read "
                           r"differently: say it with categories such as \p{L}, \p{Lu}, \p{N}")
    # In these patterns nothing after a class could use what the class gave back, so that
    # it need not remember where it might give back: "++".
    published = re.sub(r"(?<=[\]}])\+", "++", PATTERNS[pattern])
    # `re` looks a class up in a table when it ends at U+FFFF, and walks its ranges one by one when
    # it does not: five times slower. So the short classes go first, and their piece counts only
    # if no astral character follows, which might have belonged to it; else all classes decide.
    short = translate(published, astral=False)
    return re.compile(short if ascii_only else
                      f"(?>{short})(?![{ASTRAL}])|{translate(published)}")


def split(text: str, pattern: Pattern = "gpt2") -> list[str]:
    """The pre-tokens of `text`, in order; joined they are `text` again.

    `split("a  b\\n")` is `['a', ' ', ' b', '\\n']`: of two spaces the second goes with the word. Of
    several patterns each one splits the pieces of the one before.
    """
    if isinstance(pattern, tuple):
        pieces = [text]
        for step in pattern:
            pieces = [part for piece in pieces for part in split(piece, step)]
        return pieces
    find = compiled(pattern, text.isascii())
    if pattern in PATTERNS:
        return find.findall(text)
    # What a pattern of the reader's own leaves out between two matches is a piece too.
    pieces, end = [], 0
    for match in find.finditer(text):
        pieces += [text[end:match.start()], match[0]]
        end = match.end()
    return [piece for piece in (*pieces, text[end:]) if piece]


@lru_cache(maxsize=64)
def special_splitter(special_tokens: tuple[str, ...]) -> re.Pattern | None:
    """A pattern that finds special tokens, the longest where several start; None for no tokens.

    It is one group, so that its `split` keeps them: of ("<e>",), "a<e>b" gives ["a", "<e>", "b"].
    """
    if not special_tokens:
        return None
    # `|` takes the first alternative that matches, so the longest stands first; `<|` is escaped.
    longest_first = sorted(special_tokens, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")


def split_special(text: str, special_tokens: Iterable[str]) -> list[str]:
    """`text` cut at its special tokens: ordinary text at even places, special tokens at odd ones.

    `split_special("a<|x|><|x|>", ["<|x|>"])` is `['a', '<|x|>', '', '<|x|>', '']`. Nothing is
    stripped or lost; of overlapping tokens the first wins, of those that start at once the longest.
    """
    pattern = special_splitter(tuple(special_tokens))
    return pattern.split(text) if pattern else [text]


@lru_cache(maxsize=None)
def safe_cut(pattern: Pattern) -> re.Pattern:
    """A pattern that matches up to the last place where text may be cut and split in two parts.

    In GPT-2's split no piece goes on from a character to white space. In GPT-4's a line feed joins
    the signs before it (`!\\n`), so that there one cuts before it only after a letter or a number;
    and behind it, if no more white space follows, where GPT-2's may not (`\\r\\n` before `x`).
    Another pattern is tried at the places that both allow; if it crosses one, nothing matches.
    """
    if pattern in ("gpt2", "smollm"):
        return re.compile(f"(?s:.*)(?<=[^{SPACE}])(?=[{SPACE}])")
    known = character_class("L") + character_class("N")
    blank = SPACE.replace(r"\t-\r", r"\t\v\f")
    places = f"(?<=[{known}])(?=[{SPACE}])|(?<=[^{SPACE}])(?=[{blank}])"
    if pattern in ("gpt4", "qwen2"):
        return re.compile(f"(?s:.*)(?:{places}|(?<=[\r\n])(?=[^{SPACE}]))")
    for place in re.finditer(places, SAMPLE):
        left, right = SAMPLE[:place.start()], SAMPLE[place.start():]
        if split(left, pattern) + split(right, pattern) != split(SAMPLE, pattern):
            return re.compile("(?!)")
    return re.compile(f"(?s:.*)(?:{places})")


def last_safe_cut(text: str, special_tokens: Iterable[str] = (), pattern: Pattern = "gpt2") -> int:
    """The last place where a stream may be cut although more text will follow; or 0.

    The pieces of `text[:cut]` and those of the rest together are the pieces of the whole,
    whatever comes later. `last_safe_cut("one two\\n")` is 7, `last_safe_cut("one tw")` is 3.
    `safe_cut` knows where the split pattern allows it; a special token must not be cut either.
    """
    special_tokens = tuple(special_tokens)
    # A special token may have begun but not ended: nothing from its first character on is sure.
    longest = max(map(len, special_tokens), default=1)
    sure = len(text)
    for i in range(max(0, len(text) - longest + 1), len(text)):
        if any(len(text) - i < len(s) and s.startswith(text[i:]) for s in special_tokens):
            sure = i
            break
    # One character more may be read than be given away: the one behind the cut.
    match = safe_cut(pattern).match(text, 0, min(len(text), sure + 1))
    cut = match.end() if match else 0
    # A token that lies across the cut moves it to the token's start, which is a hard boundary.
    splitter = special_splitter(special_tokens)
    for found in splitter.finditer(text) if splitter and cut else ():
        if found.start() < cut < found.end():
            return found.start()
    return cut


def safe_blocks(texts: Iterable[str], special_tokens: Iterable[str] = (),
                size: int = BLOCK, pattern: Pattern = "gpt2") -> Iterator[str]:
    """Join a stream of strings and cut it again into blocks of about `size` characters.

    Encoding the blocks one by one gives what encoding the whole stream at once would give. Memory
    holds one block; only text without any safe cut (a megabyte without a space) holds more.
    """
    waiting, length, enough = [], 0, size
    special_tokens = tuple(special_tokens)      # asked for every block
    for text in texts:
        for part in (text[k:k + size] for k in range(0, len(text), size)):
            waiting.append(part)
            length += len(part)
            if length >= enough:
                joined = "".join(waiting)
                known = pattern in PATTERNS
                cut = last_safe_cut(joined if known else joined[:len(joined) // 2],
                                    special_tokens, pattern)
                # A pattern of the reader's own is asked, well before the end of what was read.
                if not known and split(joined[:cut], pattern) + split(
                        joined[cut:], pattern) != split(joined, pattern):
                    cut = 0
                if cut:
                    yield joined[:cut]
                waiting, length = [joined[cut:]], len(joined) - cut
                # Where there was no cut we look again at twice the length: each character twice.
                enough = max(size, 2 * length)
    if length:
        yield "".join(waiting)


def read_text(path: Path | str, errors: str = "strict", size: int = BLOCK) -> Iterator[str]:
    """The text of a UTF-8 file in pieces of `size` characters, newlines as they are.

    A byte sequence that is not UTF-8 is BadInput with its place, or becomes U+FFFD with
    `errors="replace"`.
    """
    # newline="": the default would turn \\r\\n into \\n before the tokenizer sees it.
    with open(path, encoding="utf-8", errors=errors, newline="") as file:
        try:
            while text := file.read(size):
                yield text
        except UnicodeDecodeError as error:
            raise BadInput(f"{shown(path)} is not UTF-8 ({error.reason} near byte "
                           f"{file.buffer.tell()}): convert it, or pass --errors replace")


def mend_surrogates(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates as U+FFFD: it can be UTF-8 again."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def count_texts(texts: Iterable[str], pattern: Pattern = "gpt2",
                special_tokens: tuple[str, ...] = ()) -> Counter:
    """How often each pre-token occurs in the texts; special tokens separate, and do not count.

    `count_texts(["a<|x|> a"], special_tokens=("<|x|>",))` is `Counter({'a': 1, ' a': 1})`.
    """
    counts, arrays = Counter(), ArrayCounter(pattern)
    for text in texts:
        # Each segment is split alone, so that no piece and no look-ahead reaches across.
        for segment in split_special(text, special_tokens)[::2]:
            # numpy counts the published patterns, many texts at once; NUL is its edge of a text.
            if pattern in FAMILIES and "\0" not in segment:
                arrays.add(segment if segment.isascii() else mend_surrogates(segment))
            else:
                counts.update(split(segment, pattern))
    counts.update(arrays.total())
    return counts


def count_pretokens(paths_or_texts: Iterable[str | os.PathLike], pattern: Pattern = "gpt2",
                    special_tokens: Iterable[str] = (), workers: int = 1,
                    errors: str = "strict") -> Counter:
    """How often each pre-token (str) occurs in many texts and files together.

    A `Path` is a UTF-8 file, read block by block; a `str` is a text. Each is a document of its
    own: no pre-token crosses from one to the next. Special tokens are hard boundaries and are not
    counted. `count_pretokens(["a b a b"])` is `Counter({' b': 2, 'a': 1, ' a': 1})`.
    """
    if isinstance(paths_or_texts, (str, os.PathLike)):
        paths_or_texts = [paths_or_texts]
    special_tokens = tuple(special_tokens)
    groups = _groups(paths_or_texts, special_tokens, pattern, errors)
    if workers <= 1:
        return count_texts(chain.from_iterable(groups), pattern, special_tokens)
    counts = Counter()
    # Only a few groups are on their way at any time, so that memory does not hold the corpus.
    with ProcessPoolExecutor(workers) as pool:
        running = deque()
        for group in groups:
            running.append(pool.submit(count_texts, group, pattern, special_tokens))
            if len(running) > 2 * workers:
                counts.update(running.popleft().result())
        while running:
            counts.update(running.popleft().result())
    return counts


def _groups(paths_or_texts: Iterable, special_tokens: tuple, pattern: str, errors: str,
            ) -> Iterator[list[str]]:
    """Lists of about a million characters in all: small texts together, big ones in parts."""
    segments, length = [], 0
    for item in paths_or_texts:
        stream = read_text(item, errors) if isinstance(item, os.PathLike) else [item]
        for segment in safe_blocks(stream, special_tokens, pattern=pattern):
            if not segment.isascii() and not isinstance(item, os.PathLike):
                segment = mend_surrogates(segment)
            segments.append(segment)
            length += len(segment)
            if length >= 16 * BLOCK:
                yield segments
                segments, length = [], 0
    if segments:
        yield segments
