"""Where words and sentences end in every script, from a table that Unicode's own names make.

    words_of("The cat sat. 猫坐在垫子上。")   -> ["The", "cat", "sat.", "猫坐", "在垫", "子上。"]
    sentence_ends("猫坐着。狗也坐着。")       -> 2

    python 02_data/writing_systems.py         # writes writing_systems.tsv anew, two seconds

Rules that cut words at blanks and sentences at full stops take a Chinese page for one word without
an end. A dozen scripts put no blank between words (Unicode's line breaking classes ID and SA), and
thirty have full stops of their own. Real segmenters carry a dictionary for each language; the rules
of this chapter count words, they need not know them: pieces of a word's usual length will do, cut
anew after every sign, so that a repeated sentence is cut alike. It leaves out what a dictionary
knows: which of two neighbouring signs belong together.
"""

import functools
import re
import unicodedata
from pathlib import Path

from artifacts import command, shown, whole

TABLE = Path(__file__).with_name("writing_systems.tsv")
# The beginning of a character's Unicode name -> our name of its script.
NAMES = {"CJK": "Han", "HIRAGANA": "Hiragana", "KATAKANA": "Katakana", "BOPOMOFO": "Bopomofo",
         "KATAKANA-HIRAGANA": "Katakana", "HALFWIDTH KATAKANA": "Katakana",
         "KANGXI": "Han", "IDEOGRAPHIC": "Han", "FULLWIDTH LATIN": "Latin", "MYANMAR": "Burmese",
         "TAI LE": "Tai Le", "NEW TAI LUE": "New Tai Lue", "TAI THAM": "Tai Tham",
         "TAI VIET": "Tai Viet", "OL CHIKI": "Ol Chiki", "MEETEI MAYEK": "Meetei Mayek",
         "CANADIAN SYLLABICS": "Canadian Syllabics"}
NAMES |= {name: name.title() for name in """LATIN GREEK CYRILLIC ARMENIAN HEBREW ARABIC SYRIAC
    THAANA NKO DEVANAGARI BENGALI GURMUKHI GUJARATI ORIYA TAMIL TELUGU KANNADA MALAYALAM SINHALA
    THAI LAO TIBETAN GEORGIAN HANGUL ETHIOPIC CHEROKEE KHMER MONGOLIAN JAVANESE BALINESE YI VAI
    TIFINAGH ADLAM""".split()}
SENTENCE = re.compile(r"\b(FULL STOP|QUESTION MARK|EXCLAMATION MARK|DANDA|MARK SHAD|SIGN KHAN|"
                      r"SIGN SECTION|INTERROBANG|BARIYOOSAN|CARIK SIKI|CARIK PAREREN|PADA LUNGSI|"
                      r"PADA LINGSA|SIGN KAAN|SIGN KAANKUU|END OF PARAGRAPH)$")
# Scripts without blanks between words, and how many characters (vowel signs too) a word has there.
PER_WORD = {"Han": 2, "Hiragana": 3, "Katakana": 8, "Bopomofo": 6, "Yi": 2, "Thai": 4, "Lao": 4,
            "Khmer": 5, "Burmese": 5, "Tibetan": 4, "Javanese": 5, "Balinese": 5, "Tai Le": 4,
            "New Tai Lue": 4, "Tai Tham": 5, "Tai Viet": 4}
# A sign that says as much as several letters: weights for every rule on lengths in letters.
EXTRA_LETTERS = {"Han": 2, "Hangul": 1}
PHRASE = 20          # letters; Thai and Lao end a sentence by a blank, like a phrase of that length


