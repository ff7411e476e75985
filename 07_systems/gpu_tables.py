"""What was measured on a GPU, as the lesson's table: each number beside the one to reach.

    python 07_systems/gpu_benchmark.py --show

A row without a measurement says so. Whether a goal is met is computed here, from the raw JSON.
"""


def attention_cell(tables: dict, head: int, length: int, way: str) -> tuple[str, bool] | None:
    """Our TFLOP/s and the ratios to the rivals, and whether the floor is reached."""
    floors = {"forward": (480, 1.4, 0.85), "backward": (340, 1.1, 0.0)}[way]
    row = next((r for r in (tables.get("attention") or {"rows": []})["rows"]
                if (r["head"], r["length"]) == (head, length)), None)
    if row is None or "error" in row["ours"]:
        return None
    ours = row["ours"][f"{way}_tflops"]
    ratios = [ours / row[name][f"{way}_tflops"] if "error" not in row[name] else float("nan")
              for name in ("FlashAttention-2", "cuDNN")]
    return (f"{ours:.0f} TFLOP/s, {ratios[0]:.2f} x FlashAttention-2, {ratios[1]:.2f} x cuDNN",
            ours >= floors[0] and ratios[0] >= floors[1] and (way == "backward"
                                                              or ratios[1] >= floors[2]))


def class_shape(tables: dict) -> tuple[str, bool] | None:
    """Forward and backward of one sequence of 16k, 16 heads of 64."""
    for row in (tables.get("attention") or {"rows": []})["rows"]:
        if (row["batch"], row["head"], row["length"]) == (1, 64, 16384) and "both" in row["ours"]:
            ms = row["ours"]["both"]["ms"]
            return f"{ms:.2f} ms", ms <= 5.0
    return None


def memory_bound(tables: dict) -> tuple[str, bool] | None:
    """The slowest of RMSNorm and SwiGLU, beside the copy."""
    table = tables.get("rows")
    if not table:
        return None
    speeds = {r["kernel"]: r["ours"]["tb_s"] for r in table["rows"]
              if r["kernel"].startswith(("RMSNorm", "SwiGLU"))}
    slowest = min(speeds, key=speeds.get)
    copy = table["ceilings"]["copy_tb_s"]
    return (f"{speeds[slowest]:.2f} TB/s at least ({slowest}); a copy {copy:.2f}",
            speeds[slowest] >= 3.9 / 4.3 * copy)


def loss_memory(tables: dict) -> tuple[str, bool] | None:
    """Peak memory and time of the chunked loss beside torch's."""
    if not tables.get("loss"):
        return None
    by_way = {row["way"]: row for row in tables["loss"]["rows"]}
    ours, rival = by_way["ours, chunked"], by_way["torch"]
    saved, slower = 1 - ours["peak_bytes"] / rival["peak_bytes"], ours["ms"] / rival["ms"]
    return f"{saved:.0%} less memory at {slower:.2f} x the time", saved >= 0.6 and slower <= 1.05


def tokens(tables: dict, rung: str, floor: float) -> tuple[str, bool] | None:
    """Tokens per second of one rung of the training ladder."""
    for row in (tables.get("training") or {"rows": []})["rows"]:
        if row["rung"] == rung and "mfu" in row:
            return (f"{row['tokens_per_second'] / 1e3:.0f}k tokens/s, MFU {row['mfu']:.0%}",
                    row["tokens_per_second"] >= floor)
    return None


def seven_b(tables: dict) -> tuple[str, bool] | None:
    """Bytes per parameter of a real 6.7B step."""
    table = tables.get("seven_b")
    if not table:
        return None
    per = table["bytes_per_parameter"]
    return f"{per:.2f} bytes per parameter, peak {table['peak_bytes'] / 1e9:.0f} GB", \
        abs(per - 16) <= 0.1


GOALS = [
    ("attention forward, causal, D 128, T 8k", "480 TFLOP/s, 1.4 x FlashAttention-2, 0.85 x cuDNN",
     lambda t: attention_cell(t, 128, 8192, "forward")),
    ("attention backward, same", "340 TFLOP/s, 1.1 x FlashAttention-2",
     lambda t: attention_cell(t, 128, 8192, "backward")),
    ("batch 1, 16 heads, D 64, T 16k, both", "5.0 ms", class_shape),
    ("RMSNorm, SwiGLU", "3.9 TB/s of the 4.3 that a copy reaches", memory_bound),
    ("linear + cross-entropy", "60 % less memory at 1.05 x the time", loss_memory),
    ("GPT-2 124M, plain torch", "500k tokens/s", lambda t: tokens(t, "torch.compile", 500e3)),
    ("GPT-2 124M, our kernels", "550k tokens/s", lambda t: tokens(t, "our attention", 550e3)),
    ("6.7B fp32 AdamW step", "16.0 +- 0.1 bytes per parameter", seven_b)]


def lines(tables: dict) -> list[str]:
    """The table in Markdown, a line each."""
    made = ["| what | to reach | measured | reached |", "|---|---|---|---|"]
    for what, floor, cell in GOALS:
        found = cell(tables)
        measured, reached = found or ("not measured", None)
        answer = {True: "yes", False: "no", None: ""}[reached]
        made.append(f"| {what} | {floor} | {measured} | {answer} |")
    return made


def show(tables: dict) -> None:
    """Print the lesson's table, what it was measured on, and the best tiles if they were tried."""
    print("\n".join(lines(tables)))
    for name, table in tables.items():
        if table:
            on = table["machine"]
            print(f"{name}: {on['gpu']}, torch {on['torch']}, triton {on['triton']}")
    for row in (tables.get("tune") or {"rows": []})["rows"]:
        print(f"{row['kernel']:8s} D {row['head']:<4d} {str(row['tile']):28s} {row['ms']:8.3f} ms")
