#!/usr/bin/env bash
# guess: ROUGE of a text against itself is 1, in any language.
# seen:  rouge-score, on which most evaluation suites build theirs, keeps a-z and 0-9 and takes all else for blanks. Two equal
#        Russian, Japanese or Greek summaries score 0; two different ones score 1 if they share their only number. German is
#        scored on fragments: "Größe" is "gr" and "e". No warning; the average over a multilingual test just comes out lower.
# versions and day: rouge-score 0.1.2, Python 3.11; 2026-11-30.
# who meets it: whoever reports ROUGE beyond English, or filters translated summaries by it. Pass RougeScorer(tokenizer=...) one
#        that knows the script; characters will do for Chinese and Japanese.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q rouge-score==0.1.2 2>pip.log || { cat pip.log; exit 1; }

cat > see.py <<'PY'
from rouge_score import rouge_scorer, tokenize


class Characters:
    def tokenize(self, text):
        return [one for one in text if not one.isspace()]


plain = rouge_scorer.RougeScorer(["rougeL"])
by_character = rouge_scorer.RougeScorer(["rougeL"], tokenizer=Characters())
score = lambda scorer, one, other: scorer.score(one, other)["rougeL"].fmeasure
for text in ("Москва столица России", "東京は日本の首都です", "η Αθήνα είναι πρωτεύουσα"):
    print(f"{text} against itself: {score(plain, text, text):.0f}, by characters "
          f"{score(by_character, text, text):.0f}")
    assert score(plain, text, text) == 0 and score(by_character, text, text) == 1
one, other = "В 1812 году началась война", "Родился в 1812 году в деревне"
print(f"{one} | {other}: {score(plain, one, other):.0f}")
assert score(plain, one, other) == 1
print("Größe ->", tokenize.tokenize("Größe", None))
assert tokenize.tokenize("Größe", None) == ["gr", "e"]
PY
venv/bin/python see.py
echo "as written on top"