def make_table() -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Ranges of code points from the names in `unicodedata`: {("letters", "Thai"): [(3585, 3642)]}.

    Kinds: "letters" (with marks) of each script, "marks" that stand over or under any letter, and
    "ends", the punctuation that ends a sentence.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for code in range(0x20, 0x3_FFFF):
        category = unicodedata.category(chr(code))
        name = unicodedata.name(chr(code), "")
        if category[0] in "LM":
            words = name.split(" ")
            first = next((" ".join(words[:n]) for n in (3, 2, 1)
                          if " ".join(words[:n]) in NAMES), None)
            if first:
                found.setdefault(("letters", NAMES[first]), []).append(code)
        if category[0] == "M":
            found.setdefault(("marks", "all"), []).append(code)
        if category[0] == "P" and SENTENCE.search(name) and "INVERTED" not in name:
            found.setdefault(("ends", "all"), []).append(code)
    return {key: ranges_of(codes) for key, codes in sorted(found.items())}


def ranges_of(codes: list[int]) -> list[tuple[int, int]]:
    """Ascending code points as ranges: [65, 66, 67, 97] -> [(65, 67), (97, 97)]."""
    ranges: list[tuple[int, int]] = []
    for code in codes:
        # over a gap too that holds no character at all (category Cn): fewer ranges, faster patterns
        if ranges and all(unicodedata.category(chr(c)) == "Cn"
                          for c in range(ranges[-1][1] + 1, code)):
            ranges[-1] = (ranges[-1][0], code)
        else:
            ranges.append((code, code))
    return ranges


def read_table(path: Path = TABLE) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """What `main` wrote: lines of kind, name and ranges in hexadecimal, with tabs between them."""
    table = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            kind, name, ranges = line.split("\t")
            pairs = (r.split("-") for r in ranges.split(" "))
            table[kind, name] = [(int(p[0], 16), int(p[-1], 16)) for p in pairs]
    return table


TABLE_NOW = read_table() if TABLE.exists() else make_table()
SCRIPTS = tuple(name for kind, name in TABLE_NOW if kind == "letters")


def signs(kind: str, *names: str) -> str:
    """The inside of a regular expression's [...] for some rows of the table."""
    return "".join(f"\\U{a:08x}-\\U{b:08x}" for name in names for a, b in TABLE_NOW[kind, name])


UNSPACED = signs("letters", *PER_WORD)
MARKS = signs("marks", "all")
# Beside these, a Latin word or a number stands without a blank: particles are attached to it.
ATTACHED = UNSPACED + signs("letters", "Hangul")
_ENDS = signs("ends", "all")
_OWN_ENDS = re.sub(r"\\U0000002[1e]-\\U0000002[1e]|\\U0000003f-\\U0000003f", "", _ENDS)
CLOSING = "\"'\u201d\u201c\u2019\u00bb)\u300d\u300f\uff09\u300b\u3011\uff02]"
# In Japanese a word of Chinese signs ends in kana.
ENDINGS = {"Han": f"[{signs('letters', 'Hiragana')}]{{0,2}}"}
_ANY_UNSPACED = re.compile(f"[{UNSPACED}]")
_WORDS = re.compile("|".join(
    [f"[^\\s{UNSPACED}]+"] + [f"[{signs('letters', name)}]{{1,{n}}}{ENDINGS.get(name, '')}"
                              f"[^\\s\\w{UNSPACED}{MARKS}]*" for name, n in PER_WORD.items()]))
# ". ! ?" end a sentence before a blank; signs of other scripts wherever they stand. No full stop
# does behind one letter (J. S. Bach, z. B., \u0442. \u0435.), a title, or "No" before a number.
_SENTENCE_END = re.compile(
    rf"[.!?](?<!\b[^\W\d_]\.(?=\s))(?<!\b(?:Dr|Mr|Ms|St|Sr|vs|cf|Hr)\.(?=\s))"
    rf"(?<!\b(?:Mrs|Sra|Mme|bzw|vgl)\.(?=\s))(?<!\bProf\.(?=\s))(?<!\b[Nn][or]\.(?=\s\d))"
    rf"(?<!\b(?:etc|Inc|Ltd)\.(?=\s[a-z]))[{re.escape(CLOSING)}]*(?=\s|$)")
