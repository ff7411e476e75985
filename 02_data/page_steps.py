"""The steps that look at one page alone: functions (page, settings) -> None, or the reason why not.

A page is a dictionary: url, kind, body (bytes) at first; text, language, rules, masked after. Steps
may change page["text"]. pipeline.py lists them in order, with what each drops and why.

Two rule sets, because rules made for web prose reject documentation whatever its quality: its lines
end without a full stop, braces are code, "the" is rare in signatures. `choose_rules` notes which
set a page meets; `--rules web` or `--rules documentation` chooses one for all.
"""

import functools
import re
from dataclasses import dataclass, field

import numpy as np

import heuristics
from dedup import dedup_entries, digest64, entries_of, entry_keys, normalise_url
from dirty_words import DIRTY_WORDS, dirty_tokens
from domains import SIGNATURE, is_documentation
from extract import extract_text
from hashed_linear import HashedLinear
from language import identify_language
from personal_data import MOST, mask_personal_data, too_personal
from safety import blocked_url, classify_harmful, classify_nsfw
from web_encoding import decode_html
from writing_systems import LETTERS, words_of


_NO_LETTERS = {code: None for code in range(128) if not chr(code).isalpha()}


@dataclass(frozen=True)
class Settings:
    """What the steps need to know; the same for every process of a run."""
    languages: tuple[str, ...] = ("en",)
    language_probability: float = 0.65     # RefinedWeb's and FineWeb's threshold
    rules: str = "auto"
    max_personal: int = MOST               # Dolma: more spans than this and the page goes
    safety_threshold: float = 0.9
    nsfw_model: str = ""                   # paths; empty: the bundled examples
    harmful_model: str = ""
    blocklist: frozenset[str] = field(default_factory=frozenset)
    dirty_words: frozenset[str] = DIRTY_WORDS
    repeated_lines: str = "keep"           # or "first", "none": see dedup.dedup_lines
    min_words: int = 20
    min_quality: float = 0.1
    max_divergence: float = 6.0            # nats
    max_overlap: int = 0                   # 13-grams shared with evaluation sets
    quality_for_web: bool = False

    def judges(self, page: dict) -> bool:
        """Does the quality model filter this page? The default one knows documentation only."""
        return self.quality_for_web or page["rules"] == "documentation"


def is_page(page: dict, settings: Settings) -> str | None:
    """Only HTML and plain text can become text; images, PDFs and broken records are counted."""
    if page["kind"] in ("html", "text"):
        return None if page["body"].strip() else "empty body"
    return page["kind"]


def address(page: dict, settings: Settings) -> str | None:
    """URL blocklists: cheap, before anything is parsed."""
    return blocked_url(page["url"], settings.blocklist)


def extract(page: dict, settings: Settings) -> str | None:
    """HTML bytes to main text; text records are only decoded."""
    if page["kind"] == "html":
        page["text"] = extract_text(page["body"], page.get("charset")).strip("\n")
    else:
        text = decode_html(page["body"], page.get("charset"))
        page["text"] = text.replace("\r\n", "\n").strip("\n")
    # no NUL, and no half of a surrogate pair: every text can be written as UTF-8
    page["text"] = page["text"].replace("\0", "").encode("utf-8", "replace").decode()
    return None if page["text"].strip() else "no main text"


def choose_rules(page: dict, settings: Settings) -> str | None:
    """Note which rule set the page will meet; rejects nothing."""
    page["rules"] = settings.rules
    if settings.rules == "auto":
        page["rules"] = "documentation" if is_documentation(page["text"]) else "web"
    return None


def language(page: dict, settings: Settings) -> str | None:
    """Keep the languages asked for. Documentation is judged by its prose, if it has enough."""
    sample = page["text"][:20_000]
    if page["rules"] == "documentation":
        sample = prose_of(sample)
        if len(words_of(sample)) < 12:
            page["language"] = "und"
            return None
    code, probability = identify_language(sample[:3_000])
    page["language"] = code
    if code not in settings.languages:
        return f"language {code}"
    if probability < settings.language_probability and page["rules"] == "web":
        return f"language {code}: {probability:.2f} is under {settings.language_probability:g}"
    return None


def prose_of(text: str) -> str:
    """The forty longest lines that are sentences: four words, nearly all letters, no assignment."""
    lines = [line for line in map(str.strip, text.split("\n"))
             if len(line) < 200 and "=" not in line and len(words_of(line)) >= 4
             and letters_of(line) + line.count(" ") >= 0.9 * len(line)]
    return "\n".join(sorted(lines, key=len, reverse=True)[:40])


def letters_of(line: str) -> int:
    """How many characters of a line are letters or their marks: letters_of("ab c1") = 3."""
    return len(line.translate(_NO_LETTERS)) if line.isascii() else \
        sum(map(len, LETTERS.findall(line)))


def page_repeats(page: dict, settings: Settings) -> str | None:
    """Cut what a documentation page shows twice: a class listed under two names, inherited methods.

    Cheap and early, because repetition within a page says nothing about its quality; repetition
    across pages is the business of corpus_steps.py.
    """
    if page["rules"] == "documentation":
        page["text"] = dedup_entries([page["text"]])[0].strip("\n")
    return None if page["text"].strip() else "nothing but repeats"


