"""A race: who trains the best small model within a few CPU minutes on the same shards?

    python learn.py contest --minutes 5                       the course's own recipe
    python learn.py contest my_entry.py other.py --minutes 5  and yours beside it

An entry is one Python file with two functions:

    train(folder, seconds) -> model                 folder holds train.bin and index.json
    next_log_probabilities(model, ids) -> (T, V)    row t: natural log p(next token | ids[:t + 1])

Each entry is run again here, in a clean copy with one thread, and judged by bits per byte of
held-out documents that reach it only after training. Refused: more CPU seconds than allowed,
probabilities that do not sum to one or look at later tokens, files large enough to hold a text,
and what `learn.py grade` refuses. Results, code and curves lie in out/contest.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from learning.allowed_code import not_for_grading
from learning.exercises import ROOT, chapter_folders, fail
from learning.limited_runs import environment_of, kill_strays, limit_resources

RECIPE = ROOT / "04_model_pretrain" / "contest_entry.py"
LARGEST = 40_000                # bytes of an entry: no room for the held-out text
WINDOW, DOCUMENTS = 256, 200    # tokens a window, held-out documents that are judged


def contest(entries: list[Path], minutes: float, data: Path, out: Path) -> int:
    """Run each entry in a clean copy, judge it, and write the table, best first."""
    for name in ("train.bin", "val.bin", "index.json"):
        if not (data / name).exists():
            fail(f"{data / name} is missing: run python 02_data/build_corpus.py")
    rows = []
    for entry in [RECIPE, *entries]:
        row = {"entry": entry.stem, "minutes": minutes, **run_entry(entry, 60 * minutes, data)}
        rows.append(row)
        said = row.get("refused") or (f"{row['bits_per_byte']:.4f} bits per byte, "
                                      f"{row['cpu_seconds']:.0f} CPU seconds")
        print(f"{entry.stem:<24} {said}", flush=True)
        (out / "code").mkdir(parents=True, exist_ok=True)
        shutil.copy(entry, out / "code" / entry.name)
        rows.sort(key=lambda r: r.get("bits_per_byte", float("inf")))
        (out / "results.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(f"wrote {out / 'results.json'}")
    return 0


def run_entry(entry: Path, seconds: float, data: Path) -> dict:
    """One entry's row: bits per byte, CPU seconds and its curve, or why it is refused."""
    text = entry.read_text(encoding="utf-8", errors="replace")
    if len(text.encode()) > LARGEST:
        return {"refused": f"{len(text.encode()):,} bytes of code, at most {LARGEST:,}"}
    if said := not_for_grading(text, ""):
        return {"refused": said}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        clean = Path(scratch).resolve() / "clean"
        for folder in list(chapter_folders().values())[:4]:
            shutil.copytree(folder, clean / folder.name,
                            ignore=shutil.ignore_patterns("__pycache__", "figures", "*.toml"))
        shutil.copytree(ROOT / "learning", clean / "learning",
                        ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "artifacts.py", clean)
        shutil.copy(entry, clean / "the_entry.py")
        index = json.loads((data / "index.json").read_text("utf-8"))
        held = held_out(index, data / "val.bin")
        index["splits"] = {"train": index["splits"]["train"]}
        (clean / "data").mkdir()
        (clean / "data" / "index.json").write_text(json.dumps(index), encoding="utf-8")
        shutil.copy(data / "train.bin", clean / "data")
        return talk(clean, seconds, data, held)


def held_out(index: dict, file: Path) -> dict:
    """Up to DOCUMENTS held-out documents, spread over all, as windows of ids, and their bytes."""
    import numpy as np
    part = index["splits"]["val"]["documents"]
    tokens = np.fromfile(file, dtype=np.dtype(index["dtype"]))
    step = max(1, len(part["start"]) // DOCUMENTS)
    windows, size = [], 0
    for start, length, count in list(zip(part["start"], part["length"], part["bytes"]))[::step]:
        ids = [index["eot"], *map(int, tokens[start:start + length])]
        ids = ids[:-1] if ids[-1] == index["eot"] else ids
        windows += [ids[a:a + WINDOW + 1] for a in range(0, len(ids) - 1, WINDOW)]
        size += count
    return {"windows": windows, "bytes": size, "vocab_size": index["vocab_size"]}


def talk(clean: Path, seconds: float, data: Path, held: dict) -> dict:
    """Start the judge in the clean copy; it hears the held-out windows when it says "trained"."""
    home = clean.parent / "home"
    home.mkdir()
    code = ("import sys; sys.path[:0] = [" + ", ".join(
        repr(str(p)) for p in (clean, *sorted(clean.glob("0*")))) + "]; "
        f"from learning.contest_judge import main; main({seconds!r}, {str(home)!r}, "
        f"{str(data.resolve())!r})")
    environment = {**os.environ, **environment_of(home, {"PYTHONPATH": ""})}
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", code], cwd=clean, stdin=subprocess.PIPE, text=True,
            stdout=subprocess.PIPE, stderr=log, env=environment, start_new_session=True,
            preexec_fn=limit_resources if os.name == "posix" else None)
        curve, began, last = [], time.time(), {}
        for line in child.stdout:
            if line.startswith("curve "):
                curve.append([float(x) for x in line.split()[1:3]])
            elif line.startswith("{"):
                last = json.loads(line)
                if last.get("trained"):
                    child.stdin.write(json.dumps(held) + "\n")
                    child.stdin.flush()
        child.wait()
        kill_strays(f"BUILD_LLM_FENCE={home}".encode())
        log.seek(max(0, log.seek(0, 2) - 500))
        tail = log.read().decode("utf-8", "replace").strip().splitlines()
    if not {"bits_per_byte", "refused"} & set(last):
        last = {"refused": f"it ended without an answer: {tail[-1] if tail else child.returncode}"}
    last.pop("trained", None)
    return {**last, "wall_seconds": round(time.time() - began, 1), "curve": curve}
