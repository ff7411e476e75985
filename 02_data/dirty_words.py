"""Rude words as they are meant: "f*ck", "sh1t", "a$$hole", "fuuuck" and "i d i o t" spelled out.

    spell_out("What an @sshole, f*ck this sh1t")   ->  "What an asshole, fuck this shit"

Who knows that a filter reads along writes so that it does not understand. A disguise is undone only
if a word of the lists below comes out: "2**3", "win32", "C*" and "Yahoo!!!" stay as they are.

`rude_words` then adds the text once more with each listed word replaced by the name of its kind, so
that a classifier which has seen "you moron" knows what "you dork" is; `dirty_tokens` counts the
vulgar ones on a page. The lists are short and English; `--dirty-words` of build_corpus takes longer
ones.

What such lists do: C4 dropped every page with one listed word, and with them 42 % of the documents
in African American English (6 % of those in White American English) and pages about gay lives that
said nothing indecent (Dodge et al. 2021, section 5). So words that merely name people, of a faith,
an origin or whom they love, are in no list here, and a page needs more than one dirty word.
"""

import functools
import re
from pathlib import Path

from artifacts import need

# Roots; RUDE has them with these endings. Words with a decent meaning ("cock", "pig") are only
# listed as DOUBTFUL: they are recognised in disguise, but are no evidence as they stand.
ENDINGS = ("", "s", "es", "ed", "er", "ers", "in", "ing", "ty", "y")
VULGAR = """fuck mindfuck shit bullshit wank tit titties boob pussies blowjob handjob dildo cum
    cumshot jizz porn porno horny milf bollock nudes piss goddamn buttfuck arse""".split()
# vulgar names for a person: both kinds
NAMES = """motherfuck cunt cocksuck asshole arsehole bitch bastard dickhead twat whore slut tosser
    wanker faggot dumbass jackass fatass shithead retard""".split()
INSULTS = """idiot moron imbecile stupid dumb loser pathetic scum dork jerk creep coward
    brainless clueless worthless nazi savage cockroach douche douchebag freak crap
    psycho scumbag subhuman ignorant arrogant disgust""".split()
DOUBTFUL = """cock dick pussy ass prick penis nude naked sex boner ball sucker hell damn kill die
    pig liar whine parasite suck rape murder cancer terrorist nigger paki tranny""".split()
KINDS = (("", DOUBTFUL), ("zinsult", INSULTS), ("zvulgar", VULGAR), ("zvulgar zinsult", NAMES))
RUDE = {root + end: kind for kind, roots in KINDS for root in roots for end in ENDINGS}
# "XXX" alone marks what a programmer has to do; three of them on a page mark something else.
DIRTY_WORDS = frozenset(word for word, kind in RUDE.items() if "zvulgar" in kind) | {"xxx"}
BY_LENGTH: dict[int, list[str]] = {}
for _word in RUDE:
    BY_LENGTH.setdefault(len(_word), []).append(_word)
LEET = str.maketrans("013457@$!|€", "oieastasile")
# A word with signs or digits in it, or with one letter three times in a row ...
SIGNS = r"*@$#!|€"
DISGUISED = re.compile(rf"(?<![\w{SIGNS}-])(?=\w*(?:[{SIGNS}\d-]|(\w)\1\1))[\w{SIGNS}]"
                       rf"[\w{SIGNS}-]{{1,22}}[\w*@$#€](?![\w*@$#€])")
# ... and single letters in a row.
SPELLED = re.compile(r"(?<!\w)[\w*@$!]([ .*_-]{1,2})(?:[\w*@$!]\1){1,11}[\w*@$!](?!\w)")
WORD = re.compile(r"[a-z]+")
SENTENCES = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f\u0964])|\n+")


@functools.lru_cache(1 << 14)
def meant(word: str) -> str | None:
    """The listed word that a disguised one stands for, None if there is none.

    "c*ck" -> "cock", "b1tch" -> "bitch", "fuuuuck" -> "fuck", "a**2", "2009" -> None
    """
    low = word.lower()
    plain = low.translate(LEET)
    # 0. Numbers and prices are no words: "2009" is not "boob"; *so* is emphasis.
    if low.startswith("*") and low.endswith("*") and low[1:-1].isalnum():
        return None
    if sum(map(str.isalpha, low)) < 1 + any(map(str.isdigit, low)):
        return None
    # 1. Digits that look like letters; repeated letters count once or twice ("fuuuck").
    for repeat in (r"\1\1", r"\1"):
        guess = re.sub(r"(\w)\1{2,}", repeat, plain)
        if guess != low and guess in RUDE:
            return guess
    # 2. Each sign stands for one letter, and half of the letters are there: "f**k", not "a**2".
    letters = sum(map(str.isalpha, plain))
    if not 3 <= len(plain) <= 16 or 2 * letters < len(plain) or letters == len(plain):
        return None
    pattern = re.compile("".join(c if c.isalpha() else "[a-z]" for c in plain))
    return next((w for w in BY_LENGTH.get(len(plain), ()) if pattern.fullmatch(w)), None)


def spell_out(text: str) -> str:
    """The text with disguised rude words in plain letters."""
    def joined(found: re.Match) -> str:
        word = found[0].replace(found[1], "")
        return word if word.lower() in RUDE else meant(word) or found[0]

    text = SPELLED.sub(joined, text)
    return DISGUISED.sub(lambda found: meant(found[0]) or found[0], text)


def rude_words(text: str) -> str:
    """The text spelled out, and once more with listed words named by their kind, if it has any.

    "you m0ron" -> "you moron\\nyou zinsult"
    """
    return _named(spell_out(text))


def _named(text: str) -> str:
    kinds = WORD.sub(lambda found: RUDE.get(found[0]) or found[0], text.lower())
    return text if kinds == text.lower() else f"{text}\n{kinds}"


@functools.lru_cache(2)         # two classifiers read the same page one after the other
def rude_sentences(text: str) -> list[str]:
    """The sentences of a text, each as `rude_words` gives it.

    "Come in. You m0ron!" -> ["Come in.", "You moron!\\nyou zinsult!"]
    """
    sentences = [s for s in SENTENCES.split(spell_out(text)) if s.strip()]
    rude = {word for word in set(WORD.findall(text.lower())) | set(WORD.findall(
        " ".join(sentences).lower())) if RUDE.get(word)}
    return [_named(s) if any(w in rude for w in WORD.findall(s.lower())) else s
            for s in sentences] if rude else sentences


def load_words(paths: list[Path]) -> frozenset[str]:
    """DIRTY_WORDS and the words of text files, one per line; phrases of several words are no words.

    The lists that are handed round (LDNOOBW's, for one) have this form.
    """
    words = set(DIRTY_WORDS)
    for path in paths:
        lines = need(path, "any list of one word per line").read_text("utf-8", "replace").lower()
        words |= {line.strip() for line in lines.splitlines() if line.strip().isalpha()}
    return frozenset(words)


def dirty_tokens(text: str, words: frozenset[str] = DIRTY_WORDS,
                 bound: float = 0.002) -> str | None:
    """None if at most two words, or at most `bound` of them (2 in 1,000), are in `words`.

    C4 drops a page for one such word, and with it every page about Dick Whittington; a share with a
    bound, and three words at least, forgive a quotation and find the page that is made of them.
    """
    found = re.findall(r"[^\W\d_]+", text.lower())
    dirty = sum(1 for word in found if word in words)
    share = dirty / max(len(found), 1)
    return f"dirty tokens: {share:.4g} is over {bound:g}" if dirty > 2 and share > bound else None
