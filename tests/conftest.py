"""One thread, the chapters on the path, and whose code is tested. Imports nothing heavy."""

import os
import shutil
import sys
from pathlib import Path

# Two torch threads on a busy machine are slower than one (measured 2.5 to 3.5 times).
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")
if not shutil.which("nvidia-smi"):
    os.environ.setdefault("TRITON_INTERPRET", "1")

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted(p for p in ROOT.glob("0[1-7]_*") if p.is_dir())
sys.path[:0] = [str(ROOT), *map(str, CHAPTERS)]
