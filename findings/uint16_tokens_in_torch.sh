#!/usr/bin/env bash
# guess: torch has had uint16 since 2.3, so the token files of this field (uint16, one number a token) can be used as they lie:
#        torch.from_numpy(numpy.memmap(..., dtype=uint16)).
# seen:  the tensor is made, is compared with ==, sliced, joined, summed, sorted, made unique. But <, + 1, max and bincount raise
#        NotImplementedError on the CPU, and neither an index (embedding, x[ids]) nor a target of cross_entropy may be uint16.
#        So "ids.max() < vocabulary", the natural check of a shard, is the line that fails; == for the end token, two lines
#        earlier, works.
# versions and day: torch 2.13.0 (CPU), numpy 2.4, Python 3.11; 2026-11-30.
# who meets it: whoever writes a loader of token shards. Check and count in numpy, and turn each batch into int64 at the border.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu 2>pip.log ||
  venv/bin/pip install -q torch==2.13.0 2>pip.log || { cat pip.log; exit 1; }
venv/bin/pip install -q 'numpy==2.4.*' 2>pip.log || { cat pip.log; exit 1; }

cat > see.py <<'PY'
import numpy
import torch
import torch.nn.functional as F

numpy.arange(6, dtype=numpy.uint16).tofile("shard.bin")
WORKS = {
    "ids == 3": lambda ids: ids == 3, "ids[1:4]": lambda ids: ids[1:4], "sum": torch.sum,
    "cat": lambda ids: torch.cat([ids, ids]), "sort": torch.sort, "unique": torch.unique,
}
RAISES = {
    "ids < 50257": lambda ids: ids < 50257, "ids + 1": lambda ids: ids + 1, "max": torch.max,
    "bincount": torch.bincount, "embedding": lambda ids: F.embedding(ids, torch.eye(6)),
    "table[ids]": lambda ids: torch.eye(6)[ids],
    "cross_entropy": lambda ids: F.cross_entropy(torch.eye(6), ids),
}
for kind, dtype in (("uint16", numpy.uint16), ("int64", numpy.int64)):
    ids = torch.from_numpy(numpy.fromfile("shard.bin", numpy.uint16).astype(dtype))
    done, failed = [], []
    for name, operation in (WORKS | RAISES).items():
        try:
            operation(ids)
            done.append(name)
        except (RuntimeError, IndexError) as error:         # NotImplementedError is one of them
            failed.append(f"{name} ({type(error).__name__})")
    print(f"{kind}: works: {', '.join(done)}\n        raises: {', '.join(failed) or 'nothing'}")
    assert len(failed) == (len(RAISES) if kind == "uint16" else 0), "this has changed"
PY
venv/bin/python -W ignore see.py
echo "as written on top"
