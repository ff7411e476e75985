"""Which language is a text in, and how sure are we? Seventy languages, learned from a page each.

    identify_language("Das ist ein Haus.")  ->  ("de", 0.99...)

Two steps. Most of the world's scripts belong to one large language each: there the letters decide.
For the rest (Latin, Cyrillic, Arabic, Devanagari) we compare the text's rows of one to five
characters, blanks included, with those of a passage in each language (`language_samples.txt`,
written for this project): naive Bayes, as in the best tools, whose tables are larger. A folder of
texts named by language (de.txt, fr.txt, ...) makes it better: `LanguageModel.train(folder)`.

A text in a language that it has not learned gets the nearest one's name, with a low probability if
the text does not look like that language (`familiar`). Too near to tell: Bosnian and Serbian in
Latin letters are "hr", and Malay is "id".
"""

import functools
import re
import zlib
from pathlib import Path
from typing import Iterable

import numpy as np

from artifacts import BadInput, shown
from writing_systems import TABLE_NOW

SAMPLES = Path(__file__).with_name("language_samples.txt")
ORDERS = (1, 2, 3, 4, 5)        # lengths of the rows of characters
KINDS = len(ORDERS) + 1         # ... and whole words
BUCKETS = 1 << 16               # rows are hashed to so many numbers, for each length
SMOOTHING = 0.1                 # how often a row is taken to have been seen before it was
SHARPNESS = 0.12                # rows overlap: their evidence counts for less than its sum
WEIGHTS = (1, 1, 1, 1, 1, 2)    # of the kinds of rows: a whole word tells most
UNKNOWN, KNOWN = 0.25, 0.45     # shares of rows that a language knows, see `familiar`
KNOWN_SHARE, DOUBT = 0.7, 20
BESIDE_LATIN = 0.4              # share of another script that decides in spite of more Latin
LONGEST = 1200                  # characters that are looked at; more change nothing
# Scripts from the table of writing_systems.py; kana are one here, in whatever shape.
KANA = ("Hiragana", "Katakana")
RANGES = sorted((first, last, "Kana" if name in KANA else name)
                for (kind, name), ranges in TABLE_NOW.items() if kind == "letters"
                for first, last in ranges)
ONE_LANGUAGE = {"Greek": "el", "Armenian": "hy", "Hebrew": "he", "Bengali": "bn", "Gurmukhi": "pa",
                "Gujarati": "gu", "Oriya": "or", "Tamil": "ta", "Telugu": "te", "Kannada": "kn",
                "Malayalam": "ml", "Sinhala": "si", "Thai": "th", "Lao": "lo", "Tibetan": "bo",
                "Burmese": "my", "Georgian": "ka", "Hangul": "ko", "Ethiopic": "am",
                "Khmer": "km", "Kana": "ja", "Han": "zh"}
SCRIPTS = tuple(dict.fromkeys(script for _, _, script in RANGES))
# A sign of these says about as much as three letters of an alphabet.
DENSE = np.array([3.0 if script in ("Han", "Kana", "Hangul") else 1.0 for script in SCRIPTS])
STARTS = np.array([first for first, _, _ in RANGES])
ENDS = np.array([last for _, last, _ in RANGES])
SCRIPT_OF = np.array([SCRIPTS.index(script) for _, _, script in RANGES])
# Everything between two words. Vowel signs and accents are no "word characters" for `re`, but are
# parts of words in Hindi, Arabic or Vietnamese.
# An address ends where no address goes on: Chinese follows it without a blank.
ADDRESS = r"(?:https?://|www\.)[!-~\u00c0-\u052f]+"
NOISE = re.compile(ADDRESS + r"|<[^<>]{0,200}>|"
                   r"(?:[^\w\u0300-\u036f\u064b-\u065f\u0900-\u0dff\u0e30-\u0e4f]|[\d_])+")


