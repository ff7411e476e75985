"""The funnel: what each step of the pipeline let through, as numbers and as a picture.

funnel.json holds {"steps": [{"name", "pages", "bytes", "tokens", "rejected", "seconds",
"reasons"}]}; `pages` and `bytes` are what LEFT the step, `seconds` CPU time over all processes.
"""

import json
from pathlib import Path

from artifacts import whole, write_json

EMPTY = {"pages": 0, "bytes": 0, "tokens": None, "rejected": 0, "seconds": 0.0}


class Funnel:
    """Steps in the order of the pipeline, with counts that parts add to, and samples of rejects."""

    def __init__(self, names: tuple[str, ...] = ()):
        self.steps: dict[str, dict] = {}
        self.samples: dict[str, list[dict]] = {}
        for name in names:
            self.step(name)

    def step(self, name: str) -> dict:
        """The counts of one step, created empty at the end of the list if new."""
        return self.steps.setdefault(name, {"name": name, **EMPTY, "reasons": {}})

    def add(self, counters: dict, per_reason: int = 20) -> None:
        """Add what one part counted: {step: {pages, bytes, rejected, seconds, reasons, samples}}.

        Of the samples at most `per_reason` are kept for each kind of reason.
        """
        for name, count in counters.items():
            step = self.step(name)
            for key in ("pages", "bytes", "rejected", "seconds"):
                step[key] += count[key]
            for reason, n in count["reasons"].items():
                step["reasons"][reason] = step["reasons"].get(reason, 0) + n
            kept = self.samples.setdefault(name, [])
            for sample in count["samples"]:
                kind = sample["reason"].split(": ")[0]
                if sum(s["reason"].split(": ")[0] == kind for s in kept) < per_reason:
                    kept.append(sample)

    def write(self, folder: Path, extra: dict | None = None) -> None:
        """Write funnel.json, funnel.png and rejects/<step>.jsonl into `folder`."""
        steps = [dict(s, seconds=round(s["seconds"], 2),
                      reasons=dict(sorted(s["reasons"].items(), key=lambda x: (-x[1], x[0]))))
                 for s in self.steps.values()]
        write_json(folder / "funnel.json", {"steps": steps, **(extra or {})})
        for old in (folder / "rejects").glob("*.jsonl"):
            old.unlink()
        for name, samples in self.samples.items():
            if samples:
                with whole(folder / "rejects" / f"{name.replace(' ', '_')}.jsonl") as file:
                    for sample in samples:
                        file.write(json.dumps(sample, ensure_ascii=False) + "\n")
        draw(steps, folder / "funnel.png")

    def table(self) -> str:
        """The funnel as lines of text for the terminal."""
        rows = [f"{'after step':<20} {'pages':>9} {'MB':>9} {'rejected':>9}  most frequent reason"]
        for s in self.steps.values():
            reason = max(s["reasons"].items(), key=lambda x: x[1], default=("", 0))
            most = f"{reason[0]} ({reason[1]:,})" if reason[1] else ""
            rows.append(f"{s['name']:<20} {s['pages']:>9,} {s['bytes'] / 1e6:>9.2f} "
                        f"{s['rejected']:>9,}  {most}")
        return "\n".join(rows)


def save_figure(figure, path: Path) -> None:
    """Write a figure as .png, whole or not at all; the same numbers give the same bytes."""
    import matplotlib.pyplot as plt
    figure.tight_layout()
    with whole(path, "wb") as file:
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    plt.close(figure)


def draw(steps: list[dict], path: Path) -> None:
    """Two rows of bars, pages and megabytes after each step, with the numbers beside them."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    names = [s["name"] for s in steps]
    figure, axes = plt.subplots(1, 2, figsize=(11, 0.34 * len(steps) + 1.4), sharey=True)
    for axis, key, unit, color in ((axes[0], "pages", 1, "#4878a8"),
                                   (axes[1], "bytes", 1e6, "#b8683c")):
        values = [s[key] / unit for s in steps]
        axis.barh(range(len(steps)), values, color=color)
        for i, value in enumerate(values):
            label = f"{value:,.0f}" if unit == 1 or value >= 100 else f"{value:,.2f}"
            axis.text(value, i, f" {label}", va="center", fontsize=8)
        axis.set_xlim(0, max(values, default=1) * 1.18 or 1)
        axis.set_xlabel("pages left" if key == "pages" else "megabytes left")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(steps)), names, fontsize=8)
    axes[0].invert_yaxis()
    figure.suptitle("What each step of the pipeline lets through", fontsize=11)
    save_figure(figure, path)