_GREEK_QUESTION = re.compile("(?<=[\u0370-\u03ff\u1f00-\u1fff]);(?=\\s|$)")
_OWN_END = re.compile(f"[{_OWN_ENDS}]+")
_PHRASE_END = re.compile(rf"[{signs('letters', 'Thai', 'Lao')}]{{{PHRASE},}}(?=\s|$)")
_GREEK = re.compile(f"[{signs('letters', 'Greek')}]")
_THAI = re.compile(f"[{signs('letters', 'Thai', 'Lao')}]")
_LINE_END = re.compile(rf"[{_ENDS}\u2026\"'\u201d\u2019\u300d\u300f]\Z")
_CLOSED_END = re.compile(rf"[{_ENDS}\u2026][ \u00a0\u202f]?[{re.escape(CLOSING)}]*\Z")
_HEAVY = {name: re.compile(f"[{signs('letters', name)}]+") for name in EXTRA_LETTERS}
LETTERS = re.compile(f"(?:[^\\W\\d_]|[{MARKS}])+")


@functools.lru_cache(2)
def signs_used(text: str) -> str:
    """Each character of a text once, in any order: a short text to search for signs of a script."""
    return "".join(set(text))


def is_western(text: str) -> bool:
    """Are all signs those of the Windows code page of the West: ASCII, accents, printers' quotes?

    Such a text holds no script without blanks, no heavy sign and no full stop of another script.
    Encoding is the fastest question that Python has.
    """
    try:
        text.encode("cp1252")
        return True
    except UnicodeEncodeError:
        return False


def words_of(text: str) -> list[str]:
    """The words of a text in any script, signs included.

    Between blanks; where a script writes none, pieces of PER_WORD characters from where a run of
    that script begins, with the signs after them. "Hello, 你好吗？" -> ["Hello,", "你好", "吗？"]
    """
    if text.isascii() or is_western(text) or not _ANY_UNSPACED.search(signs_used(text)):
        return text.split()
    return _cut(text)


@functools.lru_cache(2)          # one rule after the other asks for the words of the same page
def _cut(text: str) -> list[str]:
    return _WORDS.findall(text)


def letters_in(text: str) -> int:
    """Characters, those counted more than once that say as much as several: letters_in("猫a") = 4.

    Bounds like "lines of 30 characters" were found on English; a Chinese sign stands for three.
    """
    if text.isascii() or is_western(text):
        return len(text)
    used = signs_used(text)
    return len(text) + sum(extra * sum(map(len, _HEAVY[name].findall(text)))
                           for name, extra in EXTRA_LETTERS.items() if _HEAVY[name].search(used))


def sentence_ends(text: str) -> int:
    """How many sentences end in a text: full stops of all scripts, in Thai and Lao long phrases.

    "Dr. J. S. Bach came. He sang!" has 2: an abbreviation ends nothing.
    """
    count = len(_SENTENCE_END.findall(text))
    if text.isascii() or is_western(text):
        return count
    used = signs_used(text)
    return count + sum(len(pattern.findall(text)) for sign, pattern in (
        (_OWN_END, _OWN_END), (_THAI, _PHRASE_END), (_GREEK, _GREEK_QUESTION))
        if sign.search(used))


def ends_sentence(line: str) -> bool:
    """Does a line end where a sentence may? At a full stop or quote; Thai and Lao at a phrase."""
    if line.isascii() or line[-1:] in ".!?\"'":
        return bool(line) and line[-1] in ".!?\"'"
    return bool(_LINE_END.search(line) or _CLOSED_END.search(line)
                or _PHRASE_END.search(line, max(0, len(line) - PHRASE))
                or (line[-1:] == ";" and _GREEK_QUESTION.search(line, len(line) - 2)))


def main() -> None:
    with whole(TABLE) as file:
        file.write(f"# Unicode {unicodedata.unidata_version}, made by python "
                   "02_data/writing_systems.py\n")
        for (kind, name), ranges in make_table().items():
            written = " ".join(f"{a:x}-{b:x}" if a != b else f"{a:x}" for a, b in ranges)
            file.write(f"{kind}\t{name}\t{written}\n")
    print(f"wrote {shown(TABLE)}: {len(SCRIPTS)} scripts")


if __name__ == "__main__":
    command(main)
