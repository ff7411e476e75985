#!/usr/bin/env bash
# guess: float8_e4m3fn is one format (OCP's FP8, largest number 448), so a number too large for it becomes the same in torch and
#        in ml_dtypes, whose types JAX and many readers of weights use. In both its sibling e5m2 has infinity, e4m3fn has not.
# seen:  torch 2.13 saturates: 1e6 and even infinity become 448, so an activation that has blown up looks like a large one.
#        ml_dtypes gives NaN from 465 on. For e5m2 the two agree: infinity.
# versions and day: torch 2.13.0 (CPU), ml_dtypes 0.5.4, numpy 2.4, Python 3.11; 2026-11-30.
# who meets it: whoever quantises in one framework and checks in the other, or looks for NaN to find a diverged run trained in
#        fp8. Scale so that nothing exceeds 448, and look for infinity before the cast.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu 2>pip.log ||
  venv/bin/pip install -q torch==2.13.0 2>pip.log || { cat pip.log; exit 1; }
venv/bin/pip install -q ml_dtypes==0.5.4 'numpy==2.4.*' 2>pip.log || { cat pip.log; exit 1; }

cat > see.py <<'PY'
import ml_dtypes
import numpy
import torch

numbers = [440.0, 464.0, 465.0, 1e6, float("inf")]
seen = {}
for name in ("float8_e4m3fn", "float8_e5m2"):
    seen[name] = (torch.tensor(numbers).to(getattr(torch, name)).float().tolist(),
                  numpy.array(numbers, "f").astype(getattr(ml_dtypes, name)).astype("f").tolist())
    print(f"{name}: from {numbers}\n  torch     {seen[name][0]}\n  ml_dtypes {seen[name][1]}")
by_torch, by_numpy = seen["float8_e4m3fn"]
assert by_torch == [448.0] * 5, "torch does something else now"
assert by_numpy[:2] == [448.0] * 2 and all(x != x for x in by_numpy[2:]), "ml_dtypes does now"
assert seen["float8_e5m2"][0] == seen["float8_e5m2"][1]
PY
venv/bin/python -W ignore see.py
echo "as written on top"
