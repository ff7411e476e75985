"""Pages that nobody should learn from: blocked addresses, NSFW and harmful text.

    classify_nsfw("The museum shows paintings.")   -> ("clean", 0.9...)
    blocked_url("https://free-xxx.example/", frozenset())   -> "blocked address: xxx"

The classifiers are hashed linear models (hashed_linear.py), trained on safety_examples.tsv: 351
short texts that we wrote, so that the machine is whole and can be taken apart. That is NOT
enough to protect anybody: see the error rates of `python 02_data/train_classifier.py nsfw`, and
train on real labels with `--jigsaw train.csv`. Blocklists of millions of domains are an option.
"""

import csv
import functools
import gzip
import io
import re
import zipfile
import zlib
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from artifacts import BadInput, need, shown
from dedup import plain_host
from dirty_words import rude_sentences, rude_words
from hashed_linear import HashedLinear, fit

LOOKED_AT = 20_000        # characters of a page
SURE = 0.7                # probability of one sentence that decides about its page
SHORTEST = 3              # words of such a sentence
EXAMPLES = Path(__file__).with_name("safety_examples.tsv")
# One hard word in an address is enough, of soft words it takes two, substrings count anywhere.
HARD_WORDS = frozenset("porn porno xxx xvideos pornhub redtube hentai camgirls sexcam milf nudes "
                       "escorts fuck blowjob gangbang bdsm swingers warez keygen".split())
SOFT_WORDS = frozenset("sex sexy adult nude naked hot girls teen cam cams live erotic "
                       "casino poker betting viagra pills dating hookup torrent crack".split())
SUBSTRINGS = ("freeporn", "pornvideo", "xxxvideo", "sexvideo", "livesex", "adultdating",
              "nudegirls", "onlinecasino", "buyviagra")
NOWHERE = re.compile(r"0|(?:\d{1,3}\.){3}\d{1,3}|[0-9a-f]*:[0-9a-f:.]*(?:%\w+)?")
ELEMENT_RULE = re.compile("#[@?$%]{0,2}#")
FORMS = re.compile(r'(?:address|server|local)=/([^/\s]+)/|'
                   r'(?:local-(?:zone|data):|zone)\s*"([^\s"]+)|'
                   r"(?:domain|host)(?:-suffix)?,\s*([^,\s]+)|(?:domain|full):([^:@\s]+)")
# Options under which an ad blocker's rule is for pages themselves.
FOR_PAGES = frozenset("important all doc document popup".split())
OWN_NAMES = frozenset("localhost localhost.localdomain local broadcasthost ip6-localhost "
                      "ip6-loopback ip6-localnet ip6-mcastprefix ip6-allnodes ip6-allrouters "
                      "ip6-allhosts".split())
JIGSAW_COLUMNS = {"nsfw": ("obscene",),
                  "harmful": ("toxic", "severe_toxic", "threat", "insult", "identity_hate")}


def load_blocklist(paths: list[Path]) -> frozenset[str]:
    """Blocked domains and whole URLs from text files, one per line; '#' or '!' begins a comment.

    All that `names_in` reads, without scheme, "www." and last slash: {"bad.example", ...}. A hosts
    file's names for this machine are passed over.
    """
    blocked: set[str] = set()
    for path in paths:
        data = Path(path).read_bytes()
        if b"\0" in data[:4096]:
            raise BadInput(f"{shown(path)} is not text: unpack it; one domain per line, please")
        # lists of millions have a few lines in other encodings: those match nothing
        for line in data.decode("utf-8", "replace").lower().splitlines():
            blocked |= set(map(_listed, names_in(line.lstrip("\ufeff").strip())))
    return frozenset(b for b in blocked - OWN_NAMES
                     if b and not set(b) & set("*^|$@") and not NOWHERE.fullmatch(b))


