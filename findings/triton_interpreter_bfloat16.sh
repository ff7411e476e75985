#!/usr/bin/env bash
# guess: TRITON_INTERPRET=1 runs a kernel in numpy, slower but with the same numbers, so a kernel that passes there is right.
# seen:  numpy has no bfloat16, and the interpreter keeps the 16 bits as integers. tl.sum adds the bit patterns: 256 + 1 + 1 + 1
#        comes out as 9.4e-38. A cast from fp32 cuts the bits off where the compiled kernel rounds to the nearest even
#        (cvt.rn.bf16.f32), and a cast of a subnormal number is eleven times too large. Nothing is said.
# versions and day: triton 3.9.0, torch 2.13.0 (CPU), numpy 2.4, Python 3.11; 2026-11-30. Reported upstream for tl.sum
#        (triton issue 11604) and tl.dot (11584) in September 2026.
# who meets it: whoever tests kernels on a machine without a GPU. Test them in fp32 (and fp64) there, cast to fp32 right after
#        the load, and try bf16 on the GPU alone.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu 2>pip.log ||
  venv/bin/pip install -q torch==2.13.0 2>pip.log || { cat pip.log; exit 1; }
venv/bin/pip install -q triton==3.9.0 'numpy==2.4.*' 2>pip.log || { cat pip.log; exit 1; }

cat > see.py <<'PY'
import torch
import triton
import triton.language as tl


@triton.jit
def total(x, out, n: tl.constexpr):
    tl.store(out, tl.sum(tl.load(x + tl.arange(0, n))).to(tl.float32))


@triton.jit
def cast(x, out, n: tl.constexpr):
    i = tl.arange(0, n)
    tl.store(out + i, tl.load(x + i).to(tl.bfloat16))


x, out = torch.tensor([256., 1., 1., 1.]).bfloat16(), torch.zeros(1)
total[(1,)](x, out, 4)
print(f"sum of 256, 1, 1, 1 in bfloat16: interpreter {out.item():g}, torch {x.sum().item():g}")
assert out.item() < 1e-30

x = torch.tensor([1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -12, 1e-40, 2.0])
out = torch.zeros(4, dtype=torch.bfloat16)
cast[(1,)](x, out, 4)
print("fp32 to bfloat16:", x.tolist(), "\n  interpreter", out.tolist(), "\n  torch      ", x.bfloat16().tolist())
assert out[1] == 1 and x.bfloat16()[1] == 1 + 2 ** -7, "the interpreter rounds now"
assert out[2].item() > 1e-39 > x.bfloat16()[2].item(), "subnormal numbers are right now"
PY
cat > compiled.py <<'PY'
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def cast(x, out, n: tl.constexpr):
    i = tl.arange(0, n)
    tl.store(out + i, tl.load(x + i).to(tl.bfloat16))


source = ASTSource(cast, {"x": "*fp32", "out": "*bf16", "n": "constexpr"}, {"n": 128})
assembly = triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]
print("compiled for sm_90:", "cvt.rn.bf16" if "cvt.rn.bf16" in assembly else "another conversion")
assert "cvt.rn.bf16" in assembly
PY
TRITON_INTERPRET=1 venv/bin/python -W ignore see.py
TRITON_CACHE_DIR=$work/cache venv/bin/python -W ignore compiled.py
echo "as written on top"
