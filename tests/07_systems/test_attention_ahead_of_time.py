"""The kernels compiled for a Hopper GPU that is not there: tensor cores, no spills, it fits."""

import importlib.metadata
import sys
from pathlib import Path

import pytest

import ahead_of_time


@pytest.mark.skipif(sys.platform != "linux", reason="Triton has wheels for Linux only")
@pytest.mark.parametrize("heads, causal", [(ahead_of_time.HEADS, True), ((128,), False)])
def test_shipped_tiles_use_the_tensor_cores_without_spilling_and_two_fit(heads, causal):
    rows = ahead_of_time.compile_all(heads, (causal,))
    assert len(rows) == 3 * len(heads), "three kernels at every head size"
    for row in rows:
        assert row["wgmma"] > 0, f"no tensor-core instruction: {row}"
        assert row["tma"] > 0, f"tiles are not moved by the TMA unit: {row}"
        assert row["stack"] == 0, f"registers are spilled to memory: {row}"
        assert row["shared"] <= ahead_of_time.SHARED_MEMORY, f"does not fit on a processor: {row}"
        assert row["programs"] >= 2, f"nothing computes while a softmax is waited for: {row}"
    if causal and importlib.metadata.version("triton").startswith("3.9"):
        page = Path(ahead_of_time.__file__).with_name("MEASURED.md").read_text(encoding="utf-8")
        by = {(r["kernel"], r["head"]): r for r in rows}
        for which in ("forward", "dq", "dkdv"):
            used = " / ".join(str(by[which, head]["registers"]) for head in (64, 128))
            assert f"| {used} | 0 |" in page, f"MEASURED.md does not say {used} for {which}"


def test_how_many_programs_fit_by_hand():
    # 128 registers x 256 threads are half of 65,536; 96 KB + 1 KB twice are below 228 KB.
    assert ahead_of_time.programs(128, 96 * 1024, 8) == 2
    assert ahead_of_time.programs(129, 96 * 1024, 8) == 1, "registers are given out in eights"
    assert ahead_of_time.programs(128, 114 * 1024, 8) == 1, "a kilobyte each for the system"
    assert ahead_of_time.programs(32, 1024, 16) == 4, "64 warps at most"
