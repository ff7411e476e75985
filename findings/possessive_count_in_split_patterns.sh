#!/usr/bin/env bash
# guess: a split pattern copied from tiktoken into a tokenizer.json cuts text into the same pieces.
# seen:  tiktoken 0.14 publishes cl100k with \p{N}{1,3}+, and means "one to three digits, give none back": 1234567 is 123,
#        456, 7. The engine behind Split in Hugging Face tokenizers takes the + for a repeat of the count: any number of
#        digits is one piece. No error, no warning, and texts without long numbers do not show it.
#        (?>\p{N}{1,3}) means the same to both.
# versions and day: tiktoken 0.14.0, tokenizers 0.23.3, regex 2026.11.19 (PyPI); 2026-11-30.
# who meets it: whoever writes a tokenizer.json for a rank file with the pattern that tiktoken prints (pat_str): every
#        number of more than three digits gets other ids.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --no-deps tiktoken==0.14.0 tokenizers==0.23.3 regex==2026.11.19 2>pip.log || { cat pip.log; exit 1; }

cat > look.py <<'PY'
import inspect

import regex
import tiktoken
import tiktoken_ext.openai_public as published
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

COUNT = r"\p{N}{1,3}+"
assert COUNT in inspect.getsource(published), "tiktoken writes this count"
# Every run of digits is a token here, so that a piece is a token and shows itself.
tokens = [bytes([b]) for b in range(256)] + [str(n).encode() for n in range(10, 8000)] + [b"1234567"]
encoding = tiktoken.Encoding("digits", pat_str=COUNT, special_tokens={},
                             mergeable_ranks={token: i for i, token in enumerate(tokens)})
rows = {"tiktoken": [encoding.decode([i]) for i in encoding.encode("1234567")],
        "regex": regex.findall(COUNT, "1234567")}
for pattern in (COUNT, r"(?>\p{N}{1,3})"):
    rows["Split " + pattern] = [piece for piece, _ in Split(
        Regex(pattern), "isolated").pre_tokenize_str("1234567")]
for name, pieces in rows.items():
    print(f"{name:24s} {' '.join(pieces)}")
assert [" ".join(pieces) for pieces in rows.values()] == ["123 456 7", "123 456 7", "1234567",
                                                          "123 456 7"]
PY
venv/bin/python look.py || { echo "this has changed"; exit 1; }
