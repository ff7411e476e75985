"""What kind of page is this? Domains by counting telling words and lines, nothing learned.

    classify_domain("def f(x):\\n    return x\\n" * 9)   -> "code"

DOMAINS lists them. The features are shares of lines or of words, so a page's length does not
matter; the domain with the highest score wins, "general" if none reaches 1. `is_documentation`
decides which rule set a page meets (see page_steps.choose_rules).
"""

import re

SIGNATURE = re.compile(r"^\s*(class |async |def )?[A-Za-z_][\w.]*( = [\w.]+)?\(.*\)?( ->.*)?[,:]?$")
# "x: int", "X, y : array"; but "Q: Who are you?" and "Note: ..." are prose
_PARAMETER = re.compile(r"^\s*\*{0,2}(?:[a-z_]\w*(?: ?, ?\*{0,2}\w+)* ?: ?|"
                        r"[A-Za-z_]\w*(?: ?, ?\*{0,2}\w+)* : )\S|^\s*:(?:param|type|return)")
_UNDERLINE = re.compile(r"^\s*([-=~^])\1{3,}\s*$")
_HEADING = re.compile(r"^\s*(parameters|returns|raises|yields|attributes|see also|notes|examples|"
                      r"methods|references|args|keyword arguments|functions|classes|data)\s*:?$",
                      re.IGNORECASE)
_CODE = re.compile(r"^\s*(>>> |\.\.\. |\$ |def |class |import |from \S+ import |return\b|if .*:$|"
                   r"for .*:$|@\w|#include|//|function\b|var |const |let |public |[})\]]+[;,]?$)"
                   r"|^\s*[\w.\[\]]+ [-+*/]?= \S")
_MARKUP = re.compile(r"``[^`]+``|:[a-z]+:`|::\s*$|^\s*(>>> |\.\. \[?\w+|# )|::= |\[\d+\]_|"
                     r"^\s*@?\w+ ?= ")
_MARKUP_SIGN = re.compile(r"[`:>#=\]]|\.\. ")        # no markup without one of them
_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")

# Telling words and how many per 1000 words of a page make it sure (score 1).
VOCABULARY = {
    "mathematics": (40, """theorem lemma proof polynomial polynomials matrix matrices eigenvalue
        eigenvalues integral integrals derivative derivatives equation equations algebra algebraic
        symbolic coefficients integer integers rational prime modulo vector vectors tensor
        probability distribution variance graph graphs vertices node nodes edges convex gamma sin
        cos tan exp log sqrt factorial binomial orthogonal hermite legendre differential series
        summation groebner"""),
    "legal": (40, """copyright license licensed licensee licence warranty warranties liability
        liable herein hereby thereof agreement redistribution redistributions damages shall pursuant
        terms conditions trademark indemnify jurisdiction merchantability noninfringement"""),
    "news": (22, """said says told reported reporters police government minister president official
        officials monday tuesday wednesday thursday friday saturday sunday yesterday spokesman
        spokeswoman election court million billion percent county killed announced according"""),
    "discussion": (20, """thanks thank reply replies posted comment comments forum thread lol
        anyone guys hi hello sorry question answer"""),
    "commerce": (25, """price prices shop cart shipping buy order orders sale discount free delivery
        product products offer offers customer customers brand store stock warranty guarantee
        reviews"""),
    "tutorial": (45, """you your we let's us our how step steps first next then finally want need
        example tutorial guide learn simple easy try note suppose imagine"""),
}
_VOCABULARY = {name: (rate, frozenset(words.split())) for name, (rate, words) in VOCABULARY.items()}
DOMAINS = ("reference", "code", *VOCABULARY, "general")


def line_shares(text: str) -> dict[str, float]:
    """Shares of the non-blank lines of `text` that are reference structure, code, or marked up.

    {"reference": 0.4, "code": 0.1, "markup": 0.2} for a page where four lines in ten are
    signatures, parameters, headings or underlines, one in ten is code, and two in ten hold
    reStructuredText (``x``, :class:`x`, ::), a grammar rule or an assignment. Empty: all 0.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    count = max(len(lines), 1)
    short = [x for x in lines if len(x) < 300]
    return {"reference": sum(map(_is_reference, short)) / count,
            "code": sum(map(_is_code, short)) / count,
            "markup": sum(1 for x in short if _MARKUP_SIGN.search(x) and _MARKUP.search(x)) / count}


def _is_reference(line: str) -> bool:
    # each pattern is tried only where its own signs stand: four times faster
    inner = line.strip()
    return bool(("(" in line and SIGNATURE.match(line))
                or (":" in line and _PARAMETER.match(line))
                or (inner[:1] in "-=~^" and _UNDERLINE.match(line))
                or (len(inner) < 24 and _HEADING.match(line)))


def _is_code(line: str) -> bool:
    return line.rstrip()[-1:] in (";", "{") or _CODE.match(line) is not None


def domain_scores(text: str) -> dict[str, float]:
    """A score for each domain, about 1 where a page is plainly of that domain."""
    shares = line_shares(text)
    # a fifth of reference lines is plain documentation; three in ten lines of code are plain code
    scores = {"reference": shares["reference"] / 0.2, "code": shares["code"] / 0.3}
    words = [w.lower() for w in _WORD.findall(text[:200_000])]
    for name, (per_thousand, telling) in _VOCABULARY.items():
        hits = sum(1 for w in words if w in telling)
        scores[name] = 1000 * hits / max(len(words), 20) / per_thousand
    return scores


def classify_domain(text: str) -> str:
    """The domain of a page, one of DOMAINS: the best score if it reaches 1, else "general"."""
    scores = domain_scores(text)
    best = max(DOMAINS[:-1], key=lambda name: scores[name])
    return best if scores[best] >= 1 else "general"


def is_documentation(text: str) -> bool:
    """Is this page API documentation or code, where rules made for prose do not apply?

    Yes if 15 % of its lines are reference structure, 25 % code or 15 % marked up, or half of two.
    """
    shares = line_shares(text[:100_000])
    return shares["reference"] / 0.15 + shares["code"] / 0.25 + shares["markup"] / 0.15 >= 1
