"""How a chapter leaves its results for the next one: files under `out/`, whole or not at all.

Four habits, shared by every command of this repository:

- `whole(path)` writes a file completely or not at all (temporary file, fsync, rename);
- `need(path, made_by)` names the command that makes a missing file;
- a `Job` knows what a command reads and writes, and skips work that is up to date;
- `record_claim` notes one measured claim of the article for the report.

`CommandLine(__doc__)` reads a command's options, `command(main)` turns the errors that a reader
can mend into one clear line and exit code 1.
Set BUILD_LLM_OUT to keep the results somewhere else than `out/` beside this file.
"""

import argparse
import contextlib
import ctypes
import glob
import hashlib
import json
import math
import os
import re
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Callable, IO, Iterable, Iterator, NoReturn

ROOT = Path(__file__).resolve().parent
OUT = Path(os.environ.get("BUILD_LLM_OUT") or ROOT / "out").resolve()
VERDICTS = ("holds", "holds in part", "does not hold here", "not measurable at this scale")


class BadInput(Exception):
    """An error that the reader can mend. Its message is one line: what, where, and the way out."""


def out(*parts: str) -> Path:
    """The path of one result, `out("01_tokenizer", "tokenizer.json")`; nothing is created."""
    return OUT.joinpath(*parts)


def need(path: Path | str, made_by: str) -> Path:
    """`path` if it exists and is not empty; else BadInput that names the command `made_by`."""
    path = Path(path)
    if not path.exists():
        quick = OUT / "quick" / path.relative_to(OUT) if path.is_relative_to(OUT) else path
        other = f" (or set BUILD_LLM_OUT={shown(OUT / 'quick')})" if quick.exists() else ""
        raise BadInput(f"{shown(path)} is missing: run python {made_by}{other}")
    if path.is_file() and path.stat().st_size == 0:
        raise BadInput(f"{shown(path)} is empty: delete it and run python {made_by}")
    return path