def names_in(line: str) -> list[str]:
    """What one line of a blocklist blocks, by the habits of the programs that read such lists.

    Plain "bad.example" or "http://good.example/bad/", also "*.bad.example" and ".bad.example";
    hosts files ":: bad.example"; ad blockers "||bad.example^" (rules with options, for elements
    "##" and exceptions "@@" block no page, but for options of FOR_PAGES); dnsmasq "address=/bad.
    example/"; unbound 'local-zone: "bad.example" refuse'; zones "bad.example CNAME ." and 'zone
    "bad.example"'; proxies "DOMAIN-SUFFIX,bad.example", "domain:bad.example" and "- '+.bad.
    example'"; tables "bad.example,kind" and "7,bad.example". A port and quotes go.
    """
    line = line.removeprefix("- ").strip()
    if not line or line[0] in "!;[#" or line.startswith("@@") or ELEMENT_RULE.search(line):
        return []
    if found := FORMS.match(line):
        return [found[found.lastindex]]
    words = line.partition("#")[0].split()
    # a hosts file sends names to an address that answers nobody: 0.0.0.0, ::1, 0
    if words[1:] and NOWHERE.fullmatch(words[0]):
        return words[1:]
    name, _, options = words[0].strip("\"'").partition("^$")
    if options and not FOR_PAGES.issuperset(options.split(",")):
        return []
    name = name.removeprefix("||").removesuffix("^").lstrip("*+").removeprefix(".")
    if "/" in name:
        return [name]
    first, _, second = name.partition(",")
    first = second.partition(",")[0] if first.isdigit() and second else first
    return [first if NOWHERE.fullmatch(first) else re.sub(r":\d+$", "", first).strip("\"'")]


def _listed(url: str) -> str:
    """How a URL stands in a blocklist: "https://www.a.example/x/" -> "a.example/x"."""
    host, slash, path = url.rpartition("://")[2].removeprefix("www.").rstrip("/.").partition("/")
    return (host if host.isascii() else plain_host(host)) + slash + path


def blocked_url(url: str, blocklist: frozenset[str] = frozenset()) -> str | None:
    """None if the address may be visited, else the reason: "blocked address: xxx".

    Blocked are: a host (without user and port) in `blocklist`, or under a host in it at any depth;
    the whole URL in it as `_listed` writes it (without scheme, "www." and a slash at the end); one
    word of HARD_WORDS; two different ones of SOFT_WORDS; a part of SUBSTRINGS once everything but
    letters is taken out; and what cannot be parsed ("http://[broken"). Capitals do not count,
    percent codes are resolved first, the scheme may be missing. Words are cut at every non-letter
    of what follows "//", so "essex" is not "sex".
    """
    low = unquote(url.lower())
    low = low if "//" in low else "//" + low
    try:
        host = plain_host(urlsplit(low).hostname or "").removeprefix("www.").rstrip(".")
    except ValueError:
        return "blocked address: not a URL"
    # the host and each domain above it: a.b.example, b.example, example
    labels = host.split(".")
    for i in range(len(labels)):
        if ".".join(labels[i:]) in blocklist:
            return f"blocked address: {'.'.join(labels[i:])} is listed"
    if _listed(low.removeprefix("//")) in blocklist:
        return "blocked address: the URL is listed"
    # words of the address, then runs of letters across punctuation
    words = set(re.findall(r"[a-z]+", low.partition("//")[2]))
    if hard := sorted(words & HARD_WORDS):
        return f"blocked address: {hard[0]}"
    if len(soft := sorted(words & SOFT_WORDS)) >= 2:
        return f"blocked address: {soft[0]} and {soft[1]}"
    letters = re.sub(r"[^a-z]", "", low)
    found = next((s for s in SUBSTRINGS if s in letters), None)
    return f"blocked address: {found}" if found else None


def load_examples(kind: str, path: Path = EXAMPLES) -> tuple[list[str], list[str]]:
    """Texts labelled `kind`, and those that are not of this kind, from lines of label, tab, text.

    Not of any kind is what is labelled "clean"; what is "profane" swears at nobody: not harmful,
    and for NSFW it is left out, as people disagree.
    """
    rows = [line.split("\t", 1) for line in
            need(path, "git checkout").read_text(encoding="utf-8").splitlines() if "\t" in line]
    others = ("clean", "profane") if kind == "harmful" else ("clean",)
    return ([text for label, text in rows if label == kind],
            [text for label, text in rows if label in others])


