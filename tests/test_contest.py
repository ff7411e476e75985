"""The contest refuses what would win without predicting."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from learning.contest import LARGEST, held_out, run_entry  # noqa: E402
from learning.contest_judge import unsound  # noqa: E402


def test_a_prediction_that_looks_ahead_is_unsound():
    def honest(ids):
        return torch.full((len(ids), 9), -np.log(9.0))

    def peeks(ids):
        following = torch.tensor(ids[1:] + ids[:1])
        return torch.eye(9)[following].mul(9).log_softmax(-1)
    assert unsound(honest, 9) == "" and "come after it" in unsound(peeks, 9)


@pytest.mark.parametrize("text, said", [("x = 1\n" + "#" * LARGEST, "bytes of code"),
                                        ("import subprocess", "not for graded code")])
def test_large_files_and_foreign_tools_are_refused(tmp_path, text, said):
    (tmp_path / "entry.py").write_text(text)
    assert said in run_entry(tmp_path / "entry.py", 1.0, tmp_path)["refused"]


def test_held_out_documents_become_windows_that_begin_with_the_end_token(tmp_path):
    np.arange(10, dtype=np.uint16).tofile(tmp_path / "val.bin")
    index = {"eot": 99, "dtype": "uint16", "vocab_size": 100, "splits": {"val": {"documents": {
        "start": [0, 4], "length": [4, 6], "bytes": [12, 20]}}}}
    got = held_out(json.loads(json.dumps(index)), tmp_path / "val.bin")
    assert got["windows"] == [[99, 0, 1, 2, 3], [99, 4, 5, 6, 7, 8, 9]] and got["bytes"] == 32
