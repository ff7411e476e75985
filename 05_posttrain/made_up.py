"""Questions about things that do not exist: only who looks at the question can answer them.

Names of random syllables, argument lists nobody wrote, sentences of shuffled words. A model that
has read ten thousand real names guesses them from memory, half right; here memory is worth nothing,
and what is left to learn is to look up and to copy. Nothing is ever asked twice.

Pieces do come twice inside a question, as in real ones ("pt1, pt2, pt3", "laguerre.lagval"): a
model that looks for the last token alone, and says what followed it, then goes round in circles.
"""

import random
import re
from string import ascii_lowercase

from open_book import LONGEST_NAME, PageEntry, with_page

LONGEST_ARGUMENTS = 60      # characters

STARTS = ("b c d f g h j k l m n p r s t v w z "
          "br ch cl cr dr fl gr kn pl pr sc sh sl sp st tr").split()
VOWELS = "a e i o u ai ea ee io ou".split()
ENDS = ["", "", "", "n", "r", "s", "t", "l", "x", "ck", "nd", "st"]
DEFAULTS = ("None", "True", "False", "0", "1", "2", "-1", "10", "0.5", "1e-5", "''", "'auto'", "()",
            "<no value>", "'r'", "[]")
GLUE = ("of", "the", "a", "to", "in", "or")
TYPES = ("int", "str", "float", "bool", "list", "object", "bytes", "Any", "dict[str, Any]",
         "tuple[int, int]", "Callable[[int], bool]")


def syllable(rng: random.Random) -> str:
    """One syllable: a start, a vowel, an end."""
    return rng.choice(STARTS) + rng.choice(VOWELS) + rng.choice(ENDS)


def word(rng: random.Random, known: list[str]) -> str:
    """One part of a name: in two of three cases made up, else a known part of real names. One in
    eight of those is two to four letters at random, for tokens that syllables never need."""
    if known and rng.random() < 0.34:
        return rng.choice(known)
    if rng.random() < 0.12:
        return "".join(rng.choice(ascii_lowercase) for _ in range(rng.choice((2, 3, 4))))
    return "".join(syllable(rng) for _ in range(rng.choice((1, 2, 2))))


def identifier(rng: random.Random, known: list[str], is_class: bool = False,
               again: tuple[str, ...] = ()) -> str:
    """A name as people write them: CamelCase for classes, for functions parts joined by underscores
    or, one in four, camelCase. Of three parts one is from `again`, said before."""
    parts = [rng.choice(again) if again and rng.random() < 0.33 else word(rng, known)
             for _ in range(rng.choice((1, 2, 2, 3)))]
    if is_class:
        return "".join(p.capitalize() for p in parts)
    if rng.random() < 0.25:
        return parts[0] + "".join(p.capitalize() for p in parts[1:])
    return "_".join(parts)


def as_module(name: str, rng: random.Random) -> str:
    """A module's name: in three of ten cases with capitals ("PIL.Image.blend" is a function), or
    capitals anywhere in a name would say that it is a class."""
    chance = rng.random()
    return name.upper()[:4] if chance < 0.1 else name.capitalize() if chance < 0.3 else name


def dotted(rng: random.Random, known: list[str], is_class: bool, near: str = "") -> str:
    """A full name with its modules, "tolu.bract.merin_tolu"; `near`: in the modules of that one."""
    modules = near.split(".")[:-1] or [
        as_module(word(rng, known), rng) for _ in range(rng.choice((1, 1, 2, 3)))]
    again = tuple(module.lower() for module in modules)
    return ".".join([*modules, identifier(rng, known, is_class, again)])


def type_note(rng: random.Random, known: list[str]) -> str:
    """What may stand behind a name's colon: "int", "Merin | None", "tuple[int, int]"."""
    kind = rng.choice(TYPES) if rng.random() < 0.6 else identifier(rng, known, is_class=True)
    return kind + (" | None" if rng.random() < 0.2 else "")


