"""How a chapter leaves its results for the next one: files under `out/`, whole or not at all.

Four habits, shared by every command of this repository:

- `whole(path)` writes a file completely or not at all (temporary file, fsync, rename);
- `need(path, made_by)` names the command that makes a missing file;
- `is_current` / `mark_made` let a command skip work whose inputs, settings and code are unchanged;
- `record_claim` notes one measured claim of the article for the report.

`command(main)` turns the errors a reader can mend into one clear line and exit code 1.
Set BUILD_LLM_OUT to keep the results somewhere else than `out/` beside this file.
"""

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Callable, IO, Iterator

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
    a stray `.partial` file, which the next successful write of the same name replaces.
    Text is UTF-8 with plain newlines. `mode` is "w" or "wb".
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
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


def write_json(path: Path | str, value: Any) -> Path:
    """Write `value` as indented JSON, whole or not at all; returns the path."""
    with whole(path) as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")
    return Path(path)


def read_json(path: Path | str, made_by: str) -> Any:
    """The JSON value in `path`; BadInput with the file, line and command if it cannot be read."""
    try:
        return json.loads(need(path, made_by).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{shown(path)} is damaged ({error}): delete it and run python {made_by}")


def _fingerprint(inputs: list[Path | str], settings: dict) -> dict:
    """What a result depends on: settings, input files, and the loaded code of this repository.

    A file counts by its content, so remaking the same bytes remakes nothing after it; one of over
    64 MB by its size and time. `--fresh` asks for work and is no setting of the result.
    """
    files = {}
    for path in map(Path, inputs):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                stat = file.stat()
                files[str(file)] = ([stat.st_size, stat.st_mtime_ns] if stat.st_size > 2**26 else
                                    hashlib.sha256(file.read_bytes()).hexdigest())
    settings = {name: value for name, value in settings.items() if name != "fresh"}
    return {"settings": json.loads(json.dumps(settings, default=str)), "inputs": files,
            "code": _code()}


@functools.cache
def _code() -> str:
    """A digest of this repository's code that was loaded when it was first asked for.

    Once for the life of a process: a module imported later, inside a function, would make
    `mark_made` see other code than `is_current` saw, and nothing would ever be up to date.
    """
    loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    ours = sorted(f for f in loaded if f and Path(f).resolve().is_relative_to(ROOT)
                  and Path(f).resolve().relative_to(ROOT).parts[0][:1] in ("0", "m"))
    return hashlib.sha256(b"".join(Path(f).read_bytes() for f in ours)).hexdigest()


def is_current(target: Path | str, inputs: list[Path | str], settings: dict) -> bool:
    """True if `mark_made` was called for `target` with these inputs, settings and this code."""
    target = Path(target)
    note = target.with_name("." + target.name + ".made.json")
    now = _fingerprint(inputs, settings)        # before any other module is imported
    try:
        made = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return target.exists() and made == now


def mark_made(target: Path | str, inputs: list[Path | str], settings: dict) -> None:
    """Note beside `target` what it was made from; call it last, when all its files are written."""
    target = Path(target)
    write_json(target.with_name("." + target.name + ".made.json"), _fingerprint(inputs, settings))


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


def command(main: Callable[[], int | None]) -> None:
    """Run a command's `main`; errors the reader can mend become one line and exit code 1."""
    keep_freed_memory()
    try:
        sys.exit(main() or 0)
    except BadInput as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        where = f"{shown(error.filename)}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror or error}")
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from what is already made", file=sys.stderr)
        sys.exit(130)
