"""MathML -> TeX, for formulae whose TeX the page does not give (MathJax 3 leaves none behind).

    mathml_tex("<msup><mi>x</mi><mn>2</mn></msup>")  ->  "x^{2}"

Read as plain text, a fraction or a power loses what it means: x squared would be "x2". We undo the
twenty elements that formulae are made of; what else there is keeps its text.
"""

import re
import unicodedata

from html_tree import unescape

TOKEN = re.compile(r"<(/?)([a-zA-Z:]+)[^<>]*?(/?)>|([^<]+)")
DEEPEST = 60              # elements in each other: no formula, but an attack
SIGNS = {"∑": r"\sum", "∏": r"\prod", "∫": r"\int", "∮": r"\oint", "√": r"\sqrt", "∞": r"\infty",
         "≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx", "≡": r"\equiv", "∼": r"\sim",
         "×": r"\times", "·": r"\cdot", "⋅": r"\cdot", "±": r"\pm", "÷": r"\div", "∂": r"\partial",
         "∇": r"\nabla", "∈": r"\in", "∉": r"\notin", "⊂": r"\subset", "⊆": r"\subseteq",
         "∪": r"\cup", "∩": r"\cap", "∅": r"\emptyset", "∀": r"\forall", "∃": r"\exists",
         "→": r"\to", "⇒": r"\Rightarrow", "↦": r"\mapsto", "⇔": r"\Leftrightarrow", "…": r"\dots",
         "⋯": r"\cdots", "ℝ": r"\mathbb{R}", "ℕ": r"\mathbb{N}", "ℤ": r"\mathbb{Z}",
         "⟨": r"\langle", "⟩": r"\rangle", "‖": r"\|", "−": "-", "{": r"\{", "}": r"\}", "%": r"\%",
         "\u2061": "", "\u2062": "", "\u2063": ",", "\u2064": "", "\xa0": " "}
ACCENTS = {"¯": "bar", "‾": "overline", "^": "hat", "ˆ": "hat", "~": "tilde", "˜": "tilde",
           r"\to": "vec", "˙": "dot", "¨": "ddot", "⏞": "overbrace"}
FUNCTIONS = frozenset("sin cos tan log ln exp lim max min sup inf det arg gcd dim ker".split())
LARGE = (r"\sum", r"\prod", r"\int", r"\lim", r"\max", r"\min", r"\sup", r"\inf", r"\arg")


def sign(character: str) -> str:
    """One character as TeX: "α" -> "\\alpha ", "≤" -> "\\le ", "x" -> "x"."""
    tex = SIGNS.get(character)
    if tex is None and "\u0391" <= character <= "\u03c9":
        name = unicodedata.name(character, "").split()
        if name[1:3] in (["SMALL", "LETTER"], ["CAPITAL", "LETTER"]) and len(name) == 4:
            name = name[3].lower().replace("lamda", "lambda")
            tex = "\\" + (name if character > "Ω" else name.capitalize())
    tex = character if tex is None else tex
    return tex + " " if tex[:1] == "\\" and tex[-1].isalpha() else tex


def element(tag: str, parts: list[str]) -> str:
    """One element with its children already in TeX: ("mfrac", ["a", "b"]) -> "\\frac{a}{b}"."""
    a, b, c = (parts + ["", "", ""])[:3]
    base = a.strip()
    match tag:
        case "mfrac": return f"\\frac{{{a}}}{{{b}}}"
        case "msqrt": return f"\\sqrt{{{''.join(parts)}}}"
        case "mroot": return f"\\sqrt[{b}]{{{a}}}"
        case "msup": return f"{a}^{{{b}}}"
        case "msub": return f"{a}_{{{b}}}"
        case "msubsup" | "munderover": return f"{base}_{{{b}}}^{{{c}}}"
        case "mover" if b.strip() in ACCENTS: return f"\\{ACCENTS[b.strip()]}{{{a}}}"
        case "mover": return f"\\overset{{{b}}}{{{a}}}"
        case "munder" if base.startswith(LARGE): return f"{base}_{{{b}}}"
        case "munder": return f"\\underset{{{b}}}{{{a}}}"
        case "mtext": return f"\\text{{{''.join(parts)}}}"
        case "mi" if base in FUNCTIONS: return f"\\{base} "
        case "mi" | "mo" | "mn": return "".join(sign(c) for c in "".join(parts))
        case "mtr": return " & ".join(parts)
        case "mtable": return "\\begin{matrix} " + " \\\\ ".join(parts) + " \\end{matrix}"
        case "mfenced": return f"({','.join(parts)})"
        case "semantics": return a
        case "annotation" | "annotation-xml" | "mphantom": return ""
        case "mspace": return " "
    return "".join(parts)


def mathml_tex(markup: str) -> str:
    """The TeX of what stands between <math> and </math>; "" if it is nested beyond all reason."""
    open_elements: list[tuple[str, list[str]]] = [("math", [])]
    for close, tag, empty, text in TOKEN.findall(markup):
        if text:
            if text.strip():
                open_elements[-1][1].append(unescape(text.strip()))
            continue
        if not close:
            open_elements.append((tag.rpartition(":")[2].lower(), []))
            if len(open_elements) > DEEPEST:
                return ""
        if (close or empty) and len(open_elements) > 1:
            done = element(*open_elements.pop())
            open_elements[-1][1].append(done)
    while len(open_elements) > 1:                   # what was never closed
        done = element(*open_elements.pop())
        open_elements[-1][1].append(done)
    return " ".join("".join(open_elements[0][1]).split())
