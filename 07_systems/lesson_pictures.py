"""The lesson's three pictures: the ring, ZeRO's memory by rank, tiles with the online softmax.

    python 07_systems/lesson_pictures.py            # writes 07_systems/figures/*.png, 5 s

Every number in them is computed: the ring is played step by step, the bars are bytes_by_kind, the
tiles carry the running maximum and sum of one real row.
"""

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt                         # noqa: E402
import torch                                            # noqa: E402

from artifacts import CommandLine, command, shown, whole        # noqa: E402
from memory import bytes_by_kind                        # noqa: E402
from tiled_attention import online_softmax_step         # noqa: E402

BLUE, SAND, FAINT = "#4477aa", "#ccbb44", "#e6e6e6"


def ring_steps(ranks: int = 4) -> list[list[list[int]]]:
    """Who holds how many summands of which piece, after each step of a ring reduce-scatter.

    [step][rank][piece]: 1 at the start; in step s rank r sends piece r - s to its neighbour r + 1,
    who adds it to its own. After N - 1 steps rank r holds piece r + 1 as the sum of all N.
    """
    held = [[1] * ranks for _ in range(ranks)]
    steps = [[row[:] for row in held]]
    for step in range(ranks - 1):
        sent = [(rank, (rank - step) % ranks, held[rank][(rank - step) % ranks])
                for rank in range(ranks)]
        for rank, piece, summands in sent:
            held[(rank + 1) % ranks][piece] += summands
        steps.append([row[:] for row in held])
    return steps


def draw_ring(figure) -> None:
    """A reduce-scatter on four ranks: one small table for each step."""
    steps = ring_steps()
    for axes, (number, held) in zip(figure.subplots(1, len(steps)), enumerate(steps)):
        axes.imshow(held, cmap="Blues", vmin=0, vmax=6)
        for rank, row in enumerate(held):
            for piece, summands in enumerate(row):
                full = summands == len(row)
                axes.text(piece, rank, summands, ha="center", va="center",
                          weight="bold" if full else "normal", color="white" if full else "black")
                if number < len(steps) - 1 and piece == (rank - number) % len(row):
                    axes.add_patch(plt.Rectangle((piece - 0.46, rank - 0.46), 0.92, 0.92,
                                                 fill=False, color="#c2532f", linewidth=2))
        axes.set(xticks=range(4), xlabel="piece", yticks=range(4) if not number else [],
                 ylabel="rank" if not number else "")
        axes.set_title("start" if not number else f"after step {number}", fontsize=9)
    figure.suptitle("Numbers: how many ranks' gradients are in the sum. Red: sent to the next rank",
                    fontsize=9)


def draw_zero(figure, parameters: int = 7_000_000_000, ranks: int = 4) -> None:
    """7B on four ranks, fp32: what every rank holds, by stage."""
    axes = figure.subplots()
    colours = {"weights": BLUE, "gradients": "#66ccee", "optimizer": SAND}
    for stage in range(4):
        kinds = bytes_by_kind(parameters, "fp32", stage, ranks)
        for rank in range(ranks):
            at, bottom = stage * (ranks + 1) + rank, 0.0
            for kind, colour in colours.items():
                axes.bar(at, kinds[kind] / 1e9, bottom=bottom, color=colour, width=0.85,
                         label=kind if stage == rank == 0 else None)
                bottom += kinds[kind] / 1e9
        axes.text(stage * (ranks + 1) + 1.5, bottom + 2, f"{bottom:.0f} GB", ha="center")
    axes.set_ylim(0, 1.12 * sum(bytes_by_kind(parameters, "fp32", 0, ranks).values()) / 1e9)
    axes.set(xticks=[s * (ranks + 1) + 1.5 for s in range(4)], ylabel="GB on each rank",
             xticklabels=["data parallel", "ZeRO-1", "ZeRO-2", "ZeRO-3"],
             title="7 billion parameters on four ranks")
    axes.legend(frameon=False, fontsize=8)


def draw_tiles(figure, T: int = 8, tile: int = 2) -> None:
    """Causal scores in tiles: computed, masked, skipped; and one row's running softmax below."""
    axes = figure.subplots()            # one drawing, so that each sum stands below its tile
    row = 7
    scores = torch.tensor([[0.0, 1.0, 3.0, 2.0, 0.5, 4.0, 1.0, 2.0]])
    m, l, acc = torch.full((1,), -math.inf), torch.zeros(1), torch.zeros(1, 1)
    for first in range(0, T, tile):
        for top in range(0, T, tile):
            colour = FAINT if first > top else (SAND if first == top else BLUE)
            axes.add_patch(plt.Rectangle((first, T - top - tile), tile, tile, facecolor=colour,
                                          edgecolor="white", linewidth=2, alpha=0.85))
        m, l, acc = online_softmax_step(m, l, acc, scores[:, first:first + tile],
                                        torch.ones(tile, 1))
        axes.text(first + tile / 2, -0.55, f"m = {m.item():g}\nl = {l.item():.2f}", ha="center",
                   va="center", fontsize=9)
    axes.add_patch(plt.Rectangle((0, T - row - 1), T, 1, fill=False, edgecolor="#c2532f", lw=2))
    for column, score in enumerate(scores[0].tolist()):
        axes.text(column + 0.5, T - row - 0.5, f"{score:g}", ha="center", va="center", fontsize=8)
    axes.set(xlim=(-0.02, T + 0.02), ylim=(-1.1, T + 0.02), aspect="equal", xticks=[], yticks=[])
    axes.set_ylabel("queries", y=0.55)
    axes.set_xlabel("keys, two at a time: the red row's largest score m and sum l so far")
    axes.set_title("blue: no mask needed, sand: masked inside, grey: never computed", fontsize=9)
    axes.spines[:].set_visible(False)


FIGURES = {"ring": (draw_ring, (8.4, 3.1)), "zero_by_rank": (draw_zero, (6.4, 3.4)),
           "tiles": (draw_tiles, (5.2, 5.8))}


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "figures",
                        help="folder for the pictures")
    args = parser.parse_args()
    for name, (draw, size) in FIGURES.items():
        figure = plt.figure(figsize=size, layout="constrained")
        draw(figure)
        with whole(args.out / f"{name}.png", "wb") as file:
            figure.savefig(file, format="png", dpi=110)
        plt.close(figure)
        print(f"wrote {shown(args.out / f'{name}.png')}")


if __name__ == "__main__":
    command(main)
