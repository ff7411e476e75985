"""The numbers of the lesson, computed again; its first command, run again."""

import subprocess
import sys
from pathlib import Path

import pytest

import flops
from data_limited import effective_tokens
from inference_aware import PUBLISHED, cheapest, demand_for_ratio
from power_laws import ParametricFit, optimal_allocation, predict

ROOT = Path(__file__).resolve().parent.parent.parent
LESSON = (ROOT / "03_scaling" / "README.md").read_text(encoding="utf-8")


def test_run_this_now_prints_what_the_lesson_shows(tmp_path):
    command = "plan.py --gpus 10000 --days 30 --gpu h100 --mfu 0.4"
    run = subprocess.run([sys.executable, *f"{ROOT}/03_scaling/{command}".split(), "--out",
                          str(tmp_path)], capture_output=True, text=True, timeout=120,
                         env={"PATH": "", "BUILD_LLM_OUT": str(tmp_path), "OMP_NUM_THREADS": "1",
                              "PYTHONPATH": ":".join(sys.path)})
    assert run.returncode == 0, run.stderr[-500:]
    for line in run.stdout.strip().splitlines():
        assert f"    {line}\n" in LESSON, f"the lesson shows another line than {line!r}"


def test_by_hand():
    assert 2 * 49_152 + 64 * 128 == 106_496 and 6 * 106_496 == 638_976
    equal, larger = (ParametricFit(1.0, A, 10.0, 0.5, 0.5) for A in (10.0, 40.0))
    assert optimal_allocation(equal, 6e12) == pytest.approx((1e6, 1e6))
    assert float(predict(equal, 1e6, 1e6)) == pytest.approx(1.02)
    assert optimal_allocation(larger, 6e12) == pytest.approx((4e6, 2.5e5))
    assert effective_tokens([4e9, 100e9], 1e9) == pytest.approx([3.73e9, 16.37e9], rel=2e-3)


def test_folded_answers():
    assert flops.kaplan_exponent(1e12, 1e20) == pytest.approx(0.76, abs=0.005)
    loss = float(predict(PUBLISHED, *optimal_allocation(PUBLISHED, 5.76e23)))
    demand = demand_for_ratio(PUBLISHED, loss, 150)
    (N0, D0), (N, D) = (cheapest(PUBLISHED, loss, d) for d in (0.0, demand))
    assert demand == pytest.approx(1.6e13, rel=0.05) and round(demand / D0) == 12
    assert 1 - (6 * N * D + 2 * N * demand) / (6 * N0 * D0 + 2 * N0 * demand) == \
        pytest.approx(0.36, abs=0.005)
    N, D = cheapest(PUBLISHED, loss, 10 * D0)
    saved = 1 - (6 * N * D + 2 * N * 10 * D0) / (6 * N0 * D0 + 2 * N0 * 10 * D0)
    assert saved == pytest.approx(0.34, abs=0.005)