def personal_data(page: dict, settings: Settings) -> str | None:
    """Mask e-mail, phone and IP addresses; drop web pages that hold many (they are directories)."""
    page["text"], page["masked"] = mask_personal_data(page["text"])
    return too_personal(page["masked"], settings.max_personal) if page["rules"] == "web" else None


def safety(page: dict, settings: Settings) -> str | None:
    """NSFW and harmful pages, by linear classifiers, where they have learned: no documentation, and
    with the bundled examples no other language than English."""
    if page["rules"] == "documentation":
        return None
    foreign = page.get("language", "en") not in ("en", "und")
    for name, classify, path in (("nsfw", classify_nsfw, settings.nsfw_model),
                                 ("harmful", classify_harmful, settings.harmful_model)):
        if foreign and not path:
            continue
        label, probability = classify(page["text"], load_model(path))
        if label == name and probability >= settings.safety_threshold:
            return f"{name}: {probability:.2f}"
    return None


@functools.lru_cache(maxsize=None)
def load_model(path: str) -> HashedLinear | None:
    """The classifier in a file, read once per process; None for no path."""
    return HashedLinear.load(path) if path else None


def repetition(page: dict, settings: Settings) -> str | None:
    """Gopher's repetition rules for the web; for documentation the n-gram rules are left out."""
    if page["rules"] == "web":
        return heuristics.gopher_repetition(page["text"])
    lines = [x for x in heuristics.lines_of(page["text"]) if len(x) > 30]
    share = heuristics.repeated_parts(lines)[1]
    return f"long lines repeated: {share:.3g} is over 0.6" if share > 0.6 else None


def quality_rules(page: dict, settings: Settings) -> str | None:
    """Gopher's rules and dirty words for the web; size and stubs for documentation; dirt for both.
    """
    text = page["text"]
    if page["rules"] == "documentation":
        return documented(text) or printable(text)
    # Gopher's stop words are English; a page in another language that was asked for has others
    stop_words = heuristics.STOP_WORDS_OF.get(page["language"], frozenset())
    return heuristics.gopher_quality(text, stop_words) or printable(text) \
        or dirty_tokens(text, settings.dirty_words)


def line_rules(page: dict, settings: Settings) -> str | None:
    """C4's notices out of web pages, then C4's page rules and FineWeb's on the lines that stay.

    As in FineWeb, C4 runs without its rule that each line ends in a full stop.
    """
    if page["rules"] == "documentation":
        return None
    cleaned, reason = heuristics.c4_clean(page["text"], terminal_punctuation=False)
    if reason is None:
        page["text"] = cleaned
    return reason or heuristics.fineweb(cleaned)


def documented(text: str) -> str | None:
    """Documentation must document: at least 20 words, and 1 line of prose for 8 signatures."""
    words = words_of(text)
    if len(words) < 20:
        return f"documentation words: {len(words)} is under 20"
    lines = heuristics.lines_of(text)
    signatures = sum(1 for x in lines if SIGNATURE.match(x))
    prose = sum(1 for x in lines if len(words_of(x)) >= 5 and not SIGNATURE.match(x))
    if prose * 8 < signatures:
        return f"undocumented: {prose} lines of prose for {signatures} signatures"
    return None


def printable(text: str) -> str | None:
    """Not more than 1 character in 100 that is a replacement or control character."""
    bad = sum(text.count(c) for c in "\ufffd\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0e\x0f\x7f")
    share = bad / max(len(text), 1)
    return f"unprintable characters: {share:.3g} is over 0.01" if share > 0.01 else None


def specific(url: str) -> int:
    """How general a page's address is: the smaller the more specific, private pages last.

    Deep pages are the home of what shallow ones repeat (a front page, a package that imports its
    modules), but a part that begins with "_" is not where a reader looks:
    specific("https://x.org/a.b.html") < specific("https://x.org/a.html") < specific(".../_a.html").
    """
    parts = re.split(r"[/.]", normalise_url(url).partition("//")[2].partition("/")[2])
    private = any(part.startswith("_") for part in parts)
    return 1000 * private - min(len(parts), 99)


def package_of(url: str) -> str:
    """The site a page belongs to; in the embedded crawl its package, with capitals as imported; of
    a file its first folder, or its name.

    package_of("https://pil.pydoc.example/PIL.Image.html") = "PIL".
    """
    if url.startswith("file:///"):
        return url[8:].partition("#")[0].partition("/")[0] or "unknown"
    host, _, path = normalise_url(url).partition("//")[2].partition("/")
    module = path.split("/")[-1].partition(".")[0]
    return module if host.endswith(".pydoc.example") and module else host or "unknown"


def page_keys(pages: list[dict]) -> dict[str, np.ndarray]:
    """What deduplication needs of each page, in a few arrays: all that leaves a part."""
    entries = [entry_keys(entries_of(page["text"])) for page in pages]
    return {
        "url": np.array([digest64(normalise_url(p["url"])) for p in pages], np.uint64),
        "text": np.array([digest64(p["text"].strip()) for p in pages], np.uint64),
        "length": np.array([len(p["text"].encode("utf-8", "replace")) for p in pages], np.int64),
        "address": np.array([digest64(p["url"]) for p in pages], np.uint64),
        "specific": np.array([specific(p["url"]) for p in pages], np.int64),
        "entries": np.concatenate([*entries, np.zeros(0, np.uint64)]),
        "entry_counts": np.array([len(e) for e in entries], np.int64),
    }
