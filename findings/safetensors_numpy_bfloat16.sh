#!/usr/bin/env bash
# guess: what safetensors.numpy.save_file has written, safetensors.numpy.load_file reads, with ml_dtypes installed as it was.
# seen:  bfloat16 arrays are saved, and read in the same process. In the next one load_file raises TypeError ("data type
#        'bfloat16' not understood") until something has imported ml_dtypes: the name is looked up in numpy's own list, into
#        which ml_dtypes writes itself at its import. A reader therefore works or fails with the other imports of the
#        program. fp8 cannot be read by the numpy side at all (AttributeError), though torch's side writes and reads it.
# versions and day: safetensors 0.8.0, ml_dtypes 0.5.4, numpy 2.4, torch 2.13.0 (CPU), Python 3.11; 2026-11-30.
# who meets it: whoever reads weights without torch, as most weights are bfloat16. `import ml_dtypes` beside the reader, or
#        read the bytes and shift them into fp32, which needs neither.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m venv venv
venv/bin/pip install -q safetensors==0.8.0 ml_dtypes==0.5.4 'numpy==2.4.*' 2>pip.log || { cat pip.log; exit 1; }

cat > write.py <<'PY'
import ml_dtypes
import numpy
from safetensors.numpy import load_file, save_file

save_file({"w": numpy.ones(3, ml_dtypes.bfloat16)}, "w.safetensors")
print("the process that wrote it reads", load_file("w.safetensors")["w"].dtype)
PY
cat > read.py <<'PY'
import sys

if "with" in sys.argv:
    import ml_dtypes
from safetensors.numpy import load_file

print(load_file("w.safetensors")["w"].dtype)
PY
venv/bin/python write.py
if venv/bin/python read.py > out 2>&1; then echo "a new process reads it now:"; cat out; exit 1; fi
echo "a new process, ml_dtypes installed: $(tail -1 out)"
grep -q "TypeError: data type 'bfloat16' not understood" out
echo "the same with 'import ml_dtypes' on top: $(venv/bin/python read.py with)"
echo "as written on top"
