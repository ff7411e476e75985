"""The commands, run as a reader runs them, on small text; and what they say when it is wrong."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import artifacts
import docstrings
import show_tokens
import train_tokenizer
from artifacts import BadInput
from bpe import Tokenizer
from bpe_shapes import bytes_per_token, number_shapes, shrunk
from docstrings import document, sample_documentation
from show_tokens import coloured, token_names

CHAPTER = Path(train_tokenizer.__file__).parent
TEXT = ("Returns the indices that would sort an array.\nReturns the sorted array.\n"
        "Perform an indirect sort along the given axis using the algorithm specified.\n") * 30


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Call train_tokenizer's main with these options, all output in a folder of the test."""
    monkeypatch.setattr(artifacts, "OUT", tmp_path / "out")
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")

    def call(*options):
        monkeypatch.setattr(sys, "argv", ["train_tokenizer.py", "--out",
                                          str(tmp_path / "t.json"), "--workers", "1", *options])
        train_tokenizer.main()
        return Tokenizer.load(tmp_path / "t.json")
    return call


def test_the_command_from_another_folder_writes_everything_and_then_skips(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    line = [sys.executable, str(CHAPTER / "train_tokenizer.py"), "--text", "text.txt",
            "--vocab-size", "320"]
    env = os.environ | {"BUILD_LLM_OUT": str(tmp_path / "out"), "PYTHONPATH": os.pathsep.join(
        [str(CHAPTER), str(CHAPTER.parent)])}
    first = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "out" / "01_tokenizer"
    for name in ("tokenizer.json", "tokens.png", "compression.png", "compression.json",
                 "shapes.json", "../claims/bpe-shapes.json"):
        assert (folder / name).exists(), name
    again = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert "up to date" in again.stdout
    shown = subprocess.run([sys.executable, str(CHAPTER / "show_tokens.py"), "sort é"], env=env,
                           capture_output=True, text=True, encoding="utf-8")
    assert shown.returncode == 0 and "bytes per token" in shown.stdout, shown.stderr


def test_same_text_same_bytes_and_a_corpus_is_read(run, tmp_path):
    run("--text", str(tmp_path / "text.txt"), "--vocab-size", "300")
    first = (tmp_path / "t.json").read_bytes()
    (tmp_path / "corpus.jsonl").write_text("".join(
        json.dumps({"text": line, "domain": "docs"}) + "\n" for line in TEXT.splitlines(True)))
    run("--text", str(tmp_path / "text.txt"), "--vocab-size", "300", "--fresh")
    assert (tmp_path / "t.json").read_bytes() == first
    tokenizer = run("--corpus", str(tmp_path / "corpus.jsonl"), "--vocab-size", "300")
    assert tokenizer.special_tokens["<|endoftext|>"] == 295 and tokenizer.vocab_size == 300


@pytest.mark.parametrize("content, options, message", [
    (b"", [], "text is empty"),
    (b"ab ab", [], "allows only"),
    (TEXT.encode() + b"caf\xe9", [], "not UTF-8"),
    (TEXT.encode(), ["--vocab-size", "200"], "ask for 261"),
    (TEXT.encode(), ["--special", ""], "an empty one"),
    (TEXT.encode(), ["--special", "<e>", "<e>"], "twice"),
])
def test_bad_text_is_one_clear_line(run, tmp_path, content, options, message):
    (tmp_path / "text.txt").write_bytes(content)
    with pytest.raises(BadInput, match=message) as error:
        run("--text", str(tmp_path / "text.txt"), *options)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "t.json").exists(), "nothing half-written"


def test_a_damaged_or_missing_corpus_names_the_command(run, tmp_path):
    with pytest.raises(BadInput, match="build_corpus.py"):
        run("--corpus", str(tmp_path / "no.jsonl.gz"))
    for content in (b"not gzip", gzip.compress(b'{"text": "a"}\n' * 9)[:-9], gzip.compress(b"[1]"),
                    gzip.compress(b'{"text": 3}'), gzip.compress(b'{"text": "\xff"}')):
        (tmp_path / "c.jsonl.gz").write_bytes(content)
        with pytest.raises(BadInput, match="damaged"):
            run("--corpus", str(tmp_path / "c.jsonl.gz"))


@pytest.mark.parametrize("content, why", [
    (b'{"text": "ab ab"}\n\n{"text": "cd"}\n \t\n', "empty lines"),
    (b'\xef\xbb\xbf{"text": "ab ab"}\n{"text": "cd"}', "a byte order mark, no last line feed"),
    (b'{"text": "ab ab"}\r\n\r\n{"text": "cd", "domain": null}\r\n', "lines of Windows"),
    (gzip.compress(b'\xef\xbb\xbf\n{"text": "ab ab"}\n\n{"text": "cd"}\n'), "gzip under another name"),
])
def test_a_corpus_as_editors_leave_it(tmp_path, content, why):
    (tmp_path / "c.jsonl").write_bytes(content)
    got = list(train_tokenizer.read_corpus(tmp_path / "c.jsonl"))
    assert got == [("text", "ab ab"), ("text", "cd")], f"{why}: {got}"


