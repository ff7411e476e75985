#!/usr/bin/env bash
# guess: an added token of a tokenizer.json has the id that stands beside it in the file.
# seen:  Hugging Face tokenizers does not read that number. A token that is not in the model's vocabulary gets the next free
#        id: the file says 900 and the library gives 3. The library that the same people publish on npm gives 900.
#        Neither says a word.
# versions and day: tokenizers 0.23.3 (PyPI), @huggingface/tokenizers 0.1.3 (npm), Node 20; 2026-11-30.
# who meets it: whoever writes a tokenizer.json with a gap before the special tokens (reserved places, a vocabulary padded
#        to a round number), or takes tokens out of one: training in Python and serving in the browser then disagree.
#        Write special tokens into the model's vocabulary too; then both agree.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q --no-deps tokenizers==0.23.3 2>pip.log || { cat pip.log; exit 1; }
npm install --silent --no-audit --no-fund --prefix . @huggingface/tokenizers@0.1.3 >/dev/null

cat > py.py <<'PY'
import json
from tokenizers import Tokenizer

content = {
    "version": "1.0", "truncation": None, "padding": None,
    "added_tokens": [{"id": 900, "content": "<|end|>", "single_word": False, "lstrip": False,
                      "rstrip": False, "normalized": False, "special": True}],
    "normalizer": None, "post_processor": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                      "use_regex": True},
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                "use_regex": True},
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
              "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
              "ignore_merges": False, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}}
json.dump(content, open("tokenizer.json", "w"))
print(" ".join(map(str, Tokenizer.from_file("tokenizer.json").encode("ab<|end|>").ids)))
PY
cat > js.mjs <<'JS'
import { readFileSync } from "fs";
import { Tokenizer } from "@huggingface/tokenizers";
const content = JSON.parse(readFileSync("tokenizer.json", "utf8"));
console.log(new Tokenizer(content, {}).encode("ab<|end|>").ids.join(" "));
JS
python_ids=$(venv/bin/python py.py 2>/dev/null)
npm_ids=$(node js.mjs)
echo "ab<|end|>, whose file says that <|end|> is 900:  PyPI $python_ids    npm $npm_ids"
[ "$python_ids" = "2 3" ] || { echo "CHANGED: the library of PyPI gives other ids now"; exit 1; }
[ "$npm_ids" = "2 900" ] || { echo "CHANGED: the library of npm gives other ids now"; exit 1; }
echo "as seen on 2026-11-30: one file, one company, two ids"
