"""Copies by URL, by exact document, by line, and by entry. Near copies are in minhash.py.

    dedup_exact(["a", "b", "a"])                                  -> [0, 1]       what to keep
    dedup_lines(["menu\\nhello", "menu\\nworld"], keep="first")    -> ["menu\\nhello", "world"]
    dedup_lines(["menu\\nhello", "menu\\nworld"], keep="none")     -> ["hello", "world"]

The two line variants are different products. keep="none" drops every copy of a repeated line, the
first as well (CCNet): it removes menus and footers whole. keep="first" keeps one copy (Dolma): it
keeps each sentence once. API pages need a third thing: "Parameters" and "----------" repeat in
every entry and belong there, but whole inherited methods repeat as well. `dedup_entries` works on
entries: a signature and the documentation under it.
"""

import hashlib
import ipaddress
import re
import unicodedata
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import numpy as np

SESSION_KEYS = frozenset("""phpsessid jsessionid cfid cftoken fbclid gclid dclid msclkid mc_cid
    mc_eid yclid ymclid twclid ttclid wbraid gbraid gad_source srsltid li_fat_id igshid igsh epik
    _ga _gl ref_src _hsenc _hsmi __hstc __hssc __hsfp hsctatracking mkt_tok oly_enc_id oly_anon_id
    vero_id vero_conv spm __cfduid _openstat""".split())
CAMPAIGN_KEYS = ("utm_", "mtm_", "matomo_", "piwik_", "pk_campaign", "pk_kwd", "pk_source",
                 "pk_medium", "hsa_", "ga_source", "ga_medium", "ga_campaign", "aspsessionid")
# Names of a session on one site and of a story on another: only a long code is a session.
DOUBTFUL_KEYS = frozenset("sid s session sessionid session_id sess oscsid zenid".split())
_SESSION_CODE = re.compile(r"(?=.*\d)[0-9A-Za-z,_-]{20,}")
_WWW = re.compile(r"^www\d*\.(?=.*\.)")           # "www.com" is a name of its own
_NO_SIGNS = re.compile("[\u00ad\u200b\u2060\ufeff]")     # which a name does without
_DOTS = re.compile("[.\u3002\uff0e\uff61]")
# Sessions in a path: Java's, and those of ASP.NET without cookies.
_JSESSION = re.compile(r";jsessionid=[^/?#]*|/\((?:[A-Z]\([\w-]{10,60}\)){1,4}\)(?=/)",
                       re.IGNORECASE)
_PERCENT = re.compile(r"%([0-9a-fA-F]{2})")
_DIGITS = re.compile(r"\d+")
_SIGNATURE = re.compile(r"\s*(class [\w.]+(\(.*\))?|(async |static )?[A-Za-z_][\w.]*( = [\w.]+)?"
                        r"\(.*\)( ->.*)?)\s*$")
_NAME = re.compile(r"\s*[a-z_]\w*\s*$")
_NOT_WORD = re.compile(r"[\W_]+")
_ASCII_WORDS = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}


def _plain(code: re.Match) -> str:
    """"%7e" -> "~": unreserved characters need no code; "%2f" -> "%2F": a slash does."""
    character = chr(int(code[1], 16))
    return character if re.fullmatch(r"[A-Za-z0-9._~-]", character) else code[0].upper()


def plain_host(host: str) -> str:
    """One spelling of a host: names in ASCII as the network has them, IPv6 addresses shortened.

    "M\u00fcnchen.example" -> "xn--mnchen-3ya.example", "2001:db8:0::1" -> "[2001:db8::1]". What is
    no valid name stays, in lower case. As browsers do it (UTS 46): Python's own codec, of 2003,
    writes "ss" for a sharp s and so takes one bank for another.
    """
    if ":" in host:
        try:
            return f"[{ipaddress.ip_address(host).compressed}]"
        except ValueError:
            return host.lower()
    if "%" in host:
        host = unquote(host)
    if not host.isascii():
        host = _NO_SIGNS.sub("", unicodedata.normalize("NFKC", host.lower()))
    labels = _DOTS.split(host.lower())
    names = [x if x.isascii() else "xn--" + x.encode("punycode").decode() for x in labels]
    return ".".join(names) if max(map(len, names)) < 64 else host.lower()


def _names_the_visitor(key: str, value: str) -> bool:
    """Is this parameter a session or a campaign, and no part of the page's name?"""
    return key in SESSION_KEYS or key.startswith(CAMPAIGN_KEYS) or (
        key in DOUBTFUL_KEYS and bool(_SESSION_CODE.fullmatch(value)))