def test_a_damaged_line_of_a_corpus_is_numbered(tmp_path):
    (tmp_path / "c.jsonl").write_text('\n{"text": "a\u2028b"}\n{"text": \n', encoding="utf-8")
    with pytest.raises(BadInput, match="line 3"):
        list(train_tokenizer.read_corpus(tmp_path / "c.jsonl"))


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_terminal_that_lacks_the_letters_stops_nothing(tmp_path, encoding):
    """Windows pipes are cp1252: Ġ and ⏎ are not in it, and the tokenizer is trained already."""
    (tmp_path / "text.txt").write_text(TEXT + "Привет, мир! " * 9, encoding="utf-8")
    env = os.environ | {"BUILD_LLM_OUT": str(tmp_path / "out"), "PYTHONIOENCODING": encoding,
                        "PYTHONPATH": os.pathsep.join([str(CHAPTER), str(CHAPTER.parent)])}
    for line in (["train_tokenizer.py", "--text", str(tmp_path / "text.txt"), "--vocab-size", "300"],
                 ["show_tokens.py", "--plain", "мир\n"], ["bpe_textbook.py", "мир мир"]):
        ran = subprocess.run([sys.executable, str(CHAPTER / line[0]), *line[1:]], env=env,
                             capture_output=True)
        assert ran.returncode == 0, ran.stderr.decode("ascii", "replace")[-400:]
        ran.stdout.decode(encoding)
    assert (tmp_path / "out" / "01_tokenizer" / "tokens.png").exists()


def test_documentation_is_read_without_importing(tmp_path):
    path = tmp_path / "module.py"
    path.write_text('"""Top."""\nimport no_such_module\ndef f(a, *, b=1):\n    """Do  it."""\n'
                    'class C(Base):\n    """A class."""\n    def _hidden(self):\n        "No."\n')
    assert document(path) == "Top.\n\nf(a, *, b=1)\nDo  it.\n\nclass C(Base)\nA class.\n"
    path.write_text("def broken(")
    assert document(path) == ""


def test_the_sample_is_the_same_every_time_and_stops(monkeypatch):
    files = docstrings.source_files()
    assert len(files) == len(set(files)) > 500
    monkeypatch.setattr(docstrings, "source_files", lambda: files)
    first = list(sample_documentation(30_000))
    assert first == list(sample_documentation(30_000))
    assert 30_000 <= sum(len(text) for _, text in first) < 400_000


def test_fewer_merges_are_the_tokenizer_of_a_smaller_vocabulary(run, tmp_path):
    large = run("--text", str(tmp_path / "text.txt"), "--vocab-size", "320")
    small = run("--text", str(tmp_path / "text.txt"), "--vocab-size", "280")
    assert shrunk(large, 280).merges == small.merges
    assert shrunk(large, 280).encode(TEXT) == small.encode(TEXT)
    assert bytes_per_token(shrunk(large, 0), [TEXT]) == 1.0
    assert sum(number_shapes(large).values()) == pytest.approx(1)


def test_tokens_are_shown_with_their_bytes_where_they_are_no_text():
    raw = Tokenizer({b: bytes([b]) for b in range(256)}, [])
    assert token_names(raw, list("aé\n".encode())) == ["a", "<c3>", "<a9>", "⏎"]
    assert coloured(raw, [97]) == "\x1b[30;48;5;224ma\x1b[0m"


def test_show_tokens_of_nothing(monkeypatch, tmp_path):
    Tokenizer({b: bytes([b]) for b in range(256)}, []).save(tmp_path / "t.json")
    monkeypatch.setattr(sys, "argv", ["show_tokens.py", "", "--tokenizer", str(tmp_path / "t.json")])
    with pytest.raises(BadInput, match="empty"):
        show_tokens.main()


def test_packages_that_an_environment_borrows_are_read_too(tmp_path, monkeypatch):
    """A tokenizer that has seen only its own environment's folder knows no package beside it."""
    package = tmp_path / "dist-packages" / "lent"
    package.mkdir(parents=True)
    (package / "sums.py").write_text('def add(a, b):\n    """Return the sum."""\n')
    monkeypatch.setattr("sys.path", [str(tmp_path / "dist-packages"), "/nowhere/site-packages"])
    assert ("lent", package / "sums.py") in docstrings.source_files()
