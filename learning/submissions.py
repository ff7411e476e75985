"""What was handed in: folders, zips, tars, zips of zips, and files that a platform has renamed.

Nothing is unpacked to disk and no link is followed, so no name can do harm. A damaged or cut
archive says so; a file under another name is found where there is no doubt what it is.
"""

import ast
import gzip
import io
import re
import sys
import tarfile
import unicodedata
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from learning.exercises import chapter_folders, work_file
from learning.function_bodies import UNREADABLE
from learning.sealed_bodies import unseal

LARGEST = 1_000_000                     # bytes of one submitted file
LARGEST_ARCHIVE = 50_000_000            # bytes of an archive inside an archive
MOST = 20_000                           # files in one submission
NOT_THEIRS = sys.stdlib_module_names | {"numpy", "torch", "triton", "tqdm", "pytest", "_pytest",
                                        "matplotlib", "artifacts", "learn", "learning", "conftest"}
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
WAYS = {".7z": ": pack it as .zip", ".rar": ": pack it as .zip",
        ".ipynb": ": copy the functions from the notebook into the file"}
CANVAS = re.compile(r"(?P<who>[^/]+?)(?:_LATE)?_(?P<id>\d+)_\d+_(?P<file>[^/]+)$")
# What is put behind a name when a second file of that name comes, or a second version.
MARK = re.compile(r"(?:[ _-]*[(\[]\d+[)\]]|[ _-]\d+|[ _-]+(?:v\d+|final|new|late)|\.py| |~"
                  r"|[ _–-]+(?:cop(?:y|ie|ia)|kopi[ae]|коп[иі]я|コピー|副本|복사본)(?:[ _-]?\d+)?)$")
MOODLE = re.compile(r"(?P<who>[^/]+?)_(?P<id>\d+)_assignsubmission_[a-z]+_?/?(?P<file>.*)$")


@dataclass
class Submission:
    """A student's files, {path: (bytes, read)}, or why there are none."""
    name: str
    files: dict[str, tuple[int, Callable[[], bytes]]] = field(default_factory=dict)
    error: str = ""


def is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVES)


def harmless(name: str) -> bool:
    """Whether a path stays inside and can be somebody's work: no hidden file or folder (.git, and
    the ._dpo.py that a Mac packs beside each dpo.py), and no installed package."""
    parts = name.split("/")
    return not (".." in parts or name.startswith("/") or re.match(r"[A-Za-z]:", name)
                or not name or name.endswith("/") or {"__MACOSX", "site-packages"} & set(parts)
                or any(part.startswith(".") and part != "." for part in parts))


def archive_files(file: Path | io.BytesIO) -> dict[str, tuple[int, Callable[[], bytes]]]:
    """{path: (bytes, read)} of the plain files in a zip or tar; ValueError if it is damaged."""
    try:
        if zipfile.is_zipfile(file):
            archive = zipfile.ZipFile(file)
            return {re.sub(r"^(?:[A-Za-z]:)?/+", "", i.filename.replace("\\", "/")): (
                i.file_size, lambda i=i: archive.open(i).read(LARGEST_ARCHIVE + 1))
                for i in archive.infolist()}
        if isinstance(file, io.BytesIO):
            file.seek(0)
        tar = tarfile.open(file) if isinstance(file, Path) else tarfile.open(fileobj=file)
        return {m.name.removeprefix("./"): (m.size, lambda m=m: tar.extractfile(m).read())
                for m in tar.getmembers() if m.isfile()}
    except Exception as error:          # whatever a broken archive can raise
        first = str(error).partition("\n")[0]           # tarfile tells a line for each kind
        raise ValueError(f"the archive is cut or damaged, or of another kind than its name says: "
                         f"{first}; pack it again as .zip") from None


