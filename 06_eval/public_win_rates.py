"""What 223 published win rates say about length: AlpacaEval 2's board, with control and without.

    python 06_eval/public_win_rates.py                      # the table, two seconds
    python 06_eval/public_win_rates.py --figure win_rates.svg

Reads recorded/alpaca_eval_2.csv: for each model the share of 805 questions on which GPT-4 preferred
it to gpt-4-1106-preview, the same after length control, and how many characters it wrote. Numbers
only, from the leaderboard file of the package alpaca_eval 0.6.6 (tatsu-lab, Apache 2.0; judged by
weighted_alpaca_eval_gpt4_turbo). The board's first place answers every question with one and the
same text that confuses the judge (Zheng et al. 2024, arXiv 2410.07137): what an automatic judge
rewards is not always an answer. But: single judgements are not here, so nothing is refitted.
"""

import csv
from pathlib import Path

import numpy as np

from artifacts import CommandLine, command, shown, whole
from judge import rank_correlation

RECORDED = Path(__file__).parent / "recorded" / "alpaca_eval_2.csv"


def load_board(path: Path = RECORDED) -> list[dict]:
    """The rows of the board: model, win_rate and length_controlled (per cent), characters."""
    with open(path, encoding="utf-8", newline="") as file:
        return [{"model": row["model"], **{key: float(row[key]) for key in (
            "win_rate", "length_controlled", "characters")}} for row in csv.DictReader(file)]


def twins(board: list[dict], endings: tuple[str, str] = ("_concise", "_verbose")) -> list[dict]:
    """Models that were asked plainly, and once more for short and for long answers: their rows
    side by side, {"model", "plain", "concise", "verbose"}."""
    by_name = {row["model"]: row for row in board}
    found = []
    for name, row in by_name.items():
        short, long = (by_name.get(name + ending) for ending in endings)
        if short and long:
            found.append({"model": name, "plain": row, "concise": short, "verbose": long})
    return found


def summary(board: list[dict]) -> dict[str, float]:
    """How far the two rates follow length (Spearman, without the constant answer), and by how
    many points control moves a model on average."""
    rows = [row for row in board if row["model"] != "NullModel"]
    raw, controlled, length = (np.array([row[key] for row in rows]) for key in (
        "win_rate", "length_controlled", "characters"))
    return {"models": len(board), "raw_and_length": rank_correlation(raw, length),
            "controlled_and_length": rank_correlation(controlled, length),
            "mean_move": float(np.abs(raw - controlled).mean()),
            "largest_move": float(np.abs(raw - controlled).max())}


def draw(board: list[dict], path: Path) -> None:
    """Win rate against length, each model joined to its controlled rate."""
    import matplotlib
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "06"
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    length, raw, controlled = (np.array([row[key] for row in board]) for key in (
        "characters", "win_rate", "length_controlled"))
    axes.vlines(length, raw, controlled, color="#999999", linewidth=0.6, alpha=0.6)
    axes.plot(length, raw, "o", color="#c2532f", markersize=3, label="as judged")
    axes.plot(length, controlled, "o", color="#315f9c", markersize=3, label="length-controlled")
    for row in board:
        if row["model"] == "NullModel":
            axes.annotate("one constant answer", (row["characters"], row["length_controlled"]),
                          textcoords="offset points", xytext=(8, -3), fontsize=8)
    axes.set(xscale="log", xlabel="characters of an answer", ylabel="win rate, per cent")
    axes.set_xticks([100, 300, 1000, 3000], ["100", "300", "1,000", "3,000"])
    axes.set_xticks([], minor=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with whole(path, "wb") as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150, metadata={"Date": None}
                       if path.suffix == ".svg" else None)
    pyplot.close(figure)


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--figure", type=Path, help="a .svg or .png file to draw into")
    args = parser.parse_args()
    board = load_board()
    told = summary(board)
    print(f"{told['models']} models on AlpacaEval 2; rank correlation with length: as judged "
          f"{told['raw_and_length']:.2f}, length-controlled {told['controlled_and_length']:.2f}")
    print(f"control moves a model by {told['mean_move']:.1f} points on average, by "
          f"{told['largest_move']:.1f} at most")
    print("the same model asked for short, plain and long answers: as judged, then controlled")
    for row in twins(board):
        parts = [row[kind] for kind in ("concise", "plain", "verbose")]
        print(f"   {row['model']:28s}" + " ".join(f"{p['win_rate']:5.1f}" for p in parts) + "   "
              + " ".join(f"{p['length_controlled']:5.1f}" for p in parts))
    first = board[0]
    print(f"first place: {first['model']} with {first['length_controlled']:.1f} per cent, "
          f"{first['characters']:.0f} characters, the same ones for every question")
    if args.figure:
        draw(board, args.figure)
        print(f"wrote {shown(args.figure)}")


if __name__ == "__main__":
    command(main)
