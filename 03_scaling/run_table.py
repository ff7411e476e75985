"""Tables of training runs: read any csv of sizes, tokens or FLOPs, and losses; write our own.

    N, D, L = load_points("runs.csv")

Columns are found by their usual names (params_products, params, parameters, N; tokens, D;
flops, training_flops, C; loss, L). Of tokens and FLOPs one is enough: C = 6 N D gives the other.
"""

import csv
import math
from pathlib import Path

import numpy as np

from artifacts import BadInput, need, out, read_json, shown, whole

NAMES = {"N": ("params_products", "params", "parameters", "n", "model size", "n_params"),
         "D": ("tokens", "d", "training_tokens", "n_tokens"),
         "C": ("flops", "training_flops", "training flop", "c", "compute"),
         "L": ("loss", "l", "val_loss", "validation_loss")}
COLUMNS = ("run", "family", "budget_flops", "params_non_embedding", "params", "tokens", "flops",
           "loss", "seed", "learning_rate", "seconds", "width", "layers",
           "params_products", "whole_loss", "unique_tokens")


def read_rows(path: Path | str, made_by: str = "03_scaling/sweep.py") -> list[dict[str, str]]:
    """The rows of a csv file as dicts, column names as they stand; BadInput if it is no csv."""
    return [row for _, row in numbered_rows(path, made_by)]


def numbered_rows(path: Path | str, made_by: str) -> list[tuple[int, dict[str, str]]]:
    """`read_rows`, each with the line of the file where it ends: empty lines are no rows, and a
    quoted cell may hold several."""
    path = need(path, made_by)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (csv.Error, UnicodeDecodeError) as why:
        raise BadInput(f"{shown(path)} is not a csv file in UTF-8 ({why}): give another") from why
    if not rows:
        raise BadInput(f"{shown(path)} has no rows below its header: run python {made_by}")
    return rows


def load_points(path: Path | str, fewest: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, D, L) from a csv: parameters, tokens, loss in nats; each (n,), in the file's order.

    Runs of the family "repeat" are left out: they read their tokens twice. BadInput, with the
    line, for a missing column, a value that is no positive number, or fewer than `fewest` runs.
    """
    numbered = numbered_rows(path, "03_scaling/sweep.py")
    header, column = numbered[0][1], {}
    for symbol, names in NAMES.items():
        found = sorted((key for key in header if key and key.strip().lower() in names),
                       key=lambda key: names.index(key.strip().lower()))
        if found:
            column[symbol] = found[0]
    if "D" in column:
        column.pop("C", None)
    missing = [s for s in ("N", "L") if s not in column]
    if not {"D", "C"} & column.keys():
        missing.append("D or C")
    if missing:
        raise BadInput(f"{shown(path)} has no column for {', '.join(missing)}; it has "
                       f"{', '.join(k for k in header if k)}: name them params, tokens, loss")
    points = []
    for line, row in numbered:
        values = {}
        if row.get("family") == "repeat":
            continue
        for symbol, name in column.items():
            try:
                values[symbol] = float(row[name])
            except (TypeError, ValueError):
                values[symbol] = math.nan
            if not 0 < values[symbol] < math.inf:
                raise BadInput(f"{shown(path)}:{line}: {name} is {row[name]!r}, not a positive "
                               "number: mend or delete the line")
        D = values["D"] if "D" in values else values["C"] / (6 * values["N"])
        points.append((values["N"], D, values["L"]))
    if len(points) < fewest:
        raise BadInput(f"{shown(path)} has {len(points)} runs, and a law needs {fewest}: "
                       "run python 03_scaling/sweep.py")
    N, D, L = np.array(points).T
    return N, D, L


def measured_here(claim: str, by: str = "") -> bool:
    """True if this claim was recorded from runs of this machine, not from committed ones.

    `by`: only if it was this command's, for claims that two chapters answer.
    """
    path = out("claims", f"{claim}.json")
    command = read_json(path, "03_scaling/sweep.py")["command"] if path.exists() else "--recorded"
    return command.startswith(by) and "--recorded" not in command


def write_rows(path: Path | str, rows: list[dict], columns: tuple[str, ...] = COLUMNS) -> None:
    """Write runs with these columns, whole or not at all; numbers as short as they can be."""
    with whole(path) as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()
                             if k in columns})
