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
SIGNS = {"−": "-", "{": r"\{", "}": r"\}", "%": r"\%", "#": r"\#", "&": r"\&", "$": r"\$",
         "_": r"\_", "^": r"\hat{}", "∣": "|", "‖": r"\|", "∗": "*", "∕": "/", "ℎ": "h",
         "\u2061": "", "\u2062": "", "\u2063": ",", "\u2064": "", "\xa0": " "}
SIGNS |= {sign: "\\" + name for sign, name in zip(*[iter(r"""
    ∑ sum ∏ prod ∐ coprod ∫ int ∬ iint ∭ iiint ∮ oint ⋃ bigcup ⋂ bigcap ⨁ bigoplus ⨂ bigotimes
    ⨆ bigsqcup ⋁ bigvee ⋀ bigwedge √ sqrt ∞ infty ∂ partial ∇ nabla ∅ emptyset ∀ forall ∃ exists
    ∄ nexists ¬ neg ∧ wedge ∨ vee ⊢ vdash ⊨ models ⊥ perp ⊤ top ≤ le ≥ ge ⩽ leqslant ⩾ geqslant
    ≠ ne ≈ approx ≡ equiv ∼ sim ~ sim ≃ simeq ≅ cong ≐ doteq ∝ propto ≪ ll ≫ gg ≺ prec ≻ succ
    ⪯ preceq ⪰ succeq ≼ preceq ≽ succeq ≲ lesssim ≳ gtrsim ≜ triangleq ∈ in ∉ notin ∋ ni ⊂ subset
    ⊃ supset ⊆ subseteq ⊇ supseteq ⊊ subsetneq ⊋ supsetneq ⊑ sqsubseteq ⊒ sqsupseteq ∪ cup ∩ cap
    ⊔ sqcup ⊓ sqcap ⊎ uplus ∖ setminus \ backslash × times · cdot ⋅ cdot ± pm ∓ mp ÷ div ∘ circ
    • bullet ⋆ star ⊗ otimes ⊕ oplus ⊖ ominus ⊙ odot ⊘ oslash ⋊ rtimes ⋉ ltimes ∥ parallel
    ∤ nmid ∠ angle △ triangle □ square ◇ diamond ⋄ diamond ⊲ lhd ⊳ rhd ∴ therefore ∵ because
    → to ← leftarrow ↔ leftrightarrow ↑ uparrow ↓ downarrow ↕ updownarrow ↗ nearrow ↘ searrow
    ⇒ Rightarrow ⇐ Leftarrow ⇔ Leftrightarrow ⟶ longrightarrow ⟵ longleftarrow ⟹ Longrightarrow
    ⟸ Longleftarrow ⟺ Longleftrightarrow ↦ mapsto ⟼ longmapsto ↪ hookrightarrow
    ↠ twoheadrightarrow ⇀ rightharpoonup ⇌ rightleftharpoons ⇝ rightsquigarrow … dots ⋯ cdots
    ⋮ vdots ⋱ ddots ⟨ langle ⟩ rangle 〈 langle 〉 rangle ⌊ lfloor ⌋ rfloor ⌈ lceil ⌉ rceil
    ⟦ llbracket ⟧ rrbracket † dagger ‡ ddagger ′ prime ″ prime\prime § S ℓ ell ℏ hbar ℘ wp
    ℵ aleph ı imath ȷ jmath ϵ epsilon ε varepsilon ϕ phi φ varphi ϑ vartheta ϖ varpi ϱ varrho
    ς varsigma ϰ varkappa""".split())] * 2)}
ACCENTS = {sign: name for name, signs in zip(*[iter("""
    bar ¯\u0304 overline ‾\u0305 hat ˆ\u0302 tilde ˜\u0303 vec \u20d7 dot ˙\u0307. ddot ¨\u0308
    dddot \u20db breve ˘\u0306 check ˇ\u030c acute ´\u0301 grave `\u0300 mathring ˚\u030a
    overbrace ⏞ overleftarrow \u20d6""".split())] * 2) for sign in signs}
ACCENTS |= {r"\hat{}": "hat", r"\sim": "tilde", r"\to": "vec", r"\leftarrow": "overleftarrow",
            r"\longrightarrow": "overrightarrow", r"\leftrightarrow": "overleftrightarrow"}
BELOW = {r"\_": "underline", "¯": "underline", "‾": "underline", "\u0332": "underline",
         "⏟": "underbrace"}
# Attribute mathvariant, and the words by which Unicode names the letters of the same looks.
VARIANTS = {"double-struck": "mathbb", "bold": "mathbf", "bold-italic": "boldsymbol",
            "script": "mathcal", "bold-script": "mathcal", "fraktur": "mathfrak",
            "bold-fraktur": "mathfrak", "sans-serif": "mathsf", "monospace": "mathtt",
            "sans-serif-italic": "mathsf", "bold-sans-serif": r"boldsymbol{\mathsf",
            "sans-serif-bold": r"boldsymbol{\mathsf",
            "sans-serif-bold-italic": r"boldsymbol{\mathsf"}
