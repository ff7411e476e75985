#!/usr/bin/env bash
# guess: a tokenizer.json says how text is split, as a regular expression; a program that loads the file without an error
#        splits by that expression.
# seen:  tokie 0.1.4 loads a file whose Split holds GPT-2's expression and gives other ids, without a word: digits come
#        apart as GPT-4's expression would have them. Hugging Face's tokenizers, which wrote the file, splits as it says.
# versions and day: tokenizers 0.23.3, tokie 0.1.4, Python 3.11; 2026-11-30.
# who meets it: whoever trains with one program and serves with another. Compare ids on text with long numbers and blanks
#        before trusting a loader; GPT-2's split written as a bare ByteLevel with use_regex is read alike by both.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --no-deps tokenizers==0.23.3 tokie==0.1.4 2>pip.log || { cat pip.log; exit 1; }

cat > see.py <<'PY'
import sys

import tokie
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
BYTES = pre_tokenizers.ByteLevel.alphabet()
TEXT = ["def f(x):\n    return 1234567 + x\n\nWe'll see 2026 and 31415926.\n"] * 50


def trained(pre):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=BYTES, show_progress=False))
    return tokenizer


written_out = pre_tokenizers.Sequence([
    pre_tokenizers.Split(Regex(GPT2), "isolated"),
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
bare = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
equal = {}
for name, pre in (("Split with GPT-2's expression", written_out), ("bare ByteLevel", bare)):
    ours = trained(pre)
    ours.save("tokenizer.json")
    ids = tokie.Tokenizer.from_json("tokenizer.json").encode("x = 31415926")
    ids = list(getattr(ids, "ids", ids))
    equal[name] = ours.encode("x = 31415926").ids == ids
    print(f"{name:30} tokenizers {ours.encode('x = 31415926').ids}   tokie {ids}")
if list(equal.values()) != [False, True]:
    sys.exit(f"changed since 2026-11-30: equal ids {equal}")
print("as seen on 2026-11-30: tokie splits by another expression than the file's, and says nothing")
PY
venv/bin/python see.py
