#!/usr/bin/env bash
# guess: mwparserfromhell's strip_code() turns a Wikipedia page's source into the text that a reader sees, as its name in every
#        recipe for Wikipedia dumps suggests.
# seen:  templates go with all that they say. "{{convert|1280|m|ft}} long" leaves " long", "{{lang|fr|bonjour}}" leaves nothing: the
#        measures, foreign words and dates of an encyclopaedia, which stand in templates, are gone from grammatical sentences.
#        And what is no prose stays: the options of a picture ("thumb|left|"), and the words of a footnote run on in the text.
# versions and day: mwparserfromhell 0.7.2, Python 3.11; 2026-11-30.
# who meets it: whoever trains on Wikipedia. A model learns "The bridge is long." Expand the templates (or take the rendered HTML
#        dumps), drop sentences with a removed template, and remove file links and <ref> yourself.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q mwparserfromhell==0.7.2 2>pip.log || { cat pip.log; exit 1; }

cat > see.py <<'PY'
import mwparserfromhell

SEEN = {
    "The bridge is {{convert|1280|m|ft}} long.": "The bridge is  long.",
    "They say {{lang|fr|bonjour}} here.": "They say  here.",
    "[[File:Bridge.jpg|thumb|left|The bridge in 1950]] It is red.": "thumb|left|The bridge in 1950 It is red.",
    "It is red.<ref>Smith 1999, page 4</ref> It was grey.": "It is red.Smith 1999, page 4 It was grey.",
}
for source, expected in SEEN.items():
    text = mwparserfromhell.parse(source).strip_code()
    print(f"{source}\n    -> {text!r}")
    assert text == expected, "this has changed"
PY
venv/bin/python see.py
echo "as written on top"
