"""MathML -> TeX, for formulae whose TeX the page does not give (MathJax 3 leaves none behind).

    mathml_tex("<msup><mi>x</mi><mn>2</mn></msup>")  ->  "x^{2}"

Read as plain text, a fraction or a power loses what it means: x squared would be "x2". We undo the
twenty elements that formulae are made of, and the attributes that change what is meant (a fraction
without a line is a binomial); what else there is keeps its text. (W3C, MathML Core and MathML 3)
"""

import re
import unicodedata

from html_tree import attribute, unescape

TOKEN = re.compile(r"<(/?)([a-zA-Z:-]+)((?:[^<>/]++|/(?!>))*+)(/?)>|([^<]+)")
DEEPEST = 60              # elements in each other: no formula, but an attack
SIGNS = {"∑": r"\sum", "∏": r"\prod", "∫": r"\int", "∮": r"\oint", "√": r"\sqrt", "∞": r"\infty",
         "≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx", "≡": r"\equiv", "∼": r"\sim",
         "×": r"\times", "·": r"\cdot", "⋅": r"\cdot", "±": r"\pm", "÷": r"\div", "∂": r"\partial",
         "∇": r"\nabla", "∈": r"\in", "∉": r"\notin", "⊂": r"\subset", "⊆": r"\subseteq",
         "∪": r"\cup", "∩": r"\cap", "∅": r"\emptyset", "∀": r"\forall", "∃": r"\exists",
         "→": r"\to", "←": r"\leftarrow", "∧": r"\wedge", "∨": r"\vee", "¬": r"\neg",
         "∘": r"\circ", "⊗": r"\otimes", "⊕": r"\oplus", "∥": r"\parallel",
         "⇒": r"\Rightarrow", "↦": r"\mapsto", "⇔": r"\Leftrightarrow", "…": r"\dots",
         "⋯": r"\cdots", "⟨": r"\langle", "⟩": r"\rangle", "‖": r"\|",
         "−": "-", "{": r"\{", "}": r"\}", "%": r"\%",
         "#": r"\#", "&": r"\&", "$": r"\$", "∣": "|", "ℓ": r"\ell", "ℏ": r"\hbar",
         "\u2061": "", "\u2062": "", "\u2063": ",", "\u2064": "", "\xa0": " "}
ACCENTS = {"¯": "bar", "‾": "overline", "^": "hat", "ˆ": "hat", "~": "tilde", "˜": "tilde",
           r"\to": "vec", "˙": "dot", "¨": "ddot", "⏞": "overbrace"}
BELOW = {"_": "underline", "¯": "underline", "‾": "underline", "̲": "underline",
         "⏟": "underbrace"}
# Attribute mathvariant, and the words by which Unicode names the letters of the same looks.
VARIANTS = {"double-struck": "mathbb", "bold": "mathbf", "bold-italic": "boldsymbol",
            "script": "mathcal", "bold-script": "mathcal", "fraktur": "mathfrak",
            "bold-fraktur": "mathfrak", "sans-serif": "mathsf", "monospace": "mathtt"}
STYLED = re.compile(r"(?:MATHEMATICAL )?(DOUBLE-STRUCK|SCRIPT|FRAKTUR|BLACK-LETTER|BOLD SCRIPT|"
                    r"BOLD FRAKTUR|BOLD ITALIC|SANS-SERIF|MONOSPACE|BOLD|ITALIC)"
                    r" (?:CAPITAL|SMALL|DIGIT) (?:[A-Z]|[A-Z]{3,})$")
ENCLOSED = {"radical": "sqrt", "box": "boxed", "roundedbox": "boxed", "top": "overline",
            "bottom": "underline"}         # <menclose notation="...">
BEFORE = "\0"               # what follows are scripts before the base
STACK = r"\genfrac{}{}{0pt}{}"     # a fraction without its line
# One letter, number, command or group: what a script can stand on without braces.
ATOM = re.compile(r"(?:.|\d[\d.]*|\\[a-zA-Z]+ ?(?:\{[^{}]*\})?|\\.|\([^()]*\)|\[[^][]*\])$")
FUNCTIONS = frozenset("sin cos tan log ln exp lim max min sup inf det arg gcd dim ker sinh cosh "
                      "tanh sec csc cot arcsin arccos arctan limsup liminf deg hom Pr".split())
