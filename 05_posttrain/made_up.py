"""Questions about things that do not exist: only who looks at the question can answer them.

Names of random syllables, argument lists nobody wrote, sentences of shuffled words. A model that
has read ten thousand real names guesses them from memory, half right; here memory is worth nothing,
and what is left to learn is to look up and to copy. Nothing is ever asked twice.
"""

import random

from open_book import LONGEST_HEADING, PageEntry, with_page

STARTS = ("b c d f g h j k l m n p r s t v w z "
          "br ch cl cr dr fl gr kn pl pr sc sh sl sp st tr").split()
VOWELS = "a e i o u ai ea ee io ou".split()
ENDS = ["", "", "", "n", "r", "s", "t", "l", "x", "ck", "nd", "st"]
DEFAULTS = ("None", "True", "False", "0", "1", "2", "-1", "10", "0.5", "1e-5", "''", "'auto'", "()")
ANNOTATIONS = ("int", "str", "float", "bool", "list", "object")


def syllable(rng: random.Random) -> str:
    """One syllable: a start, a vowel, an end."""
    return rng.choice(STARTS) + rng.choice(VOWELS) + rng.choice(ENDS)


def word(rng: random.Random, known: list[str]) -> str:
    """One part of a name: in two of three cases made up, else a known part of real names."""
    if known and rng.random() < 0.34:
        return rng.choice(known)
    return "".join(syllable(rng) for _ in range(rng.choice((1, 2, 2))))


def identifier(rng: random.Random, known: list[str], is_class: bool = False) -> str:
    """A name as people write them: CamelCase for classes, else parts joined by underscores."""
    parts = [word(rng, known) for _ in range(rng.choice((1, 2, 2)))]
    return "".join(p.capitalize() for p in parts) if is_class else "_".join(parts)


def dotted(rng: random.Random, known: list[str], is_class: bool) -> str:
    """A full name with its modules, "tolu.bract.merin_sod"."""
    modules = [word(rng, known) for _ in range(rng.choice((1, 1, 2)))]
    return ".".join([*modules, identifier(rng, known, is_class)])


def argument_list(rng: random.Random, known: list[str]) -> tuple[str, list[str]]:
    """("mirt, ploc=None, *args", ["mirt", "ploc", "args"]): a signature and the names in it."""
    names, written = [], []
    for _ in range(rng.choice((1, 2, 2, 3, 3, 4))):
        name = rng.choice(known) if known and rng.random() < 0.5 else word(rng, [])
        if name in names or not name.isidentifier():
            continue
        names.append(name)
        note = f": {rng.choice(ANNOTATIONS)}" if rng.random() < 0.12 else ""
        default = rng.random() < 0.4 or written and "=" in written[-1]
        equals = " = " if note else "="
        written.append(name + note + (equals + rng.choice(DEFAULTS) if default else ""))
    if rng.random() < 0.15:
        names.append("kwargs")
        written.append("**kwargs")
    return ", ".join((["self"] if rng.random() < 0.2 else []) + written), names


def listed(names: list[str]) -> str:
    """["a", "b", "c"] -> "a, b and c."."""
    return (names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}") + "."


def sentence(rng: random.Random, words: list[str]) -> str:
    """A sentence of words in no order: it cannot be guessed, only copied."""
    said = [word(rng, []) if rng.random() < 0.15 else rng.choice(words)
            for _ in range(rng.randint(4, 12))]
    return " ".join(said).capitalize() + "."


def record(kind: str, asked: str, answer: str, name: str) -> dict:
    """One made-up pair as a record of the training file."""
    return {"messages": [{"role": "user", "content": asked},
                         {"role": "assistant", "content": answer}],
            "package": "made up", "kind": kind, "name": name}


def made_up(kind: str, rng: random.Random, known: list[str], words: list[str]) -> dict:
    """One question of a kind: "arguments", "kind", "open" or "repeat". `known` are parts of real
    names, `words` the words of real sentences, both of the training packages."""
    is_class = rng.random() < 0.5
    name = dotted(rng, known, is_class)
    if kind == "kind":
        what = "class" if is_class else "function"
        return record(kind, f"Is {name} a class or a function?", f"{name} is a {what}.", name)
    if kind == "arguments":
        written, names = "", []
        while not names:
            written, names = argument_list(rng, known)
        name = identifier(rng, known)
        return record(kind, f"List the arguments of {name}({written}).", listed(names), name)
    said = sentence(rng, words)
    if kind == "repeat":
        return record(kind, f"Repeat: {said}", said, "")
    entries = []
    for n, s in ((name, said), (dotted(rng, known, rng.random() < 0.5), sentence(rng, words))):
        heading = f"{n}({argument_list(rng, known)[0]})"
        entries.append(PageEntry(n, heading if len(heading) <= LONGEST_HEADING else f"{n}(...)", s))
    question = f"What is {name}?" if is_class else f"What does {name} do?"
    asked = with_page(question, entries[0], entries[1] if rng.random() < 0.8 else None,
                      rng.random() < 0.5)
    return record("open", asked, said, name)


def made_up_pairs(counts: dict[str, int], seed: int, pairs: list[dict]) -> list[dict]:
    """`counts[kind]` made-up questions of every kind, no question twice; the parts of names and the
    words come from the real training `pairs`."""
    rng = random.Random(f"{seed} made up")
    known = sorted({part for pair in pairs for part in pair["name"].replace(".", "_").split("_")
                    if 3 <= len(part) <= 10 and part.isalpha() and part.islower()})
    words = sorted({w for pair in pairs if pair["kind"] in ("does", "open")
                    for w in pair["messages"][-1]["content"].lower().strip(".").split()
                    if w.isalpha()}) or ["one", "two", "three", "four"]
    asked, made = set(), []
    for kind, count in counts.items():
        wanted = len(made) + count
        while len(made) < wanted:
            pair = made_up(kind, rng, known, words)
            if pair["messages"][0]["content"] not in asked:
                asked.add(pair["messages"][0]["content"])
                made.append(pair)
    return made
