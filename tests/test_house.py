"""The rules of the house: names, imports, packages, and the one list of commands."""

import ast
import functools
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from artifacts import USUAL

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = {int(p.name[:2]): p for p in sorted(ROOT.glob("0[1-9]_*")) if p.is_dir()}
FILES = {file.stem: file for folder in CHAPTERS.values() for file in folder.glob("*.py")}
PACKAGES = {"numpy", "torch", "triton", "tqdm", "pytest", "matplotlib"}
BENCHMARK_PEERS = {"tokenizers", "tiktoken", "rustbpe", "regex", "trafilatura", "warcio",
                   "openai", "datasketch", "rensa", "datatrove", "py3langid", "transformers"}


@functools.cache
def tree(file: Path) -> ast.Module:
    """A file's syntax, read once for all tests."""
    return ast.parse(file.read_text(encoding="utf-8"))


def imported(file: Path) -> set[str]:
    """The first names of everything a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_seven_chapters_are_on_the_path_and_have_tests():
    assert sorted(CHAPTERS) == [1, 2, 3, 4, 5, 6, 7]
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    dirs = table["tool"]["hatch"]["build"]["dev-mode-dirs"]
    assert dirs == [".", *(p.name for p in CHAPTERS.values())]
    assert [p.name for p in sorted((ROOT / "tests").glob("0*"))] == \
        [p.name for p in CHAPTERS.values()], "tests/ mirrors the chapters"


def test_module_names_are_unique_and_shadow_nothing():
    stems = [file.stem for folder in CHAPTERS.values() for file in folder.glob("*.py")]
    assert len(stems) == len(set(stems)), sorted(s for s in stems if stems.count(s) > 1)
    installed = {name for name, owners in packages_distributions().items()
                 if "build-your-own-llm" not in owners}
    for stem in stems:
        assert stem not in sys.stdlib_module_names, f"{stem} shadows the standard library"
        # its public name is in the table of names; nothing here imports it (see gguf_file.py)
        assert stem not in installed or stem == "gguf", f"{stem} is the name of an installed package"
        assert not re.search("util|helper|common|misc", stem), f"{stem} does not say what it is"


@pytest.mark.parametrize("stem", sorted(FILES))
def test_a_chapter_imports_only_the_six_packages_and_earlier_chapters(stem):
    file = FILES[stem]
    number = int(file.parent.name[:2])
    for name in imported(file):
        if name in FILES:
            other = int(FILES[name].parent.name[:2])
            allowed = other <= number or (number, other) == (3, 4)
            assert allowed, f"{file.name} imports {name} from the later chapter {other}"
        else:
            known = name in sys.stdlib_module_names or name in PACKAGES | {"artifacts"}
            peer = "benchmark" in stem and name in BENCHMARK_PEERS
            assert known or peer, f"{file.name} imports {name}: not one of the six packages"
    if number <= 2:
        assert not imported(file) & {"torch", "triton"}, "chapters 1 and 2 answer without torch"


@pytest.mark.parametrize("stem", sorted(FILES))
def test_files_are_readable(stem):
    text, module = FILES[stem].read_text(encoding="utf-8"), tree(FILES[stem])
    assert ast.get_docstring(module), "a file opens with its claim and its command"
    assert text.count("\n") <= 350, f"{stem}: {text.count(chr(10))} lines: one idea a file"
    wide = [n for n, line in enumerate(text.splitlines(), 1) if len(line) > 100]
    assert not wide, f"{stem}: lines over 100 columns: {wide}"
    for node in module.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_") \
                and node.name not in ("main", "parse"):
            assert ast.get_docstring(node), f"{stem}.{node.name} has no docstring: its statement"
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "open":
            mode = next((a.value for a in node.args[1:2] if isinstance(a, ast.Constant)), "r")
            named = any(k.arg in ("encoding", None) for k in node.keywords)
            assert named or "b" in str(mode) or len(node.args) > 1 and not isinstance(
                node.args[1], ast.Constant), f"{stem}:{node.lineno}: open() without its encoding"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_step_of_run_sh_that_fails_says_so_to_whoever_asks():
    step = re.search(r"^step\(\) \{.*?^\}", (ROOT / "run.sh").read_text(), re.M | re.S)[0]
    asked = f"set -e\n{step}\nstep false || code=$?; step true; echo code ${{code:-0}}"
    said = subprocess.run(["bash", "-c", asked], capture_output=True, text=True).stdout
    assert said.endswith("code 1\n"), "failed tests were printed, and CI passed"
    alone = subprocess.run(["bash", "-c", f"set -e\n{step}\nstep false; echo went on"],
                           capture_output=True, text=True)
    assert alone.returncode == 1 and "went on" not in alone.stdout


def test_run_sh_lists_commands_that_exist():
    listed = re.findall(r"^(?:step|aside) python (\S+\.py)", (ROOT / "run.sh").read_text(), re.M)
    assert len(listed) >= 14
    for script in listed:
        assert (ROOT / script).exists(), f"run.sh calls {script}, which does not exist"


def options(file: Path) -> list[tuple[str, bool]]:
    """(name, has a help text of its own) of every option that a command adds."""
    calls = [n for n in ast.walk(tree(file))
             if isinstance(n, ast.Call) and n.args and "add" in (
                 getattr(n.func, "id", ""), getattr(n.func, "attr", "")[:3])]
    return [(n.args[0].value, any(k.arg == "help" for k in n.keywords)) for n in calls
            if isinstance(n.args[0], ast.Constant) and str(n.args[0].value).startswith("--")]


@pytest.mark.parametrize("stem", sorted(FILES))
def test_every_option_is_explained_and_has_the_name_it_has_elsewhere(stem):
    for name, explained in options(FILES[stem]):
        assert explained or name in USUAL, f"{stem} {name} has no help"
        assert name not in ("--output", "--out-dir", "--to", "--raw"), f"{stem} {name}: --out, --data"


@pytest.mark.parametrize("script", re.findall(r"^(?:step|aside) python (\S+\.py)", (ROOT / "run.sh").read_text(
    encoding="utf-8"), re.M))
def test_help_says_what_is_read_and_written(script):
    doc = ast.get_docstring(tree(ROOT / script))
    assert re.search("[Rr]eads", doc) and re.search("[Ww]rites", doc), f"{script}: Reads, Writes"
    text = (ROOT / script).read_text(encoding="utf-8")
    assert "CommandLine(__doc__" in text or "import main" in text or "run_module(" in text, \
        f"{script} --help prints its docstring"


def test_requirements_are_the_six_packages_and_this_one():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split("\n")
    names = {re.split(r"[\s;<>=]", line)[0] for line in lines if line}
    assert names == PACKAGES | {"-e"} and lines[-2] == "-e ."
    assert any("triton" in line and 'sys_platform == "linux"' in line for line in lines), \
        "triton has wheels for Linux only: a plain line breaks macOS and Windows"


def test_the_readmes_name_only_files_that_exist_and_the_way_in_is_short():
    pages = [ROOT / "README.md", *(folder / "README.md" for folder in CHAPTERS.values())]
    for page in [page for page in pages if page.exists()]:
        text = page.read_text(encoding="utf-8")
        for script in re.findall(r"python (0\d_\w+/\w+\.py)", text):
            assert (ROOT / script).exists(), f"{page.parent.name}: {script} does not exist"
        for link in re.findall(r"\]\(((?!http|#)[^)\s]+)\)", text):
            target = page.parent / link.split("#")[0]
            assert target.exists(), f"{page.parent.name}/README.md links to {link}: not there"
    assert (ROOT / "README.md").read_text(encoding="utf-8").count("\n") < 150