def folder_files(folder: Path) -> dict[str, tuple[int, Callable[[], bytes]]]:
    """{path: (bytes, read)} of the files really inside a folder; links lead nowhere."""
    inside, found = folder.resolve(), {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and path.resolve() == inside / name and "__pycache__" not in name:
            found[name] = (path.stat().st_size, path.read_bytes)
    return found


def unpacked(files: dict, depth: int = 0) -> dict:
    """`files` with archives replaced by what they hold, three deep; ValueError if one is broken."""
    found = {}
    for name, (size, read) in files.items():
        if not harmless(name):
            continue
        if is_archive(name) and depth < 3 and size <= LARGEST_ARCHIVE:
            inner = unpacked(archive_files(io.BytesIO(read())), depth + 1)
            found |= {f"{name}/{inside}": entry for inside, entry in inner.items()}
        else:
            found[name] = (size, read)
        if len(found) > MOST:
            raise ValueError(f"more than {MOST:,} files")
    return found


def files_of(path: Path) -> dict:
    """{path: (bytes, read)} of a folder, an archive, or one file, archives inside still closed."""
    if path.is_dir():
        return folder_files(path)
    with open(path, "rb") as file:
        magic = file.read(265)
    if magic[:2] == b"\x1f\x8b" and path.name.lower().endswith((".py.gz", ".txt.gz")):
        return {path.name[:-3]: (path.stat().st_size, lambda: gzip.open(path).read(LARGEST + 1))}
    if is_archive(path.name) or magic[:4] == b"PK\3\4" or magic[:2] == b"\x1f\x8b" \
            or magic[257:262] == b"ustar":
        return archive_files(path)
    return {path.name: (path.stat().st_size, path.read_bytes)}


def open_submission(name: str, files: Callable[[], dict]) -> Submission:
    """A submission from a function that gives its files; what is wrong with it is kept."""
    try:
        return Submission(name, unpacked(files()))
    except ValueError as error:
        return Submission(name, error=str(error))


def unique(names: list[str], paths: list[Path]) -> list[str]:
    """`names`, each once whatever the case: the whole path where two are alike."""
    def taken(name, others):
        return [other.casefold() for other in others].count(name.casefold()) > 1
    long = [re.sub(r"[^\w.-]+", "_", "_".join(path.parts)).strip("_.") for path in paths]
    once = [one if taken(name, names) else name for name, one in zip(names, long)]
    return [f"{name}_{i}" if taken(name, once) else name for i, name in enumerate(once, 1)]


def plain_name(path: Path) -> str:
    """The name to list a submission under: without an archive's ending, dots kept."""
    if path.is_file():
        for ending in (*ARCHIVES[::-1], ".py"):
            if path.name.lower().endswith(ending):
                return path.name[:-len(ending)]
    return path.name or path.resolve().name


def given(paths: list[Path]) -> list[Submission]:
    """The submissions named on a command line; single files of one Canvas or Moodle student, who
    handed in several, are one submission."""
    names = unique([plain_name(p) for p in paths], paths)
    parts, found = {}, []
    for name, path in zip(names, paths):
        mark = path.is_file() and not is_archive(path.name) and (
            CANVAS.match(path.name) or MOODLE.match(path.name))
        if mark:        # two students may have one name: their numbers tell them apart
            parts.setdefault((mark["who"], mark["id"]), []).append((mark["file"], path))
        else:
            found.append(open_submission(name, lambda path=path: files_of(path)))
    for (who, _), files in parts.items():
        found.append(open_submission(who, lambda files=files: {
            file: (path.stat().st_size, path.read_bytes) for file, path in files}))
    return named_apart(found)


def named_apart(found: list[Submission]) -> list[Submission]:
    """The submissions, each name once whatever the case: a second "anna" becomes "anna_2"."""
    taken = set()
    for submission in found:
        name, number = submission.name, 1
        while submission.name.casefold() in taken:
            number += 1
            submission.name = f"{name}_{number}"
        taken.add(submission.name.casefold())
    return found


def one_students(names: list[str]) -> bool:
    """Whether these paths in one folder are one student's: a file of an exercise, or a folder of a
    chapter, lies right there."""
    known = modules() | {"answers"}
    tops = {name.split("/")[0] for name in names if "/" in name}
    works = [name for name in names if "/" not in name and not CANVAS.match(name)
             and not MOODLE.match(name)]
    stems = [original_name(name, known).rpartition(".")[0] for name in works]
    found = [stem for stem in stems if stem in known]
    # anna_dpo.py beside bob_dpo.py: nobody hands in one file twice.
    return bool(tops & ({"mine"} | {f.name for f in chapter_folders().values()})) or (
        0 < len(found) == len(set(found)))


def students_in(path: Path) -> list[Submission]:
    """A class in one folder or archive, as platforms give it out: a folder or an archive for each
    student, or files whose names begin with the student's."""
    files = {name: entry for name, entry in files_of(path).items() if harmless(name)}
    while len({name.split("/")[0] for name in files}) == 1 and all("/" in name for name in files):
        inside = {name.split("/", 1)[1]: entry for name, entry in files.items()}
        if MOODLE.match(next(iter(files))) or one_students(list(inside)):
            break               # a class of one
        files = inside
    groups = {}
    for name, entry in files.items():
        top, _, rest = name.partition("/")
        mark = MOODLE.match(top + "/" * bool(rest)) or (None if rest else CANVAS.match(top))
        who = mark["who"] if mark else top if rest else plain_name_of(top)
        file = rest or (mark["file"] if mark else top)
        groups.setdefault((who, mark["id"] if mark else ""), {})[file] = entry
    return named_apart([open_submission(who, lambda inside=inside: inside)
                        for (who, _), inside in groups.items()])


def plain_name_of(name: str) -> str:
    return next((name[:-len(end)] for end in ARCHIVES[::-1] if name.lower().endswith(end)), name)


def modules() -> set[str]:
    """The names of all modules of the chapters."""
    return {f.stem for folder in chapter_folders().values() for f in folder.glob("*.py")}


def original_name(name: str, known: set[str]) -> str:
    """The name that a platform, a browser or a person has changed: dpo-1.py, dpo (2).py, DPO.PY,
    anna_12_34_dpo.py, dpo_anna.py, "dpo - Kopie.py", dpo_v2.py, dpo.py.txt. A name that is known
    already stays."""
    # Wide brackets and hard blanks of other keyboards become plain ones.
    name = unicodedata.normalize("NFKC", name).replace("%20", " ").strip()
    stem, dot, ending = re.sub(r"(?i)\.(py|txt)\.txt$", r".\1", name).rpartition(".")
    if stem in known:
        return stem + dot + ending.lower()
    plain, before = stem.lower(), ""
    while plain != before and plain not in known:       # one mark after the other: "dpo (1) (1)"
        before, plain = plain, MARK.sub("", plain)
    fits = [k for k in known if plain == k or re.search(rf"[^A-Za-z0-9]{re.escape(k)}$", plain)]
    fits = fits or [k for k in known if re.match(rf"{re.escape(k)}[^A-Za-z0-9]", plain)]
    return max(fits, key=len) + dot + ending.lower() if fits else name


def find(submission: Submission, exercise: dict) -> str | None:
    """The path of the exercise's file in a submission: the right folder first, then mine/, then
    the shortest path; a renamed file only where no file has the name."""
    wanted = f"{exercise['folder'].name}/{work_file(exercise)}"
    last = wanted.split("/")[-1]

    def rank(name: str) -> tuple:
        name = "/" + name
        return not name.endswith("/" + wanted), "/mine/" not in name, name.count("/"), name

    if exercise["kind"] == "find-bug":                  # every test_it.py has the same last name
        tail = "/" + "/".join(wanted.split("/")[-2:])
        fits = [n for n in submission.files if ("/" + n).endswith(tail)] or [
            n for n in submission.files if "test_it" in n.split("/")[-1] and n.endswith(".py")
            and f'"""{exercise["id"]} ' in text_at(submission, n)]
    else:
        known = modules() | {"answers"}
        fits = [n for n in submission.files if n.split("/")[-1] == last] or [
            n for n in submission.files if n.lower().endswith((last[-3:], last[-3:] + ".txt"))
            and original_name(n.split("/")[-1], known) == last]
    return min(fits, key=rank, default=None)


def as_text(data: bytes) -> str:
    """What a person's editor has saved: UTF-8, or UTF-16 with its mark, as Notepad and PowerShell
    write it; what is neither is shown as a sign for "unknown"."""
    utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    return data.decode("utf-16" if utf16 else "utf-8-sig", "replace")


def text_at(submission: Submission, path: str) -> str:
    """One file's text; ValueError if it is too large or cannot be read."""
    size, read = submission.files[path]
    if size > LARGEST:
        raise ValueError(f"{size:,} bytes are more than the {LARGEST:,} allowed")
    try:
        data = read()
    except Exception as error:                          # encrypted, damaged, a method unknown here
        raise ValueError(f"cannot be read (cut or damaged?): {error}") from None
    if len(data) > LARGEST:
        raise ValueError(f"unpacks to more than {LARGEST:,} bytes")
    return unseal(as_text(data))


def submitted_text(submission: Submission, exercise: dict) -> str:
    """The student's version of the exercise's file. LookupError says what was found instead."""
    if submission.error:
        raise ValueError(submission.error)
    path = find(submission, exercise)
    if path is None:
        names = sorted({name.split("/")[-1] for name in submission.files})
        there = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "") or "nothing"
        way = next((way for ending, way in WAYS.items() if any(
            name.lower().endswith(ending) for name in names)), "")
        raise LookupError(f"{work_file(exercise)} is not in the submission, which holds {there}"
                          + way)
    return text_at(submission, path)


def helper_files(submission: Submission, exercise: dict, text: str) -> dict[str, str]:
    """{name: text} of the student's own modules beside the exercise's file that it imports."""
    path, known, found = find(submission, exercise), modules(), {}
    folder, todo = path.rpartition("/")[0], [text]
    while todo and len(found) < 20:
        try:
            tree = ast.parse(todo.pop())
        except UNREADABLE:
            continue
        names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names} | {
            n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
        for name in sorted(names - known - NOT_THEIRS):
            file = f"{folder}/{name}.py".lstrip("/")
            if name.isidentifier() and file in submission.files and f"{name}.py" not in found:
                found[f"{name}.py"] = text_at(submission, file)
                todo.append(found[f"{name}.py"])
    return found