def normalise_url(url: str) -> str:
    """One spelling for the many URLs of one page; a URL that cannot be parsed comes back as it is.

    Blanks around it go; what is not http or https stays as it is. Lower-case host as `plain_host`
    writes it, https for http; no user, no default port of its scheme, no full stop behind the host,
    no "www." or "www2." before it if a full stop is left, no fragment (but one that begins with
    "!" names another page). In the path: no session (`_JSESSION`), percent codes of unreserved
    characters decoded and others in upper case, dot segments (".." above the top is nothing) and
    double slashes resolved, no slash at the end, no index or default .htm, .html, .php, .asp, .aspx
    (in any case) as its last segment. In the query: without campaign and session
    parameters (`_names_the_visitor`), sorted by key and value, as `urlencode` writes them, empty
    values kept ("?b=&c" -> "?b=&c=") and bytes that are no UTF-8 too ("%e4" -> "%E4").
    normalise_url("HTTP://www.Example.com:80/a/./b/?b=2&a=1#top")
    = "https://example.com/a/b?a=1&b=2".
    Two different pages can share one key (rarely: an order of parameters that matters).
    """
    try:
        parts = urlsplit(url.strip())
        host, port = (parts.hostname or "").lower().rstrip("."), parts.port
    except ValueError:
        return url
    if not host or parts.scheme.lower() not in ("http", "https"):
        return url
    # the host: no www, no default port
    host = _WWW.sub("", plain_host(host))
    if port and (parts.scheme.lower(), port) not in (("http", 80), ("https", 443)):
        host += f":{port}"
    # the path: one spelling per character, then dot segments and empty segments
    path = quote(_PERCENT.sub(_plain, _JSESSION.sub("", parts.path)),
                 safe="/!$&'()*+,;=:@~-._%", errors="replace")
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    if kept and re.fullmatch(r"(index|default)\.(html?|php|aspx?)", kept[-1].lower()):
        kept.pop()
    # the query: sorted, without what only names the visitor
    # (surrogates carry bytes that are no UTF-8, so that %E4 and %F6 stay two queries)
    query = sorted((k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True,
                                                errors="surrogateescape")
                   if not _names_the_visitor(k.lower(), v))
    return urlunsplit(("https", host, "/" + "/".join(kept) if kept else "",
                       urlencode(query, errors="surrogateescape"),
                       parts.fragment if parts.fragment.startswith("!") else ""))