def shown(path: Path | str) -> str:
    """`path` as a reader would type it: relative to the current folder where that is shorter."""
    path = Path(path)
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@contextlib.contextmanager
def whole(path: Path | str, mode: str = "w") -> Iterator[IO]:
    """Open a file that appears under its name only once it is complete and on the disk.

    An error or Ctrl-C inside the `with` block leaves the old file, or none; a kill leaves at most
    a stray `.partial` file, which a later write of the same name removes. Of two writers of one
    name the later one's file stays. Text is UTF-8 with plain newlines; `mode` is "w" or "wb".
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_strays(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with open(partial, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)      # a full disk does not say which file it was
        raise


def _remove_strays(path: Path) -> None:
    """Delete the partial files of `path` that nobody has written to for an hour."""
    for stray in path.parent.glob(glob.escape(path.name) + ".*-*.partial"):
        with contextlib.suppress(OSError):      # another process may be quicker
            if time.time() - stray.stat().st_mtime > 3600:
                stray.unlink()


def write_json(path: Path | str, value: Any) -> Path:
    """Write `value` as indented JSON, whole or not at all; returns the path. A nan or an infinity
    becomes null: JSON has no word for them, and no reader but Python's takes Python's."""
    try:
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)
    with whole(path) as file:
        file.write(text + "\n")
    return Path(path)


def _finite(value: Any) -> Any:
    """`value` with None for each number that is nan or infinite, lists and mappings inside too."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path | str, made_by: str) -> Any:
    """The JSON value in `path`; BadInput with the file, line and command if it cannot be read."""
    try:
        return json.loads(need(path, made_by).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{shown(path)} is damaged ({error}): delete it and run python {made_by}")


def _digests(paths: Iterable[Path | str]) -> dict[str, Any]:
    """What the files say, by path; a folder stands for all its files, a missing file for None.

    A file counts by its content, so remaking the same bytes remakes nothing after it; one of over
    64 MB by its size and time.
    """
    found: dict[str, Any] = {}
    for path in map(Path, paths):
        if not path.exists():
            found[str(path)] = None
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not file.name.endswith(".made.json"):
                stat = file.stat()
                found[str(file)] = ([stat.st_size, stat.st_mtime_ns] if stat.st_size > 2**26 else
                                    hashlib.sha256(file.read_bytes()).hexdigest())
    return found


def code_behind(file: Path | str) -> list[Path]:
    """`file` and the chapter modules that it imports, directly or not, wherever the import stands.

    Read from the source, not from what is loaded: a module imported late, inside a function,
    counts from the start. Names are looked up as Python does, so that a student's copy counts.
    """
    folders = [Path(folder) for folder in sys.path
               if Path(folder).resolve().is_relative_to(ROOT) and Path(folder).resolve() != ROOT]
    seen, to_read = {}, [Path(file).resolve()]
    while to_read:
        source = to_read.pop()
        if source in seen:
            continue
        seen[source] = source.read_text(encoding="utf-8")
        for name in re.findall(r"^\s*(?:from|import)\s+(\w+)", seen[source], re.MULTILINE):
            module = next((f / f"{name}.py" for f in folders if (f / f"{name}.py").exists()), None)
            to_read += [module.resolve()] if module else []
    return sorted(seen)


class Job:
    """One call of a command: what it reads and writes, with which settings and code.

        job = Job(__file__, vars(args), reads=[args.tokenizer], writes=[args.out, figure])
        if job.up_to_date():
            return
        ...                         # the work
        job.done()

    All is looked at when the job is made, before the work: an input that changes meanwhile makes
    the result old. The first of `writes` carries the note, a hidden .made.json file beside it.
    `--fresh` asks for work, `--workers` shares it: neither is a setting of the result.
    """

    def __init__(self, file: str, settings: dict, reads: Iterable[Path | str],
                 writes: Iterable[Path | str]) -> None:
        self.writes = [Path(path) for path in writes]
        self.name, self.began = Path(file).name, time.time() - 0.1      # a disk's clock is coarser
        self.fresh = bool(settings.get("fresh"))
        code = b"".join(path.read_bytes() for path in code_behind(file))
        plain = {name: value for name, value in settings.items()
                 if name not in ("fresh", "workers")}
        self.now = {"settings": json.loads(json.dumps(plain, default=str)),
                    "inputs": _digests(reads), "code": hashlib.sha256(code).hexdigest()}
        self.note = self.writes[0].with_name(f".{self.writes[0].name}.made.json")

    def made(self) -> dict:
        """What the note says the result was made from; {} if there is none."""
        try:
            made = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return made if isinstance(made, dict) else {}

    def is_current(self) -> bool:
        """True if every output is there, and was made from these inputs, settings and code."""
        made = self.made()
        return all(made.get(name) == now for name, now in self.now.items()) and \
            all(Path(path).exists() for path in [*self.writes, *made.get("outputs", [])])

    def up_to_date(self) -> bool:
        """True, and said, if there is nothing to do. Else says what is replaced and why, and makes
        sure that the result can be written before any work is done (OSError if not)."""
        target = self.writes[0]
        if not self.fresh and self.is_current():
            print(f"{shown(target)} is up to date (--fresh makes it again)")
            return True
        if target.exists() and (why := self.changes()):
            print(f"{shown(target)} is made again: {why}")
        if self.fresh:      # stopped half-way, the same work without --fresh must go on, not rest
            self.note.unlink(missing_ok=True)
        for folder in {path.parent for path in self.writes}:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        return False

    def changes(self) -> str:
        """In words, how this job differs from the one that made what is there; "" if unknown."""
        made, words = self.made(), []
        if self.fresh or not made:
            return "--fresh" if self.fresh else ""
        before, now = made.get("settings", {}), self.now["settings"]
        words += [f"--{name.replace('_', '-')} was {before.get(name)}, is {value}"
                  for name, value in now.items() if before.get(name) != value]
        files, today = made.get("inputs", {}), self.now["inputs"]
        words += [f"{shown(path)} changed" for path in today if files.get(path) != today[path]]
        words += ["the code changed"] if made.get("code") != self.now["code"] else []
        words += [f"{shown(path)} is gone" for path in made.get("outputs", [])
                  if not Path(path).exists()]
        return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")

    def claims(self) -> list[Path]:
        """The claims that this command has recorded since the job was made."""
        return [path for path in sorted(out("claims").glob("*.json"))
                if path.stat().st_mtime >= self.began and f"/{self.name}" in
                str(read_json(path, self.name).get("command"))]

    def done(self, more: Iterable[Path | str] = ()) -> None:
        """Note what the result was made from; call it last, when all its files are written. `more`
        files, and its claims, count as outputs that nobody could name before the work."""
        outputs = [*self.writes, *more, *self.claims()]
        write_json(self.note, self.now | {"outputs": [str(path) for path in outputs]})


def record_claim(claim: str, *, measured: str, value: Any, expected: str, verdict: str,
                 command: str, interval: tuple[float, float] | None = None,
                 details: dict | None = None) -> Path:
    """Note one measured claim of the article (ids in the report's ledger) for the report.

    `measured` says in a sentence what was measured, `value` is the number (or a short mapping),
    `interval` its 95 % interval or spread over seeds, `expected` what the article led us to expect,
    `verdict` one of VERDICTS, computed from the measurement, `command` what repeats it.
    """
    if verdict not in VERDICTS:
        raise ValueError(f"verdict {verdict!r} of claim {claim!r} is not one of {VERDICTS}")
    return write_json(out("claims", f"{claim}.json"), {
        "claim": claim, "measured": measured, "value": value, "interval": interval,
        "expected": expected, "verdict": verdict, "command": command, "details": details or {}})


def keep_freed_memory() -> None:
    """Let this process and its children use freed memory again instead of giving it back.

    glibc returns every freed block of over 128 KB to the system, and a training step frees
    hundreds: their pages come back one fault at a time, filled with zeros. Keeping blocks of up
    to 32 MB made chapter 4's updates 1.2 (width 192) to 1.5 times (width 96) as fast on one core.
    No effect with another C library.
    """
    sizes = {-1: ("MALLOC_TRIM_THRESHOLD_", 2**28), -3: ("MALLOC_MMAP_THRESHOLD_", 2**25)}
    for option, (name, size) in sizes.items():
        os.environ.setdefault(name, str(size))      # what child processes read when they start
        with contextlib.suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).mallopt(option, size)