LARGE = (r"\sum", r"\prod", r"\int", r"\lim", r"\max", r"\min", r"\sup", r"\inf", r"\arg")


def sign(character: str) -> str:
    """One character as TeX: "α" -> "\\alpha ", "≤" -> "\\le ", "x" -> "x"."""
    tex = SIGNS.get(character)
    styled = STYLED.match(unicodedata.name(character, "")) if tex is None else None
    if styled and character > "~":      # a letter that is bold, or script, by its very code
        look = styled[1].lower().replace(" ", "-").replace("black-letter", "fraktur")
        return in_variant(sign(unicodedata.normalize("NFKC", character)), look)
    if tex is None and "\u0391" <= character <= "\u03c9":
        name = unicodedata.name(character, "").split()
        if name[1:3] in (["SMALL", "LETTER"], ["CAPITAL", "LETTER"]) and len(name) == 4:
            name = name[3].lower().replace("lamda", "lambda")
            tex = "\\" + (name if character > "Ω" else name.capitalize())
    tex = character if tex is None else tex
    return tex + " " if tex[:1] == "\\" and tex[-1].isalpha() else tex


def in_variant(tex: str, look: str) -> str:
    """A token in the letters that mathvariant asks for: ("R", "double-struck") -> "\\mathbb{R}"."""
    if look == "normal" and tex.strip().isascii() and tex.strip().isalpha():
        return f"\\mathrm{{{tex.strip()}}}"
    if look not in VARIANTS or not tex.strip():
        return tex
    # \mathbf has no Greek letters
    bold = look == "bold" and tex[0] == "\\"
    return f"\\{'boldsymbol' if bold else VARIANTS[look]}{{{tex.strip()}}}"


def based(base: str) -> str:
    """What a script stands on, in braces if it is more than one thing: "a+b" -> "{a+b}"."""
    return base if not base or ATOM.match(base) else f"{{{base}}}"


def scripts(base: str, below: str, above: str) -> str:
    """base_{below}^{above}, each left out where it is empty."""
    return base + (f"_{{{below}}}" if below else "") + (f"^{{{above}}}" if above else "")


def joined(parts: list[str]) -> str:
    """Parts in a row; a stack between parentheses is a binomial."""
    found: list[str] = []
    for part in parts:
        found.append(part)
        if len(found) > 2 and part == ")" and found[-3] == "(" and found[-2].startswith(STACK):
            found[-3:] = ["\\binom" + found[-2].removeprefix(STACK)]
    return "".join(found)


def fenced(attributes: str, parts: list[str]) -> str:
    """<mfenced>: its own open, close and separators, of which the last one is used again."""
    def given(name: str, usual: str) -> str:
        return attribute(attributes, name) if re.search(rf"\b{name}\s*=", attributes) else usual
    first, last = (sign(given(n, u).strip()[:1]) if given(n, u).strip() else ""
                   for n, u in (("open", "("), ("close", ")")))
    marks = "".join(given("separators", ",").split()) if len(parts) > 1 else ""
    inside = "".join(part + (marks[min(i, len(marks) - 1)] if marks and i < len(parts) - 1 else "")
                     for i, part in enumerate(parts))
    return joined([first, inside, last])


def multiscripts(parts: list[str]) -> str:
    """<mmultiscripts>: base, pairs of scripts after it, then (BEFORE) the pairs before it."""
    at = parts.index(BEFORE) if BEFORE in parts else len(parts)
    after, before = ["".join(scripts("", *(row + [""])[i:i + 2]) for i in range(0, len(row), 2))
                     for row in (parts[1:at], parts[at + 1:])]
    return ("{}" + before if before else "") + based("".join(parts[:1])) + after