def script_shares(text: str) -> dict[str, float]:
    """The share of each script in the letters of a text, the largest first; {} without letters.

    "abc где" -> {"Latin": 0.5, "Cyrillic": 0.5}. Chinese and Korean signs count threefold.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.int64)
    # The range whose start is the last one not above the code point.
    place = np.searchsorted(STARTS, codes, side="right") - 1
    inside = (place >= 0) & (codes <= ENDS[place])
    counts = np.bincount(SCRIPT_OF[place[inside]], minlength=len(SCRIPTS)) * DENSE
    total = counts.sum()
    if not total:
        return {}
    return {SCRIPTS[i]: float(counts[i] / total) for i in np.argsort(-counts) if counts[i]}


def sampled(text: str, pieces: int = 4) -> str:
    """At most LONGEST characters of a text: `pieces` pieces, evenly spread, not from its ends."""
    if len(text) <= LONGEST:
        return text
    size, step = LONGEST // pieces, len(text) // pieces
    return " ".join(text[i * step + (step - size) // 2:][:size] for i in range(pieces))


def normalise(text: str) -> str:
    """Lower case, one blank for everything between two words, one at either end.

    "Hello, World 42!" -> " hello world ". Addresses and tags are no language and go.
    """
    return " " + NOISE.sub(" ", text).lower().strip() + " "


def rows_of(text: str) -> list[np.ndarray]:
    """For each length in ORDERS, the hashed rows of so many characters of a normalised text; last,
    its hashed words.

    A text of T characters gives T - n + 1 numbers below BUCKETS for length n.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    rows, key = [], np.zeros(len(codes), dtype=np.uint64)
    for n in ORDERS:
        # the key of n characters, from that of n - 1; multiplication wraps at 2 ** 64, as it should
        if n > len(codes):
            rows.append(np.zeros(0, dtype=np.int64))
            continue
        key = key[:len(codes) - n + 1] * np.uint64(0x9E3779B97F4A7C15) + codes[n - 1:]
        mixed = (key ^ (key >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        rows.append((mixed >> np.uint64(48)).astype(np.int64) % BUCKETS)
    words = [zlib.crc32(word.encode("utf-8", "replace")) % BUCKETS for word in text.split()]
    return rows + [np.array(words, dtype=np.int64)]


class LanguageModel:
    """Naive Bayes over rows of characters, one table for each script that several languages use."""

    def __init__(self, texts: dict[str, str]):
        """`texts` maps ISO 639-1 codes to running text in that language."""
        self.tables: dict[str, tuple[list[str], list[tuple[np.ndarray, np.ndarray]]]] = {}
        self.floors: dict[str, list[np.ndarray]] = {}
        by_script: dict[str, list[str]] = {}
        for code, text in sorted(texts.items()):
            shares = script_shares(text)
            if shares and next(iter(shares)) not in ONE_LANGUAGE:
                by_script.setdefault(next(iter(shares)), []).append(code)
        for script, codes in by_script.items():
            rows = [rows_of(normalise(texts[code])) for code in codes]
            tables = [row_table([r[kind] for r in rows]) for kind in range(KINDS)]
            self.tables[script] = codes, tables
            self.floors[script] = [table[1:].min(axis=0) for _, table in tables]

    @classmethod
    def train(cls, folder: Path | str | None = None) -> "LanguageModel":
        """The model of the built-in passages, and of the files in `folder` (de.txt, fr.txt) too."""
        texts = read_samples(SAMPLES)
        for file in sorted(Path(folder).glob("*.txt")) if folder else []:
            try:
                fresh = file.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise BadInput(f"{shown(file)} is not UTF-8 (byte {error.start}): convert it, or "
                               "take it out of the folder")
            texts[file.stem[:2]] = texts.get(file.stem[:2], "") + " " + fresh
        return cls(texts)

    @property
    def languages(self) -> list[str]:
        """The codes of all languages that can be the answer."""
        learned = [code for codes, _ in self.tables.values() for code in codes]
        return sorted(set(learned) | set(ONE_LANGUAGE.values()))

    def identify(self, text: str) -> tuple[str, float]:
        """(code, probability) of a text; ("und", 0.0) if it holds no letters.

        "Где находится библиотека?" -> ("ru", 0.9...)
        """
        text = normalise(sampled(text))
        shares = script_shares(text)
        if not shares:
            return "und", 0.0
        # 1. The script. Japanese mixes kana with Chinese signs: a few of them decide.
        # Names and code are in Latin letters everywhere: much else beside them tells more.
        script = next(iter(shares))
        if script == "Latin":
            script = next((other for other in shares if other != "Latin"
                           and shares[other] >= BESIDE_LATIN), script)
        if script == "Han" and shares.get("Kana", 0) > 0.05:
            script = "Kana"
        if script not in self.tables:
            if script not in ONE_LANGUAGE:
                return "und", 0.0
            sure = shares.get(script, 0) + (shares.get("Han", 0) if script == "Kana" else 0)
            return ONE_LANGUAGE[script], round(0.5 + 0.499 * sure, 4)
        # 2. The language: add up what each row of characters says for each language.
        codes, tables = self.tables[script]
        rows = rows_of(text)
        score = np.zeros(len(codes))
        for (place, table), weight, ids in zip(tables, WEIGHTS, rows):
            score += weight * table.take(place[ids], axis=0).sum(axis=0)
        # 3. Softmax, flattened: neighbouring rows share their characters.
        score = np.exp(SHARPNESS * (score - score.max()))
        best = int(score.argmax())
        # 4. The best of those we know may still be none: does the text look like this language?
        # Latin letters beside another script count for a third: names and code, no second language.
        share = shares[script] + (shares.get("Latin", 0) / 3 if script != "Latin" else 0)
        sure = score[best] / score.sum() * share * familiar(
            tables, self.floors[script], rows, best)
        return codes[best], float(sure)


def familiar(tables: list[tuple[np.ndarray, np.ndarray]], floors: list[np.ndarray],
             rows: list[np.ndarray], language: int) -> float:
    """How much a text looks like a language at all, 0.02 to 1: by the share of its rows of four
    characters and of its words that the language's passages hold.

    Of 300 characters in a language that we know these two shares add up to 0.7 or so, in others to
    0.2; below UNKNOWN nothing speaks for it, from KNOWN on all. A short text is given the benefit
    of the doubt: as if DOUBT more characters had been as in a known language. `floors` are the
    log-probabilities of what a language has not seen.
    """
    total = 0.0
    for kind in (ORDERS.index(4), KINDS - 1):
        (place, table), ids = tables[kind], rows[kind]
        if len(ids):
            lines = place[ids]
            seen = (lines > 0) & (table[lines, language] > floors[kind][language] + 1e-3)
            total += float(seen.mean())
    count = len(rows[0])
    total = (total * count + KNOWN_SHARE * DOUBT) / (count + DOUBT)
    return min(max((total - UNKNOWN) / (KNOWN - UNKNOWN), 0.02), 1.0)


def row_table(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The rows of one kind in each language -> where each row stands in a table (BUCKETS,), and the
    table of log-probabilities (rows seen + 1, languages), whose line 0 is for rows nobody has."""
    seen = np.unique(np.concatenate(rows))
    place = np.zeros(BUCKETS, np.int32)
    place[seen] = np.arange(1, len(seen) + 1)
    counts = np.stack([np.bincount(place[r], minlength=len(seen) + 1) for r in rows])
    counts = counts[:, None].astype(np.float32)
    # As if all passages were as long as the longest: else what nobody writes, such as code, would
    # be taken for the language of which we have seen least.
    length = counts.sum(axis=2, keepdims=True)
    counts *= length.max(axis=0) / np.maximum(length, 1)
    return place, log_probabilities(counts)[0]


def log_probabilities(counts: np.ndarray) -> np.ndarray:
    """Counts (languages, kinds, rows) -> log-probabilities (kinds, rows, languages).

    Each language's rows of one kind sum to 1, after adding SMOOTHING to each count; what no
    language has seen says nothing for or against any of them (0).
    """
    # Add a little to each count, but not to rows that no language has.
    smooth = counts + np.float32(SMOOTHING) * (counts.sum(axis=0, keepdims=True) > 0)
    # Shares within each kind of row, for each language on its own.
    total = smooth.sum(axis=2, keepdims=True)
    with np.errstate(divide="ignore"):
        logs = np.log(smooth) - np.log(total)
    # The logarithm of nothing: 0 for all languages alike.
    logs[:, counts.sum(axis=0) == 0] = 0
    return np.ascontiguousarray(logs.transpose(1, 2, 0), dtype=np.float32)


def read_samples(path: Path) -> dict[str, str]:
    """The passages by language: lines "code: text", several for one language are joined; lines that
    start with # are remarks."""
    texts: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            texts[line[:2]] = f"{texts.get(line[:2], '')} {line[4:]}".strip()
    return texts


@functools.lru_cache(1)
def default_model() -> LanguageModel:
    """The model of the built-in passages, made on first use (a tenth of a second)."""
    return LanguageModel.train()


def identify_language(text: str) -> tuple[str, float]:
    """(ISO 639-1 code, probability) of the language of a text; ("und", 0.0) without letters.

    "The cat sat on the mat." -> ("en", 0.9...), "我们在这里" -> ("zh", 0.99...)
    """
    return default_model().identify(text)


def languages(texts: Iterable[str]) -> list[str]:
    """The languages of several texts: ["Guten Tag!", "Καλημέρα"] -> ["de", "el"]."""
    return [identify_language(text)[0] for text in texts]
