"""The GPU benchmark without a GPU: every line runs, and its verdicts are computed."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gpu_benchmark
import gpu_tables
import systems_figures
import training_speed

torch.set_num_threads(1)
pytest.importorskip("triton", reason="Triton has wheels for Linux only")


@pytest.mark.parametrize("name", gpu_benchmark.TABLES)
def test_every_table_runs_dry_on_a_cpu(name):
    torch.manual_seed(0)
    result = gpu_benchmark.TABLES[name]("cpu", True)
    if name == "check":
        assert result["right"], result
    if name == "seven_b":
        assert result["bytes_per_parameter"] == 16
    if name == "attention":
        assert all(row["ours"]["forward_tflops"] > 0 for row in result["rows"])
    if name == "lengths":
        assert result["rows"][0]["ratio"] > 0
    if name == "training":
        assert [row["rung"] for row in result["rows"]] == [r[0] for r in training_speed.RUNGS]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured_and_the_answer_is_one_line(tmp_path):
    done = subprocess.run([sys.executable, gpu_benchmark.__file__, "--out", str(tmp_path)],
                          capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: no GPU"), done.stderr
    assert not list(tmp_path.iterdir())


def test_an_empty_table_says_so_and_the_page_shows_what_was_measured():
    assert all("not measured" in line for line in gpu_tables.lines({})[2:])
    page = (Path(gpu_benchmark.__file__).parents[1] / "07_systems" / "MEASURED.md").read_text(
        encoding="utf-8")
    for line in gpu_tables.lines({n: gpu_benchmark.recorded(n) for n in gpu_benchmark.TABLES}):
        assert line in page, f"MEASURED.md does not show: {line}"


def attention(speed, rival):
    way = {"forward_tflops": speed, "backward_tflops": speed, "forward": {}, "backward": {},
           "both": {"ms": 5.1}}
    other = {**way, "forward_tflops": rival, "backward_tflops": rival}
    return {"machine": {"gpu": "made up"}, "rows": [
        {"batch": 1, "head": head, "length": length, "ours": way, "FlashAttention-2": other,
         "cuDNN": {"error": "none here"}} for head, length in ((128, 8192), (64, 16384))]}


def test_verdicts_follow_from_the_numbers(tmp_path):
    cell = gpu_tables.attention_cell({"attention": attention(350.0, 300.0)}, 128, 8192, "backward")
    assert cell == ("350 TFLOP/s, 1.17 x FlashAttention-2, nan x cuDNN", True)
    for speed, rival in ((339.0, 300.0), (350.0, 330.0)):
        assert not gpu_tables.attention_cell({"attention": attention(speed, rival)}, 128, 8192,
                                             "backward")[1], "the floor is both numbers"
    assert not gpu_tables.attention_cell({"attention": attention(600.0, 300.0)}, 128, 8192,
                                         "forward")[1], "without cuDNN the ratio is unknown"
    assert gpu_tables.class_shape({"attention": attention(1.0, 1.0)}) == ("5.10 ms", False)
    rows = {"way": "torch", "peak_bytes": 100, "ms": 1.0}, {"way": "ours, chunked",
                                                            "peak_bytes": 39, "ms": 1.04}
    assert gpu_tables.loss_memory({"loss": {"rows": rows}})[1]
    assert gpu_tables.seven_b({"seven_b": {"bytes_per_parameter": 16.2, "peak_bytes": 0}})[1] \
        is False
    systems_figures.attention_figure({"rows": [{"T": 8, "naive_bytes": 4, "tiled_bytes": 2}],
                                      "gpu": attention(350.0, 300.0)}, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000