def token(tag: str, text: str, look: str) -> str:
    """<mi>, <mo> or <mn>: a name, sign or number, in the letters that its mathvariant asks for."""
    name = text.strip()
    if name in FUNCTIONS:
        return f"\\{name} "
    if len(name) > 1 and name.isascii() and name.isalpha() and tag != "mn":
        return in_variant(name, look if look in VARIANTS else "normal")    # one name, no product
    return in_variant("".join(sign(c) for c in text), look)


def element(tag: str, attributes: str, parts: list[str]) -> str:
    """One element with its children already in TeX: ("mfrac", "", ["a", "b"]) -> "\\frac{a}{b}".

    linethickness, mathvariant, open, close and separators are read from `attributes`."""
    a, b, c = (parts + ["", "", ""])[:3]
    base, look = a.strip(), ""
    if "mathvariant" in attributes:
        look = attribute(attributes, "mathvariant").lower()
    match tag:
        case "mfrac" if re.match(r"0(?:\.0*)?(?![\d.])", attribute(attributes, "linethickness")):
            return f"{STACK}{{{a}}}{{{b}}}"
        case "mfrac": return f"\\frac{{{a}}}{{{b}}}"
        case "msqrt": return f"\\sqrt{{{joined(parts)}}}"
        case "mroot": return f"\\sqrt[{b}]{{{a}}}"
        case "msup": return scripts(based(a), "", b)
        case "msub": return scripts(based(a), b, "")
        case "msubsup": return scripts(based(base), b, c)
        case "munderover" if base.startswith(LARGE): return scripts(base, b, c)
        case "munderover": return f"\\underset{{{b}}}{{\\overset{{{c}}}{{{a}}}}}"
        case "mmultiscripts": return multiscripts(parts)
        case "mover" if b.strip() in ACCENTS: return f"\\{ACCENTS[b.strip()]}{{{a}}}"
        case "mover" if base.startswith("\\overbrace"): return f"{base}^{{{b}}}"
        case "mover": return f"\\overset{{{b}}}{{{a}}}"
        case "munder" if base.startswith((*LARGE, "\\underbrace")): return scripts(base, b, "")
        case "munder" if b.strip() in BELOW: return f"\\{BELOW[b.strip()]}{{{a}}}"
        case "munder": return f"\\underset{{{b}}}{{{a}}}"
        case "mtext": return f"\\text{{{''.join(parts)}}}"
        case "mprescripts": return BEFORE
        case "mi" | "mo" | "mn": return token(tag, "".join(parts), look)
        case "mtr": return " & ".join(parts)
        case "mtable": return "\\begin{matrix} " + " \\\\ ".join(parts) + " \\end{matrix}"
        case "mstyle" if look:
            return joined([in_variant(p, look) if p.strip().isalnum() else p for p in parts])
        case "menclose" if attribute(attributes, "notation") in ENCLOSED:
            return f"\\{ENCLOSED[attribute(attributes, 'notation')]}{{{joined(parts)}}}"
        case "mfenced": return fenced(attributes, parts)
        case "semantics" | "maction": return a
        case "annotation" | "annotation-xml" | "mphantom" | "none": return ""
        case "mspace": return " "
    return joined(parts)


def mathml_tex(markup: str) -> str:
    """The TeX of what stands between <math> and </math>; "" if it is nested beyond all reason."""
    open_elements: list[tuple[str, str, list]] = [("math", "", [])]
    for close, tag, attributes, empty, text in TOKEN.findall(markup):
        if text:
            if text.strip():
                open_elements[-1][2].append(unescape(text.strip()))
            continue
        if not close:
            open_elements.append((tag.rpartition(":")[2].lower(), attributes, []))
            if len(open_elements) > DEEPEST:
                return ""
        if (close or empty) and len(open_elements) > 1:
            done = element(*open_elements.pop())
            open_elements[-1][2].append(done)
    while len(open_elements) > 1:                   # what was never closed
        done = element(*open_elements.pop())
        open_elements[-1][2].append(done)
    return " ".join(joined(open_elements[0][2]).replace(BEFORE, "").split())
