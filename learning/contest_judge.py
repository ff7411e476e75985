"""Inside the clean copy of a contest: train the entry, then judge what it predicts.

The answers go out on the real standard output; what the entry prints goes with them, and only
lines of this file's form count: `curve SECONDS LOSS`, and one JSON object at each stage.
"""

import json
import math
import os
import sys
from pathlib import Path

from learning.write_fence import fence


def cpu_seconds() -> float:
    """CPU time of this process and of the children that it has waited for."""
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system


def tell(**what) -> None:
    print(json.dumps(what), flush=True)


def main(seconds: float, home: str, hidden: str) -> None:
    """Train within `seconds` of CPU time, then read the held-out windows and score them."""
    import torch
    torch.set_num_threads(1)
    fence(home, hidden, str(Path("the_entry.py").resolve()))
    import the_entry
    began = cpu_seconds()
    model = the_entry.train(Path("data"), seconds)
    used = cpu_seconds() - began
    if used > 1.02 * seconds + 1:
        return tell(refused=f"trained for {used:.0f} CPU seconds, {seconds:.0f} are allowed")
    tell(trained=True, cpu_seconds=round(used, 1))
    held = json.loads(sys.stdin.readline())

    def rows(ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return the_entry.next_log_probabilities(model, torch.tensor(ids)).double()

    if said := unsound(rows, held["vocab_size"]):
        return tell(refused=said)
    nats = 0.0
    for window in held["windows"]:
        log_p = rows(window[:-1])
        total = log_p.logsumexp(-1).abs().max().item()
        if log_p.shape != (len(window) - 1, held["vocab_size"]) or not total < 1e-3:
            return tell(refused=f"probabilities sum to exp({total:.4f}), not to one")
        nats -= log_p[torch.arange(len(window) - 1), torch.tensor(window[1:])].sum().item()
    if not math.isfinite(nats):
        return tell(refused="a held-out token has no probability at all")
    judged = cpu_seconds() - began - used
    if judged > max(30.0, seconds):
        return tell(refused=f"{judged:.0f} CPU seconds for predicting: that is training")
    tell(bits_per_byte=nats / math.log(2) / held["bytes"], cpu_seconds=round(used, 1),
         judging_seconds=round(judged, 1))


def unsound(rows, vocab_size: int) -> str:
    """Why these are no predictions, from random windows: later tokens may change nothing."""
    import torch
    for trial in range(3):
        ids = torch.randint(vocab_size, (64,)).tolist()
        other = ids[:40] + torch.randint(vocab_size, (24,)).tolist()
        if not torch.allclose(rows(ids)[:40], rows(other)[:40], atol=1e-3):
            return "a prediction changes with tokens that come after it"
    return ""
