#!/usr/bin/env bash
# guess: tl.dot of two fp32 blocks is an fp32 product: torch.set_float32_matmul_precision says "highest" by default, and the
#        interpreter's result agrees with torch to the last digits.
# seen:  compiled for Hopper the same line is a tf32 product (wgmma ... f32.tf32.tf32): the inputs keep 10 bits of their 23.
#        torch's setting is not asked. The interpreter multiplies in fp32, so a test there cannot see it. Written with
#        input_precision="ieee" no tensor core is used at all: fma.rn.f32.
# versions and day: triton 3.9.0, torch 2.13.0 (CPU), Python 3.11; compiled ahead of time, no GPU needed; 2026-11-30.
# who meets it: whoever compares a kernel's fp32 gradients with torch's on a GPU and finds errors near 1e-3 that were 1e-6 in
#        the interpreter. Say input_precision= in every tl.dot, and write down which one a tolerance belongs to.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu 2>pip.log ||
  venv/bin/pip install -q torch==2.13.0 2>pip.log || { cat pip.log; exit 1; }
venv/bin/pip install -q triton==3.9.0 'numpy==2.4.*' 2>pip.log || { cat pip.log; exit 1; }

cat > kernel.py <<'PY'
import triton
import triton.language as tl


@triton.jit
def product(a, b, c, n: tl.constexpr, precision: tl.constexpr):
    i = tl.arange(0, n)
    at = i[:, None] * n + i[None, :]
    tl.store(c + at, tl.dot(tl.load(a + at), tl.load(b + at), input_precision=precision))
PY
cat > interpreted.py <<'PY'
import torch
from kernel import product

torch.manual_seed(0)
a, b, c = torch.randn(64, 64), torch.randn(64, 64), torch.empty(64, 64)
product[(1,)](a, b, c, 64, None)
exact = a.double() @ b.double()
cut = lambda x: (x.view(torch.int32) & ~0x1fff).view(torch.float32).double()       # 10 bits of 23
print(f"interpreter, default precision: error {(c - exact).abs().max():.1e}")
print(f"the same product of numbers cut to tf32: error {(cut(a) @ cut(b) - exact).abs().max():.1e}")
assert (c - exact).abs().max() < 1e-4 < (cut(a) @ cut(b) - exact).abs().max()
print("torch says:", torch.get_float32_matmul_precision())
assert torch.get_float32_matmul_precision() == "highest"
PY
cat > compiled.py <<'PY'
import re

import triton
from kernel import product
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

for precision, seen in ((None, "tf32.tf32"), ("ieee", "fma.rn.f32")):
    source = ASTSource(product, dict.fromkeys("abc", "*fp32") | dict.fromkeys(
        ("n", "precision"), "constexpr"), {"n": 64, "precision": precision})
    assembly = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
    used = sorted(set(re.findall(r"wgmma\.mma\S+|mma\.sync\S+|fma\.rn\.f32", assembly)))
    print(f"compiled for sm_90, input_precision={precision}:", *used)
    assert any(seen in one for one in used)
    assert precision is None or not any("mma" in one for one in used)
PY
TRITON_INTERPRET=1 venv/bin/python -W ignore interpreted.py
TRITON_CACHE_DIR=$work/cache venv/bin/python -W ignore compiled.py
echo "as written on top"