def digest64(text: str) -> int:
    """The first 64 bits of SHA-1 of `text` in UTF-8, as an integer; the same on every machine."""
    return int.from_bytes(hashlib.sha1(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def keep_best(keys: list, priorities: list) -> list[int]:
    """For each distinct key the index with the smallest priority; ties: the first. Ascending.

    keep_best(["x", "y", "x"], [5, 1, 3]) = [1, 2].
    """
    best: dict = {}
    for i, key in enumerate(keys):
        if key not in best or priorities[i] < priorities[best[key]]:
            best[key] = i
    return sorted(best.values())


def dedup_urls(urls: list[str], texts: list[str] | None = None) -> list[int]:
    """Indices to keep, one per normalised URL, ascending.

    With `texts` the longest text of a URL stays (ties: the first in text order), whatever order
    they come in; without, the first.
    """
    keys = [normalise_url(url) for url in urls]
    if texts is None:
        return keep_best(keys, [0] * len(keys))
    return keep_best(keys, [(-len(text), text) for text in texts])


def dedup_exact(texts: list[str], urls: list[str] | None = None) -> list[int]:
    """Indices to keep, one per distinct text (white space around it ignored), ascending.

    With `urls` the copy with the shortest URL stays (ties: alphabetical); without, the first.
    """
    keys = [digest64(text.strip()) for text in texts]
    return keep_best(keys, [(len(u), u) for u in urls] if urls else [0] * len(keys))


def normalise_line(line: str) -> str:
    """What CCNet compares: lower case, digits to 0, punctuation off. "Page 12:" -> "page 0"."""
    return _NOT_WORD.sub(" ", _DIGITS.sub("0", line.lower())).strip()


def dedup_lines(documents: list[str], keep: str = "first", minimum: int = 0) -> list[str]:
    """The documents without repeated lines; a document may become "".

    A line feed, and nothing else, divides lines; one at the end stays. Lines are compared after
    `normalise_line`, within and across documents. keep="first" leaves the first copy, keep="none"
    drops every copy of a line that occurs more than once. Lines without a word are never dropped,
    nor those whose normalised form is shorter than `minimum`. Another `keep` is a ValueError.
    """
    if keep not in ("first", "none"):
        raise ValueError(f'keep={keep!r}: "first" keeps one copy, "none" drops every copy')
    split = [document.split("\n") for document in documents]
    keys = [[normalise_line(line) for line in lines] for lines in split]
    # first pass: how often does each line occur in all documents?
    counts: dict[str, int] = {}
    for row in keys:
        for key in row:
            counts[key] = counts.get(key, 0) + 1
    # second pass: decide line by line
    seen: set[str] = set()
    out = []
    for lines, row in zip(split, keys):
        kept = []
        for line, key in zip(lines, row):
            drop = key in seen if keep == "first" else counts[key] > 1
            if not drop or not key or len(key) < minimum:
                kept.append(line)
            seen.add(key)
        out.append("\n".join(kept))
    return out


def is_signature(line: str) -> bool:
    """True for a line that defines something: "f(x, y=1)", "class A(B)", but not "See also:"."""
    return _SIGNATURE.match(line) is not None


def entries_of(text: str) -> list[str]:
    """Cut a text into entries: a definition with its documentation, or a paragraph.

    An entry may begin only after a blank line, and at the first line that is not blank. There it
    does begin if the line is indented no deeper than the one which began the last entry, or is a
    signature (_SIGNATURE: "f(x)", "class A(B)"), or a lower-case name (_NAME) whose next line, no
    blank one, is indented deeper. All else is the next paragraph of the open entry. So each method
    of a class is an entry, blank lines and headings in its documentation stay with it, and in prose
    every paragraph is one. Blank lines belong to the entry before them, those at the very start to
    the first; lines keep their ends, and "".join of the entries gives `text` back.
    """
    # Keep the line ends, so that the entries join to the text; a blank line has indent -1.
    lines = text.splitlines(keepends=True)
    indents = [len(line) - len(rest) if (rest := line.lstrip()) else -1 for line in lines]
    entries: list[list[str]] = [[]]
    level, blank = -1, True
    for i, line in enumerate(lines):
        # Only after a blank line (or at the start) may an entry begin.
        if indents[i] >= 0 and blank:
            deeper = i + 1 < len(lines) and indents[i + 1] > indents[i]
            # Three ways to begin: no deeper than the entry that is open, a signature, or a name
            # that stands above deeper lines. All else is the next paragraph of its documentation.
            if indents[i] <= level or level < 0 or _SIGNATURE.match(line) or (
                    deeper and _NAME.match(line)):
                if level >= 0:
                    entries.append([])
                level = indents[i]
        # Every line goes somewhere, the blank ones to the entry they follow.
        entries[-1].append(line)
        blank = indents[i] < 0
    return ["".join(entry) for entry in entries if entry]


def entry_keys(entries: list[str]) -> np.ndarray:
    """64-bit keys of entries, (E,) uint64; 0 for an entry without words.

    Case and punctuation do not matter; digits do, unlike in lines: conv1d is not conv2d.
    """
    # the same twice: ASCII, most of all texts, by a table, ten times faster than by the pattern
    keys = (" ".join(entry.translate(_ASCII_WORDS).split()) if entry.isascii() else
            _NOT_WORD.sub(" ", entry.lower()).strip() for entry in entries)
    return np.fromiter((digest64(key) if key else 0 for key in keys), np.uint64, len(entries))


def first_copies(keys: np.ndarray) -> np.ndarray:
    """True where a key occurs for the first time, or is 0 (never a copy): (E,) -> (E,) bool."""
    first = np.zeros(len(keys), bool)
    first[np.unique(keys, return_index=True)[1]] = True
    return first | (keys == 0)


def dedup_entries(documents: list[str]) -> list[str]:
    """The documents with each entry (see `entries_of`) only where it first occurs.

    Entries are compared by `entry_keys`. Inherited methods, class boilerplate and paragraphs quoted
    elsewhere go; the headings inside entries stay.
    """
    split = [entries_of(document) for document in documents]
    keys = [entry_keys(entries) for entries in split]
    keep = first_copies(np.concatenate(keys)) if keys else np.zeros(0, bool)
    bounds = np.cumsum([0] + [len(row) for row in keys])
    return ["".join(e for e, k in zip(entries, keep[a:]) if k)
            for entries, a in zip(split, bounds)]