# What an option of this name means in every command that has it and says no more.
USUAL = {"--out": "file or folder that is written", "--data": "folder of the token shards",
         "--tokenizer": "tokenizer.json of chapter 1", "--corpus": "documents, .jsonl or .jsonl.gz",
         "--plan": "plan.json of chapter 3", "--laws": "laws.json of chapter 3",
         "--base": "the base model of chapter 4", "--model": "a checkpoint",
         "--sft": "the model of sft.py", "--reward": "the model of reward_model.py",
         "--preferences": "pairs of answers, .jsonl",
         "--train": "conversations to train on, .jsonl",
         "--val": "held-out conversations, .jsonl", "--votes": "votes of the arena, .jsonl",
         "--seed": "of every random draw", "--seeds": "how many draws",
         "--threads": "torch threads", "--workers": "processes",
         "--device": "cpu or cuda; auto: a GPU if there is one",
         "--precision": "fp32, or bf16 with weights and optimizer in 32 bits",
         "--steps": "optimizer steps", "--epochs": "passes over the data",
         "--learning-rate": "peak learning rate", "--max-new-tokens": "tokens to make at most",
         "--quick": "a small version, in seconds", "--fresh": "make again even if up to date"}


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help as it was written, with the default of every option that has one."""
    def _get_help_string(self, action: argparse.Action) -> str:
        text, value = (action.help or "").replace("%%", "%"), action.default
        if not (value is None or value is False or value in ([], argparse.SUPPRESS)
                or "default" in text):
            words = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else \
                shown(value) if isinstance(value, Path) else str(value)
            text = f"{text} (default: {words})"
        return text.replace("%", "%%")      # argparse formats it once more


class CommandLine(argparse.ArgumentParser):
    """The options of one command: `CommandLine(__doc__)`.

    `--help` prints the file's whole docstring, with what is read and written, and every option
    with its default; options that mean the same everywhere take their help from USUAL. What is
    wrong is said in one line that names the option, with exit code 2.
    """
    def __init__(self, doc: str, **more: Any) -> None:
        super().__init__(description=doc.strip(), formatter_class=_Help, **more)

    def format_help(self) -> str:
        for action in self._actions:
            action.help = action.help or next(
                (USUAL[name] for name in action.option_strings if name in USUAL), None)
        return super().format_help()

    def parse_args(self, *given: Any, **more: Any) -> argparse.Namespace:
        """The options; a number that is nan or infinite, or a seed below 0, means nothing in any
        command."""
        found = super().parse_args(*given, **more)
        for name, value in vars(found).items():
            for number in value if isinstance(value, (list, tuple)) else [value]:
                least = "at least 0" if name == "seed" and number is not None and number < 0 else ""
                if least or isinstance(number, float) and not math.isfinite(number):
                    self.error(f"--{name.replace('_', '-')} {number} must be {least or 'finite'}")
        return found

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (--help explains every option)\n")


def within(kind: type = float, *, above: float = -math.inf, low: float = -math.inf,
           high: float = math.inf, below: float = math.inf) -> Callable[[str], float]:
    """For `type=` of an option: its value as `kind`, if above < value < below and low <= value <=
    high; else the option is refused in one line. `within(int, low=1)`: 1, 2, 3 ..."""
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            word = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {word}") from None
        if not (above < value < below and low <= value <= high):
            bounds = {"above": above, "at least": low, "below": below, "at most": high}
            words = [f"{word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound)]
            raise argparse.ArgumentTypeError(f"{text} must be {' and '.join(words) or 'finite'}")
        return value
    return read


def command(main: Callable[[], int | None]) -> None:
    """Run a command's `main`; errors the reader can mend become one line and exit code 1."""
    keep_freed_memory()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):    # a pipe on Windows is cp1252, and lacks most letters:
            stream.reconfigure(errors="backslashreplace")    # no error after an hour's work
    try:
        sys.exit(main() or 0)
    except BadInput as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        where = f"{shown(error.filename)}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror or error}")
    except NotImplementedError as blank:        # a student's file: said in one line, with its place
        if not str(blank).startswith("exercise "):
            raise
        place = traceback.extract_tb(blank.__traceback__)[-1]
        sys.exit(f"{shown(place.filename)}:{place.lineno}: not started, {blank}")
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from what is already made", file=sys.stderr)
        sys.exit(130)