def argument_list(rng: random.Random, known: list[str], taken: list[str]) -> tuple[str, list[str]]:
    """("mirt, ploc=None, *args", ["mirt", "ploc", "args"]): a signature and the names in it.

    Three in ten are annotated, half of these in quotes, as packages print types that they do not
    evaluate; in three in ten the names begin alike. `taken` are argument names of real functions.
    """
    names, written = [], []
    annotated, quote = rng.random() < 0.3, rng.choice(("", "'"))
    stem = rng.choice(taken or known or ["a"]) if rng.random() < 0.3 else ""
    for _ in range(rng.choice((1, 2, 2, 3, 3, 4))):
        name = rng.choice(taken) if taken and rng.random() < 0.5 else "_".join(
            word(rng, known) for _ in range(rng.choice((1, 1, 2))))
        if stem and rng.random() < 0.8:
            name = stem + rng.choice(("", "1", "2", "3", f"_{name}", name.capitalize()))
        if name in names or not name.isidentifier():
            continue
        names.append(name)
        note = f": {quote}{type_note(rng, known)}{quote}" if annotated else ""
        default = rng.random() < 0.35 or written and "=" in written[-1]
        equals = " = " if note else "="
        written.append(name + note + (equals + rng.choice(DEFAULTS) if default else ""))
    for extra, chance in (("args", 0.08), ("kwargs", 0.12)):
        if extra not in names and rng.random() < chance:
            names.append(extra)
            written.append(f"*{extra}" if extra == "args" else f"**{extra}")
    if "*" not in "".join(written) and written and rng.random() < 0.15:
        written.insert(rng.randint(1, len(written)), "/")
    return ", ".join((["self"] if rng.random() < 0.05 else []) + written), names


def listed(names: list[str]) -> str:
    """["a", "b", "c"] -> "a, b and c."."""
    return (names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}") + "."


def class_or_function(name: str, what: str) -> str:
    """The answer to "Is NAME a class or a function?". Words stand before the name, so that a blank
    does, as in the question: the same tokens can then be copied (open_book.py)."""
    return f"By its name, {name} is a {what}."


def sentence(rng: random.Random, words: list[str]) -> str:
    """A sentence of words in no order: it cannot be guessed, only copied. Some come twice."""
    said = []
    for _ in range(rng.randint(3, 9)):
        chance = rng.random()
        said.append(word(rng, []) if chance < 0.15 else rng.choice(GLUE) if chance < 0.4 else
                    rng.choice(said) if said and chance < 0.5 else rng.choice(words))
    return " ".join(said).capitalize() + "."


def record(kind: str, asked: str, answer: str, name: str) -> dict:
    """One made-up pair as a record of the training file."""
    return {"messages": [{"role": "user", "content": asked},
                         {"role": "assistant", "content": answer}],
            "package": "made up", "kind": kind, "name": name}


def made_up(kind: str, rng: random.Random, known: list[str], words: list[str],
            taken: list[str]) -> dict:
    """One question of a kind: "arguments", "kind", "open" or "repeat". `known` are parts of real
    names, `words` the words of real sentences, `taken` the names of real arguments, all of the
    training packages."""
    is_class = rng.random() < 0.5
    name = dotted(rng, known, is_class)
    if kind == "kind":
        what = "class" if is_class else "function"
        return record(kind, f"Is {name} a class or a function?", class_or_function(name, what),
                      name)
    if kind == "arguments":
        written, names = "", []
        while not names or len(written) >= LONGEST_ARGUMENTS:
            written, names = argument_list(rng, known, taken)
        name = identifier(rng, known)
        return record(kind, f"List the arguments of {name}({written}).", listed(names), name)
    said = sentence(rng, words)
    if kind == "repeat":
        return record(kind, f"Repeat:\n{said}", said, "")
    other = dotted(rng, known, rng.random() < 0.5, near=name if rng.random() < 0.5 else "")
    entries = [PageEntry(name, said), PageEntry(other, sentence(rng, words))]
    question = f"What is {name}?" if is_class else f"What does {name} do?"
    two = other != name and rng.random() < 0.8
    asked = with_page(question, entries[0], entries[1] if two else None, rng.random() < 0.5)
    return record("open", asked, entries[0].answer, name)


def made_up_pairs(counts: dict[str, int], seed: int, pairs: list[dict]) -> list[dict]:
    """`counts[kind]` made-up questions of every kind, no question twice; the parts of names and the
    words come from the real training `pairs`."""
    rng = random.Random(f"{seed} made up")
    known = sorted({part for pair in pairs for part in pair["name"].replace(".", "_").split("_")
                    if 3 <= len(part) <= 10 and part.isalpha() and part.islower()})
    words = sorted({w for pair in pairs if pair["kind"] in ("does", "open")
                    for w in pair["messages"][-1]["content"].lower().strip(".").split()
                    if w.isalpha()}) or ["one", "two", "three", "four"]
    taken = sorted({name for pair in pairs if pair["kind"] == "arguments"
                    for name in re.findall(r"\w+", pair["messages"][-1]["content"])
                    if name not in ("and", "args", "kwargs")})
    asked, made = set(), []
    for kind, count in counts.items():
        wanted = len(made) + count
        while len(made) < wanted:
            pair = made_up(kind, rng, known, words, taken)
            if pair["messages"][0]["content"] not in asked:
                asked.add(pair["messages"][0]["content"])
                made.append(pair)
    return made
