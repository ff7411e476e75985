"""The kernels compiled for a Hopper GPU that is not there: tensor cores, no spills, it fits."""

import sys

import pytest

import ahead_of_time


@pytest.mark.skipif(sys.platform != "linux", reason="Triton has wheels for Linux only")
def test_shipped_tiles_use_tensor_cores_without_spilling_and_fit():
    rows = ahead_of_time.compile_all((64, 128))
    assert len(rows) == 6, "three kernels at two head sizes"
    for row in rows:
        assert row["wgmma"] > 0, f"no tensor-core instruction: {row}"
        assert row["stack"] == 0, f"registers are spilled to memory: {row}"
        assert row["shared"] <= ahead_of_time.SHARED_MEMORY, f"does not fit on a processor: {row}"
