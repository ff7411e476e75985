"""learn.py grade against whatever comes in: nasty bodies, foreign files, links, damaged archives."""

import json
import os
import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_learn import TOY, call, repo  # noqa: E402, F401  (a toy repository of two exercises)


def graded(repo, tmp_path, submission, limit=40):
    call(repo, "grade", str(submission), "--chapter", "1", "--limit", str(limit), "--json",
         str(tmp_path / "r.json"))
    assert (repo / "01_toy" / "toyshapes.py").read_text(encoding="utf-8") == TOY
    rows = json.loads((tmp_path / "r.json").read_text())["tests"]
    return [row["score"] for row in rows], " ".join(row["output"] for row in rows)


NASTY = {        # the first exercise's body, and what the grader says; the second must stay right
    "exits": ("import os; os._exit(0)", "no test came to an end"),
    "raises SystemExit": ("raise SystemExit(0)", "SystemExit"),
    "writes outside": ("open('{victim}', 'w').write('x')", "does not let"),
    "removes outside": ("import os; os.remove('{victim}')", "does not let"),
    "renames outside": ("import os; os.rename('{victim}', '{victim}2')", "does not let"),
    "removes a tree": ("import shutil; shutil.rmtree('{folder}')", "does not let"),
    "runs a shell": ("import os; os.system('rm {victim}')", "does not allow"),
    "kills the grader": ("import os; os.kill(os.getppid(), 9)", "does not allow"),
    "reads the reference": ("exec(open('{repo}/01_toy/toyshapes.py').read(), globals())",
                            "does not let"),
    "forges the outcomes": ("import os, sys; open(sys.argv[sys.argv.index('--outcomes') + 1], "
                            "'w').write('{{}}'); os._exit(0)", "no test came to an end"),
    "eats the memory": ("y = bytearray(1 << 40)", "MemoryError"),
    "fills the disk": ("f = open('big', 'wb')\n    while True: f.write(bytes(1 << 24))",
                       "File too large"),
    "leaves a child behind": ("import subprocess; subprocess.Popen(['sleep', '99']); return -1", "6"),
}


@pytest.mark.skipif(os.name != "posix", reason="limits of memory and file size are POSIX only")
@pytest.mark.parametrize("body, said", NASTY.values(), ids=NASTY)
def test_a_nasty_body_costs_its_own_exercise_and_harms_nothing(repo, tmp_path, body, said):
    victim = tmp_path / "keep" / "victim.txt"
    victim.parent.mkdir()
    victim.write_text("precious")
    (tmp_path / "work").mkdir()
    body = body.format(victim=victim, folder=victim.parent, repo=repo)
    (tmp_path / "work" / "toyshapes.py").write_text(
        TOY.replace("y = 2 * x  # no overflow in Python", body), encoding="utf-8")
    scores, output = graded(repo, tmp_path, tmp_path / "work")
    assert scores == [0, 6] and said in output, output
    assert victim.read_text() == "precious"


AROUND = ["raise SystemExit(1)\n", "import nowhere_to_be_found\n", "while True: pass\n", "def (\n"]


@pytest.mark.parametrize("line", AROUND)
def test_what_breaks_around_the_bodies_costs_no_right_body(repo, tmp_path, line):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "toyshapes.py").write_text(TOY + line, encoding="utf-8")
    limit = 8 if "while" in line else 40
    assert graded(repo, tmp_path, tmp_path / "work", limit)[0] == [4, 6]


FOREIGN = {
    "latin-1": (TOY.replace("multiply", "multipli\xe9").encode("latin-1"), [4, 6]),
    "UTF-16": (TOY.encode("utf-16"), [4, 6]),
    "UTF-8 with a mark": (b"\xef\xbb\xbf" + TOY.encode(), [4, 6]),
    "Windows line ends": (TOY.replace("\n", "\r\n").encode(), [4, 6]),
    "a form feed inside": (TOY.replace("# multiply", "# multi\x0cply\x1c").encode(), [4, 6]),
    "binary garbage": (bytes(range(256)) * 40, [0, 0]),
    "NUL characters": (TOY.encode() + b"\0", [4, 6]),
    "nested too deep": (b"x = " + b"(" * 9999, [0, 0]),
    "empty": (b"", [0, 0]),
    "two megabytes": (TOY.encode() + b"#" * 2_000_000, [0, 0]),
}


@pytest.mark.parametrize("data, expected", FOREIGN.values(), ids=FOREIGN)
def test_files_as_they_come(repo, tmp_path, data, expected):
    packed = len(data) % 2 == 0             # half of them in an archive made on Windows
    file = tmp_path / "toyshapes.py"
    file.write_bytes(data)
    if packed:
        with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("hand in\\01_toy\\toyshapes.py", data)
    scores, output = graded(repo, tmp_path, tmp_path / "s.zip" if packed else file)
    assert scores == expected, output


def test_links_and_damaged_archives_earn_nothing(repo, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "toyshapes.py").symlink_to(repo / "01_toy" / "toyshapes.py")
    assert graded(repo, tmp_path, tmp_path / "work")[0] == [0, 0], "a link to the reference"
    (tmp_path / "linked").symlink_to(repo / "01_toy", target_is_directory=True)
    assert graded(repo, tmp_path, tmp_path / "work")[0] == [0, 0]
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("01_toy/toyshapes.py", TOY)
    data = bytearray((tmp_path / "s.zip").read_bytes())
    data[60:90] = b"?" * 30
    (tmp_path / "s.zip").write_bytes(data)
    assert graded(repo, tmp_path, tmp_path / "s.zip")[0] == [0, 0]
