#!/usr/bin/env bash
# guess: a formula turned from LaTeX to MathML and back keeps its meaning. The two packages called mathml-to-latex, on PyPI
#        and on npm, do the same: <mfrac linethickness="0"> has no bar, so it is a binomial.
# seen:  the npm package keeps the binomial (\genfrac with a bar of 0pt). The one of PyPI drops linethickness and writes
#        \frac{n}{k}: "n over k" has become "n divided by k", the very string that a true fraction in brackets gives.
#        Nothing is said, and it is valid TeX all the same.
# versions and day: latex2mathml 3.81.1, mathml-to-latex 1.0.0 (PyPI) and 1.8.0 (npm), Node 20; 2026-11-30.
# who meets it: whoever makes mathematics for training out of web pages or EPUBs. Look for linethickness="0" before the
#        conversion, or take the TeX annotation where the page has one.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --no-deps latex2mathml==3.81.1 mathml-to-latex==1.0.0 2>pip.log || { cat pip.log; exit 1; }
npm install --silent --no-audit --no-fund --prefix . mathml-to-latex@1.8.0 >/dev/null

cat > back.py <<'PY'
from latex2mathml.converter import convert
from mathml_to_latex import MathMLToLaTeX

for name, tex in (("binomial", r"\binom{n}{k}"), ("fraction", r"\left(\frac{n}{k}\right)")):
    mathml = convert(tex)
    open(name + ".xml", "w").write(mathml)
    open(name + ".pypi", "w").write(MathMLToLaTeX().convert(mathml))
PY
cat > back.mjs <<'JS'
import { readFileSync, writeFileSync } from "fs";
import { MathMLToLaTeX } from "mathml-to-latex";
for (const name of ["binomial", "fraction"])
  writeFileSync(name + ".npm", MathMLToLaTeX.convert(readFileSync(name + ".xml", "utf8")));
JS
venv/bin/python back.py
node back.mjs

grep -q 'linethickness="0"' binomial.xml || { echo "the MathML no longer says linethickness=\"0\""; exit 1; }
for name in binomial fraction; do
    echo "$name: PyPI $(cat $name.pypi)    npm $(cat $name.npm)"
done
cmp -s binomial.pypi fraction.pypi || { echo "CHANGED: PyPI's tells the two apart now"; exit 1; }
if cmp -s binomial.npm fraction.npm; then echo "CHANGED: npm's no longer tells the two apart"; exit 1; fi
echo "as seen on 2026-11-30: PyPI's package writes a binomial as a fraction, npm's does not"
