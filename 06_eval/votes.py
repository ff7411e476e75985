"""Votes that survive anything: one JSON line each, on the disk before the voter hears "thank you".

    log = VoteLog(out("06_eval", "votes.jsonl"))
    log.append({"battle": "b1", "model_a": "sft", "model_b": "dpo", "winner": "a", ...})

Appended in one write and fsynced. A power cut can leave half a last line; it is set aside when the
log is opened again, and every acknowledged vote is there. The lines are what chapter 5 trains
preferences on: python 05_posttrain/preferences.py --votes out/06_eval/votes.jsonl
"""

import json
import os
import threading
from pathlib import Path

from artifacts import BadInput, shown

WINNERS = ("a", "b", "tie", "both_bad")
FIELDS = ("battle", "model_a", "model_b", "winner", "prompt", "answer_a", "answer_b")


def read_votes(path: Path | str) -> list[dict]:
    """All votes of a log, oldest first. A last line without its end is left out: it was never
    acknowledged. BadInput with file and line for a damaged line anywhere else."""
    data = Path(path).read_bytes()
    votes = []
    *lines, _ = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            vote = json.loads(line)
            if vote["winner"] not in WINNERS or not all(isinstance(vote[f], str) for f in FIELDS):
                raise ValueError("a field is missing or unknown")
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{shown(path)}, line {number} is no vote ({error}): mend or remove it")
        votes.append(vote)
    return votes


class VoteLog:
    """An append-only file of votes; `append` returns only when the vote is on the disk."""

    def __init__(self, path: Path | str) -> None:
        self.path, self.lock = Path(path), threading.Lock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.votes = read_votes(self.path) if self.path.exists() else []
        self.file = open(self.path, "ab", buffering=0)      # what is refused must not wait inside
        # Half a line from a crash would swallow the next vote: cut back to the last whole line.
        self.file.truncate(self.path.read_bytes().rfind(b"\n") + 1)

    def append(self, vote: dict) -> int:
        """Store one vote for good; returns how many there are now. Safe from many threads.

        A line of JSON in `self.file`: those of FIELDS and "seconds" that the vote has. It is on the
        disk (fsync) before `append` returns, and in `self.votes`. If the disk refuses it (OSError),
        the file is as it was before, and the same vote may be sent again.
        """
        line = json.dumps({field: vote[field] for field in (*FIELDS, "seconds") if field in vote},
                          ensure_ascii=False).encode() + b"\n"
        with self.lock:
            whole = os.fstat(self.file.fileno()).st_size
            try:
                # A nearly full disk takes part of a line: write on, until all of it is taken.
                left = memoryview(line)
                while left:
                    left = left[self.file.write(left):]
                # Only after fsync may the reader be thanked.
                os.fsync(self.file.fileno())
            except OSError:
                # Refused: no part of it may stay, or it would be counted beside the next try.
                self.file.truncate(whole)
                raise
            self.votes.append(vote)
            return len(self.votes)

    def close(self) -> None:
        """Close the file; votes are already safe."""
        self.file.close()
