"""artifacts.py: whole files, clear errors, honest skipping."""

import json
import subprocess
import sys

import pytest

import artifacts


def test_a_failed_write_leaves_the_old_file_and_no_stray(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError):
        with artifacts.whole(path) as file:
            file.write("half of the new")
            raise RuntimeError("disk full")
    assert path.read_text(encoding="utf-8") == "old", "a failed write must leave the old file"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"], "no partial file may stay behind"


def test_the_new_file_is_invisible_until_complete(tmp_path):
    path = tmp_path / "a.txt"
    with artifacts.whole(path) as file:
        file.write("x" * 100_000)
        assert not path.exists(), "the name must appear only when the file is complete"
    assert path.stat().st_size == 100_000


def test_missing_input_names_the_command(tmp_path):
    with pytest.raises(artifacts.BadInput, match="run python 01_tokenizer/train_tokenizer.py"):
        artifacts.need(tmp_path / "tokenizer.json", "01_tokenizer/train_tokenizer.py")


def test_damaged_json_names_file_and_line(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": 1,\n oops}', encoding="utf-8")
    with pytest.raises(artifacts.BadInput, match=r"x\.json.*line 2"):
        artifacts.read_json(path, "any.py")


def test_current_until_input_settings_or_target_change(tmp_path):
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("1", encoding="utf-8")
    target.write_text("made", encoding="utf-8")
    assert not artifacts.is_current(target, [source], {"size": 1}), "never made: not current"
    artifacts.mark_made(target, [source], {"size": 1})
    assert artifacts.is_current(target, [source], {"size": 1})
    assert not artifacts.is_current(target, [source], {"size": 2}), "settings changed"
    assert artifacts.is_current(target, [source], {"size": 1, "fresh": True}), "--fresh is no setting"
    source.write_text("1", encoding="utf-8")
    assert artifacts.is_current(target, [source], {"size": 1}), "the same bytes, written again"
    source.write_text("changed", encoding="utf-8")
    assert not artifacts.is_current(target, [source], {"size": 1}), "input changed"
    artifacts.mark_made(target, [source], {"size": 1})
    target.unlink()
    assert not artifacts.is_current(target, [source], {"size": 1}), "target deleted"


def test_a_verdict_is_one_of_four(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "OUT", tmp_path)
    with pytest.raises(ValueError, match="verdict"):
        artifacts.record_claim("bf16", measured="m", value=1, expected="e", verdict="true",
                               command="c")
    path = artifacts.record_claim("bf16", measured="m", value=1.5, expected="e", verdict="holds",
                                  command="c")
    assert json.loads(path.read_text(encoding="utf-8"))["value"] == 1.5


@pytest.mark.parametrize("body, line, code", [
    ("raise artifacts.BadInput('no such page')", "error: no such page", 1),
    ("open('/nonexistent/x')", "error: /nonexistent/x: No such file or directory", 1),
    ("raise KeyboardInterrupt", "stopped", 130),
])
def test_command_says_one_clear_line(body, line, code):
    done = subprocess.run([sys.executable, "-c",
                           f"import artifacts\ndef main():\n    {body}\nartifacts.command(main)"],
                          capture_output=True, text=True, cwd=artifacts.ROOT)
    assert done.returncode == code, done.stderr
    assert line in done.stderr and "Traceback" not in done.stderr, done.stderr