TEXTS = {"bold": "textbf", "italic": "textit", "monospace": "texttt", "sans-serif": "textsf"}
STYLED = re.compile(r"(?:MATHEMATICAL )?(DOUBLE-STRUCK|SCRIPT|FRAKTUR|BLACK-LETTER|BOLD SCRIPT|"
                    r"BOLD FRAKTUR|SANS-SERIF BOLD ITALIC|SANS-SERIF BOLD|SANS-SERIF ITALIC|"
                    r"SANS-SERIF|BOLD ITALIC|BOLD|ITALIC|MONOSPACE) ")
ENCLOSED = {"radical": "sqrt", "box": "boxed", "roundedbox": "boxed", "top": "overline",
            "bottom": "underline", "updiagonalstrike": "cancel", "downdiagonalstrike": "bcancel"}
BEFORE = "\0"               # what follows are scripts before the base
STACK = r"\genfrac{}{}{0pt}{}"     # a fraction without its line
# One letter, number, command or group: what a script can stand on without braces.
ATOM = re.compile(r"(?:.|\d[\d.]*|\\[a-zA-Z]+ ?(?:\{[^{}]*\})?|\\.|\([^()]*\)|\[[^][]*\])$")
FUNCTIONS = frozenset("sin cos tan log ln exp lim max min sup inf det arg gcd dim ker sinh cosh "
                      "tanh sec csc cot arcsin arccos arctan limsup liminf deg hom Pr".split())
LARGE = tuple(r"\sum \prod \coprod \int \iint \iiint \oint \big \lim \max \min \sup \inf "
              r"\arg".split())
TEXT_SIGNS = {ord(c): "\\" + c for c in "%#&$_{}"}


def sign(character: str) -> str:
    """One character as TeX: "α" -> "\\alpha ", "≤" -> "\\le ", "x" -> "x"."""
    tex = SIGNS.get(character)
    made_of = unicodedata.decomposition(character).split() if tex is None else []
    if made_of[:1] == ["<font>"] and (styled := STYLED.match(unicodedata.name(character, ""))):
        # a letter that is bold, or script, by its very code
        look = styled[1].lower().replace(" ", "-").replace("black-letter", "fraktur")
        return in_variant(sign(chr(int(made_of[1], 16))), look)
    if made_of[1:] == ["0338"]:         # struck through
        return "\\not" + sign(chr(int(made_of[0], 16)))
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
    command = "boldsymbol" if bold else VARIANTS[look]
    return f"\\{command}{{{tex.strip()}}}" + "}" * command.count("{")


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
    words = ["".join(name.split())] if "".join(name.split()) in FUNCTIONS else name.split()
    if words and FUNCTIONS.issuperset(words):            # also "lim sup" and "arg max"
        return "".join(f"\\{word} " for word in words)
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
        case "mtext" | "ms":
            text = "".join(parts).translate(TEXT_SIGNS)
            text = f'"{text}"' if tag == "ms" else text
            return f"\\{TEXTS.get(look, 'text')}{{{text}}}"
        case "mprescripts": return BEFORE
        case "mi" | "mo" | "mn": return token(tag, "".join(parts), look)
        case "mtr": return " & ".join(parts)
        case "mlabeledtr": return " & ".join(parts[1:])          # the first is its number
        case "mtable": return "\\begin{matrix} " + " \\\\ ".join(parts) + " \\end{matrix}"
        case "mstyle" if look:
            return joined([in_variant(p, look) if p.strip().isalnum() else p for p in parts])
        case "menclose":
            drawn = [n for n in attribute(attributes, "notation").split() if n in ENCLOSED]
            return f"\\{ENCLOSED[drawn[0]]}{{{joined(parts)}}}" if drawn else joined(parts)
        case "mfenced": return fenced(attributes, parts)
        case "semantics": return a
        case "maction":
            chosen = attribute(attributes, "selection")
            return parts[int(chosen) - 1] if chosen in map(str, range(1, len(parts) + 1)) else a
        case "annotation" | "annotation-xml" | "mphantom" | "none": return ""
        case "mspace": return " "
    return joined(parts)


def mathml_tex(markup: str) -> str:
    """The TeX of what stands between <math> and </math>; "" if it is nested beyond all reason."""
    open_elements: list[tuple[str, str, list]] = [("math", "", [])]
    for close, tag, attributes, empty, text in TOKEN.findall(markup):
        if text:
            if text := text.strip(" \t\r\n"):                # not those that are to be seen
                open_elements[-1][2].append(unescape(text))
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
    tex = " ".join(joined(open_elements[0][2]).replace(BEFORE, "").split())
    return re.sub(r"(\\[a-zA-Z]+) (?=})", r"\1", tex)
