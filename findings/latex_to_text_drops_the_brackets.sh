#!/usr/bin/env bash
# guess: a converter from LaTeX to plain text writes a fraction with brackets where its parts need them.
# seen:  pylatexenc writes a/b+c for \frac{a}{b+c}, and the same 1/2x for half of x and for one over 2x. x^{n+1} and x^{n}+1 become
#        one string, the binomial n over k is "nk". Roots do get their brackets. So a formula comes out as another formula, which
#        is worse than none: nothing can tell it from a right one.
# versions and day: pylatexenc 2.10, Python 3.11; 2026-11-30.
# who meets it: whoever cleans papers for training, or compares answers to mathematics questions after such a conversion. Keep the
#        TeX between its dollar signs (math_mode="verbatim") and convert the prose alone.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q pylatexenc==2.10 2>pip.log || { cat pip.log; exit 1; }

cat > see.py <<'PY'
from pylatexenc.latex2text import LatexNodes2Text

text = LatexNodes2Text().latex_to_text
for one, other in ((r"$\frac{1}{2}x$", r"$\frac{1}{2x}$"), (r"$x^{n+1}$", r"$x^{n}+1$"),
                   (r"$\frac{a}{b}+c$", r"$\frac{a}{b+c}$")):
    print(f"{one:16} -> {text(one):8} {other:16} -> {text(other)}")
    assert text(one) == text(other), "they are told apart now"
print(r"$\binom{n}{k}$   ->", text(r"$\binom{n}{k}$"), r"  $\sqrt{a+b}$ ->", text(r"$\sqrt{a+b}$"))
assert text(r"$\binom{n}{k}$") == "nk" and text(r"$\sqrt{a+b}$") == "√(a+b)"
kept = LatexNodes2Text(math_mode="verbatim").latex_to_text(r"half: $\frac{1}{2}x$")
print('math_mode="verbatim":', kept)
assert kept == r"half: $\frac{1}{2}x$"
PY
venv/bin/python -W ignore see.py
echo "as written on top"
