"""Train a page classifier: quality, nsfw or harmful. Prints AUC, calibration and what is kept.

    python 02_data/train_classifier.py quality                    # from the corpus; 10 s
    python 02_data/train_classifier.py quality --positives wiki.txt --negatives crawl.txt
    python 02_data/train_classifier.py harmful --jigsaw train.csv

Example files: one text per line, or jsonl with "text". Every number is measured on examples that
the model did not see (five folds). Writes out/02_data/<kind>.npz and <kind>.png, for
`build_corpus --quality-model`, `--nsfw-model` and `--harmful-model`.
"""

from pathlib import Path

import numpy as np

from artifacts import BadInput, CommandLine, Job, command, need, out, shown, within
from dirty_words import rude_words
from funnel import save_figure
from hashed_linear import auc, calibration, fit
from parts import read_pages
from quality import LABELS, default_examples, keep_rate
from safety import load_examples, load_jigsaw
from sources import read_source


def read_examples(paths: list[Path]) -> list[str]:
    """The texts of example files: each line of a text file, or each "text" of a jsonl."""
    texts = []
    for path in paths:
        need(path, "any tool that writes one text per line")
        for _, _, body, _ in read_source(path):
            text = body.decode("utf-8", "replace")
            texts += [text] if ".json" in path.name else text.splitlines()
    return [text for text in texts if text.strip()]


def out_of_fold(positives: list[str], negatives: list[str], l2: float,
                folds: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """(scores, labels) of all examples, each scored by a model trained without its fold."""
    rows = [(t, 1) for t in positives] + [(t, 0) for t in negatives]
    order = np.random.default_rng(0).permutation(len(rows))
    fold = np.empty(len(rows), int)
    fold[order] = np.arange(len(rows)) % folds
    scores = np.zeros(len(rows))
    for k in range(folds):
        model = fit([t for (t, y), f in zip(rows, fold) if f != k and y],
                    [t for (t, y), f in zip(rows, fold) if f != k and not y], l2=l2)
        for i in np.flatnonzero(fold == k):
            scores[i] = model.score(rows[i][0])
    return scores, np.array([y for _, y in rows])


def draw(path: Path, kind: str, scores: np.ndarray, y: np.ndarray) -> None:
    """Calibration on the left, keep rates by threshold on the right."""
    import matplotlib.pyplot as plt
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    rows, gap = calibration(scores, y)
    left.plot([0, 1], [0, 1], color="#999999", lw=1)
    left.plot([r[0] for r in rows], [r[1] for r in rows], "o-", color="#4878a8")
    left.set(xlabel="predicted probability", ylabel="share really positive",
             title=f"{kind}: calibration gap {gap:.3f}")
    curve = keep_rate(scores, y)
    right.plot([c[0] for c in curve], [c[1] for c in curve], color="#4878a8", label="positives")
    right.plot([c[0] for c in curve], [c[2] for c in curve], color="#b8683c", label="negatives")
    right.set(xlabel="threshold", ylabel="share at or above", title="what a threshold keeps")
    right.legend()
    save_figure(figure, path)


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("kind", choices=["quality", "nsfw", "harmful"], help="what it tells apart")
    add = parser.add_argument_group("examples").add_argument
    add("--positives", nargs="+", type=Path, default=[], help="files of positive texts")
    add("--negatives", nargs="+", type=Path, default=[], help="files of negative texts")
    add("--jigsaw", type=Path, help="Jigsaw's train.csv, for nsfw and harmful")
    add("--corpus", type=Path, default=out("02_data", "corpus.jsonl.gz"),
        help="where quality takes its default examples from")
    add = parser.add_argument_group("training").add_argument
    add("--l2", type=within(low=0), default=3e-5, help="weight decay")
    add("--out", type=Path, default=out("02_data"))
    add("--fresh", action="store_true", help="train again even if up to date")
    args = parser.parse_args()
    target = args.out / f"{args.kind}.npz"
    given = bool(args.positives)
    if given != bool(args.negatives):
        raise BadInput("give both --positives and --negatives: a classifier needs the contrast")
    if args.jigsaw and (args.kind == "quality" or given):
        raise BadInput("--jigsaw holds examples for nsfw or harmful: not for quality, and not "
                       "together with --positives")
    inputs = [*args.positives, *args.negatives, *([args.jigsaw] if args.jigsaw else []),
              *([args.corpus] if args.kind == "quality" and not given else [])]
    job = Job(__file__, vars(args), reads=inputs, writes=[target, target.with_suffix(".png")])
    if job.up_to_date():
        return

    if given:
        positives, negatives = read_examples(args.positives), read_examples(args.negatives)
    elif args.kind == "quality":
        need(args.corpus, "02_data/build_corpus.py")
        positives, negatives = default_examples(page["text"] for page in read_pages(args.corpus))
    elif args.jigsaw:
        positives, negatives = load_jigsaw(args.jigsaw, args.kind)
    else:
        positives, negatives = load_examples(args.kind)
    if min(len(positives), len(negatives)) < 10:
        raise BadInput(f"{len(positives)} positive and {len(negatives)} negative texts are too "
                       "few: give ten of each at least")
    if args.kind != "quality":
        positives, negatives = ([rude_words(t) for t in texts] for texts in (positives, negatives))
    scores, y = out_of_fold(positives, negatives, args.l2)
    rows, gap = calibration(scores, y)
    print(f"{len(positives):,} positive and {len(negatives):,} negative texts, five folds")
    print(f"AUC {auc(scores[y == 1], scores[y == 0]):.3f}, calibration gap {gap:.3f}")
    print("threshold   positives kept   negatives kept")
    for threshold, kept, wrong in keep_rate(scores, y)[2::4]:
        print(f"{threshold:9.2f} {kept:16.1%} {wrong:16.1%}")
    labels = LABELS if args.kind == "quality" else (args.kind, "clean")
    fit(positives, negatives, l2=args.l2, labels=labels).save(target)
    draw(args.out / f"{args.kind}.png", args.kind, scores, y)
    job.done()
    print(f"wrote {shown(target)} and {args.kind}.png")


if __name__ == "__main__":
    command(main)
