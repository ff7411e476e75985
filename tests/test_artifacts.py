"""artifacts.py: whole files, clear errors, honest skipping."""

import json
import os
import subprocess
import sys
import threading

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


def test_what_is_not_finite_is_written_as_null(tmp_path):
    value = {"low": float("nan"), "all": [1.5, (float("inf"), "nan")], "-inf": -float("inf")}
    text = artifacts.write_json(tmp_path / "x.json", value).read_text()
    read = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert read == {"low": None, "all": [1.5, [None, "nan"]], "-inf": None}


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A command of a house of its own, whose module `late` is imported inside its function."""
    chapter = tmp_path / "01_x"
    chapter.mkdir()
    (chapter / "make.py").write_text("def main():\n    from late import f\n", encoding="utf-8")
    (chapter / "late.py").write_text("import json\nimport later\n", encoding="utf-8")
    (chapter / "later.py").write_text("x = 1\n", encoding="utf-8")
    monkeypatch.setattr(artifacts, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(chapter), *sys.path])
    return chapter / "make.py"


def test_the_code_behind_a_command_includes_what_is_imported_late(program):
    assert [p.name for p in artifacts.code_behind(program)] == ["late.py", "later.py", "make.py"]


def test_current_until_input_settings_code_or_an_output_change(program, tmp_path):
    source, target, figure = (tmp_path / n for n in ("in.txt", "out.txt", "out.png"))
    for path in (source, target, figure):
        path.write_text("1", encoding="utf-8")

    def job(size=1, **more):
        return artifacts.Job(program, {"size": size} | more, [source], [target, figure])
    assert not job().is_current(), "never made: not current"
    job(fresh=True).done()
    assert job().is_current(), "made with --fresh, and up to date the next time (not the third)"
    assert job(workers=7).is_current(), "how many processes work is no setting of the result"
    assert not job(size=2).is_current(), "settings changed"
    assert not job(fresh=True).up_to_date(), "--fresh asks for work"
    job().done()
    source.write_text("1", encoding="utf-8")
    assert job().is_current(), "the same bytes, written again"
    source.write_text("changed", encoding="utf-8")
    assert not job().is_current(), "input changed"
    job().done()
    for path in (target, figure):
        path.unlink()
        assert not job().is_current(), f"{path.name} deleted: every output counts"
        path.write_text("1", encoding="utf-8")
    (program.parent / "later.py").write_text("x = 2\n", encoding="utf-8")
    assert not job().is_current(), "the code of a module that a late import brings changed"


def test_claims_and_files_named_after_the_work_are_outputs_too(program, tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "OUT", tmp_path)
    target, table = tmp_path / "out.txt", tmp_path / "subject.csv"
    old = dict(measured="", value=1, expected="", verdict="holds")
    artifacts.record_claim("others", command="python 01_x/other.py", **old)

    def made():
        job = artifacts.Job(program, {}, [], [target])
        current = job.is_current()
        if not current:
            for path in (target, table):
                path.write_text("made", encoding="utf-8")
            artifacts.record_claim("ours", command="python 01_x/make.py --quick", **old)
            job.done([table])
        return current
    assert not made() and made()
    for lost in (artifacts.out("claims", "ours.json"), table):
        lost.unlink()
        assert not made(), f"{lost.name} deleted: it is an output too"
        assert made() and lost.exists()
    artifacts.out("claims", "others.json").unlink()
    assert made(), "the claim of another command is none of its outputs"


def test_fresh_work_that_was_stopped_is_not_up_to_date(program, tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("made", encoding="utf-8")
    artifacts.Job(program, {}, [], [target]).done()
    assert not artifacts.Job(program, {"fresh": True}, [], [target]).up_to_date()
    # ... stopped here: the old result still lies there, and is not what was asked for
    assert not artifacts.Job(program, {}, [], [target]).up_to_date(), "the stopped work is forgotten"
    assert target.read_text(encoding="utf-8") == "made", "nothing made is lost"


def test_an_input_that_changes_during_the_work_makes_the_result_old(program, tmp_path):
    source, target = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("read", encoding="utf-8")
    target.write_text("made", encoding="utf-8")
    job = artifacts.Job(program, {}, [source], [target])
    source.write_text("written while the work went on", encoding="utf-8")
    job.done()
    assert not artifacts.Job(program, {}, [source], [target]).is_current()


def test_what_another_setting_replaces_is_said_first(program, tmp_path, capsys):
    target = tmp_path / "out.txt"
    artifacts.Job(program, {"learning_rate": 1}, [], [target]).done()
    target.write_text("made", encoding="utf-8")
    assert not artifacts.Job(program, {"learning_rate": 2}, [], [target]).up_to_date()
    assert "made again: --learning-rate was 1, is 2" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_said_before_the_work(program, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    with pytest.raises(OSError):
        artifacts.Job(program, {}, [], [blocked / "out.txt"]).up_to_date()


def test_two_writers_of_one_name_leave_one_whole_file(tmp_path):
    path = tmp_path / "a.txt"
    with artifacts.whole(path) as first:
        first.write("first " * 20_000)
        second = threading.Thread(target=artifacts.write_json, args=(path, ["second"]))
        second.start()
        second.join()
    assert path.read_text(encoding="utf-8") == "first " * 20_000, "the later one's file, whole"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_stray_of_a_killed_writer_goes_with_a_later_write(tmp_path):
    path = tmp_path / "a[1].txt"
    stray, busy = tmp_path / "a[1].txt.1-1.partial", tmp_path / "a[1].txt.2-2.partial"
    for file in (stray, busy):
        file.write_text("half", encoding="utf-8")
    os.utime(stray, (1, 1))
    artifacts.write_json(path, 1)
    assert not stray.exists() and busy.exists(), "a writer that is alive keeps its file"


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
    ("raise NotImplementedError('exercise 1.1: Doubling')", ":3: not started, exercise 1.1", 1),
])
def test_command_says_one_clear_line(body, line, code):
    done = subprocess.run([sys.executable, "-c",
                           f"import artifacts\ndef main():\n    {body}\nartifacts.command(main)"],
                          capture_output=True, text=True, cwd=artifacts.ROOT)
    assert done.returncode == code, done.stderr
    assert line in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("text, kind, limits, says", [
    ("0", int, dict(low=1), "must be at least 1"), ("nan", float, dict(high=1), "must be at most 1"),
    ("1", float, dict(above=0, below=1), "must be above 0 and below 1"),
    ("1.5", int, dict(low=1), "is not a whole number"), ("inf", float, {}, "must be finite")])
def test_an_option_out_of_range_is_one_line_that_names_it(text, kind, limits, says, capsys):
    line = artifacts.CommandLine("Does it.\n\nReads x; writes y.")
    line.add_argument("--rate", type=artifacts.within(kind, **limits))
    with pytest.raises(SystemExit) as stop:
        line.parse_args(["--rate", text])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "--rate" in said and says in said and said.count("\n") == 1, said


def test_help_prints_the_whole_docstring_and_every_default(capsys):
    line = artifacts.CommandLine("Does it.\n\nReads x; writes y.")
    line.add_argument("--seed", type=int, default=0)
    line.add_argument("--rate", type=float, default=0.1, help="100 % of it")
    text = line.format_help()
    assert "Reads x; writes y." in text and "of every random draw (default: 0)" in text, text


@pytest.mark.parametrize("options", ["--rate nan", "--rate inf", "--seed -1", "--many 1 nan"])
def test_numbers_that_mean_nothing_anywhere_are_one_line_that_names_the_option(options, capsys):
    parser = artifacts.CommandLine("A command.")
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--many", type=float, nargs="+")
    assert parser.parse_args([]).seed is None and parser.parse_args(["--seed", "0"]).seed == 0
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(options.split())
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and options.split()[0] in told and told.count("\n") == 1, told


@pytest.mark.parametrize("script, options", [
    ("07_systems/memory.py", "--parameters inf"), ("07_systems/memory.py", "--activations-gb -5"),
    ("07_systems/equality.py", "--ranks 0"), ("07_systems/ahead_of_time.py", "--heads 0"),
    ("07_systems/train_distributed.py", "--checkpoint-every 0"),
    ("04_model_pretrain/pretrain.py", "--learning-rate -1"), ("06_eval/serve.py", "--port 99999"),
    ("04_model_pretrain/real_model_benchmark.py", "--rounds 0"),
    ("03_scaling/power_laws.py", "--drop-worst -1"), ("06_eval/evaluate.py", "--shots -1")])
def test_options_out_of_range_are_refused_before_any_work(script, options, monkeypatch, capsys):
    import importlib
    monkeypatch.setattr(sys, "argv", [script, *options.split()])
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(script.split("/")[1].removesuffix(".py")).main()
    told = capsys.readouterr().err
    assert stopped.value.code == 2 and options.split()[0] in told and told.count("\n") == 1, told