def load_jigsaw(path: Path, kind: str, limit: int = 40_000) -> tuple[list[str], list[str]]:
    """Positives and negatives from Jigsaw's train.csv (Toxic Comment Classification Challenge).

    A comment is positive if a column of JIGSAW_COLUMNS[kind] is 1, negative if all six are 0; at
    most `limit` of each, the first ones. Plain, gzipped, or zipped as Kaggle gives it. BadInput if
    columns are missing or the file is damaged.
    """
    positives: list[str] = []
    negatives: list[str] = []
    everything = [c for columns in JIGSAW_COLUMNS.values() for c in columns]
    try:
        with _open_table(path) as file:
            rows = csv.DictReader(file)
            if missing := {"comment_text", *everything} - set(rows.fieldnames or ()):
                raise BadInput(f"{shown(path)} is not Jigsaw's train.csv: no column "
                               f"{', '.join(sorted(missing))}")
            for row in rows:
                if any(row[c] == "1" for c in JIGSAW_COLUMNS[kind]):
                    positives.append(row["comment_text"])
                elif all(row[c] == "0" for c in everything):
                    negatives.append(row["comment_text"])
    except (UnicodeDecodeError, EOFError, csv.Error, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(f"{shown(path)} is no whole UTF-8 table ({error}): download it again")
    return positives[:limit], negatives[:limit]


def _open_table(path: Path) -> IO[str]:
    """The text of a .csv, .csv.gz or .csv.zip (its first table)."""
    if not Path(path).exists():
        raise BadInput(f"{shown(path)} is missing: download train.csv of Kaggle's Toxic Comment "
                       "Classification Challenge")
    if str(path).endswith(".zip"):
        archive = zipfile.ZipFile(path)
        table = next((n for n in archive.namelist() if n.endswith(".csv")), None)
        if table is None:
            raise BadInput(f"{shown(path)} holds no .csv file")
        return io.TextIOWrapper(archive.open(table), encoding="utf-8", newline="")
    opener = gzip.open if str(path).endswith(".gz") else open
    return opener(path, "rt", encoding="utf-8", newline="")


@functools.lru_cache(maxsize=None)
def bundled_model(kind: str) -> HashedLinear:
    """The model of `kind` trained on the bundled examples, once per process (0.1 s)."""
    examples = ([rude_words(text) for text in texts] for texts in load_examples(kind))
    return fit(*examples, l2=1e-4, labels=(kind, "clean"))


def classify(text: str, model: HashedLinear) -> tuple[str, float]:
    """The likelier label of a two-class model and its probability (0.5 or more).

    The model reads the text as `rude_words` gives it, as it did when it was trained, and each
    sentence of SHORTEST words or more of a longer one: a page is as bad as its worst sentence, if
    that is surely bad, for a threat among ten kind sentences is diluted to nothing. Surely means a
    probability of SURE, or 1 - 3 / n among n sentences: of many, one looks bad by chance.
    """
    text = text[:LOOKED_AT]
    p = model.score(rude_words(text))
    sentences = [s for s in rude_sentences(text) if len(s.split()) >= SHORTEST]
    if len(sentences) > 1:
        worst = float(model.score_many(sentences).max())
        p = max(p, worst) if worst >= max(SURE, 1 - 3 / len(sentences)) else p
    return (model.labels[0], p) if p >= 0.5 else (model.labels[1], 1 - p)


def classify_nsfw(text: str, model: HashedLinear | None = None) -> tuple[str, float]:
    """("nsfw" or "clean", probability of that label)."""
    return classify(text, model or bundled_model("nsfw"))


def classify_harmful(text: str, model: HashedLinear | None = None) -> tuple[str, float]:
    """("harmful" or "clean", probability): insults, threats, hate, incitement."""
    return classify(text, model or bundled_model("harmful"))
