"""Does a law fitted on small runs choose the better mixture of domains? Measured on the corpus.

    python 02_data/mix_domains.py           # about 1 minute

Reads train.bin and index.json of the built corpus; writes out/02_data/mix.json and mix.png.

64 small counting models (ngram.py, order 4) are trained on 64 mixtures; the loss of each is
predicted by an exponential law fitted on others. Then the natural mixture, the uniform one, the
law's optimum under the cap on repetition and DoReMi's are trained at a larger budget, three seeds
each. The judge is the mean loss over domains, each domain as important as the others.

Left out: a transformer. Chapter 4 may give these weights to its own batches.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from artifacts import (BadInput, CommandLine, Job, command, need, out, read_json, record_claim,
                       shown, within, write_json)
from ngram import NgramModel
from dedup import digest64
from funnel import save_figure
from mixture import (cap_weights, choose_power, cross_predict, doremi_update, fit_mixing_law,
                     optimise, repetition_caps, sample_mixtures)
from parts import bounded_map

PIECE = 256             # tokens drawn together
_shared: list = []      # pools, tests, vocabulary size: what every worker process knows
SMALLEST = 100_000      # tokens; a domain with fewer cannot be judged


def load_domains(folder: Path, index: dict) -> dict[str, list[np.ndarray]]:
    """The training documents of each domain that is large enough, as arrays of token ids.

    BadInput if train.bin is not what its index describes: cut off, or of another type.
    """
    split, path = index["splits"]["train"], folder / "train.bin"
    width = {"uint16": "<u2", "uint32": "<u4"}.get(index.get("dtype"))
    size = path.stat().st_size
    if not width or not size or size != split["tokens"] * np.dtype(width).itemsize:
        raise BadInput(f"{shown(path)} has {size} bytes, its index says {split['tokens']} tokens "
                       f"of type {index.get('dtype')}: run python 02_data/build_corpus.py")
    ids = np.memmap(path, width, "r")
    documents: dict[str, list[np.ndarray]] = {}
    rows = split["documents"]
    for start, length, domain in zip(rows["start"], rows["length"], rows["domain"]):
        documents.setdefault(index["domains"][domain], []).append(ids[start:start + length])
    return {name: found for name, found in sorted(documents.items())
            if sum(map(len, found)) >= SMALLEST}


def hold_out(documents: list[np.ndarray], most: int) -> tuple[np.ndarray, np.ndarray]:
    """(held-out ids, the rest) of one domain: a tenth of the documents by hash of their text."""
    held, rest = [], []
    for document in documents:
        key = digest64(document[:64].tobytes().hex())
        (held if key < 0.1 * 2**64 else rest).append(document)
    if not held or not rest:             # few documents: the first tenth of their tokens
        ids = np.concatenate(documents)
        return ids[:len(ids) // 10][:most], ids[len(ids) // 10:]
    return np.concatenate(held)[:most], np.concatenate(rest)


def draw_mixture(pools: list[np.ndarray], weights: np.ndarray, budget: int,
                 seed: int) -> np.ndarray:
    """`budget` tokens: from each pool its share, in pieces of PIECE tokens, round and round.

    The order of the pieces depends on the seed alone, not on the weights: a mixture with more of a
    domain holds what one with less of it holds. Without that, luck in the draw hides the law.
    """
    chosen = []
    for i, (pool, weight) in enumerate(zip(pools, weights)):
        piece = max(1, min(PIECE, len(pool)))         # a small pool is a piece
        count = int(round(weight * budget / piece))
        if count and not len(pool):
            raise BadInput(f"domain {i} has a weight of {weight:g} and no tokens to draw")
        order = np.random.default_rng([seed, i]).permutation(len(pool) // piece)
        which = np.take(order, np.arange(count), mode="wrap") if count else order[:0]
        chosen.append(pool[: len(order) * piece].reshape(-1, piece)[which].reshape(-1))
    return np.concatenate(chosen)


def losses(pools, tests, weights, budget, vocab_size, seed) -> np.ndarray:
    """Nats per token on each domain's held-out text after training on one mixture: (D,)."""
    ids = draw_mixture(pools, weights, budget, seed)
    model = NgramModel(ids, vocab_size, order=4)
    return np.array([-model.log_probabilities(test).mean() for test in tests])


def share(*data) -> None:
    """Note in a worker process the pools, tests and vocabulary size that all its tasks need."""
    _shared[:] = data


def losses_of(task: tuple) -> np.ndarray:
    """`losses` of (weights, budget, seed) on what is shared."""
    weights, budget, seed = task
    pools, tests, vocab_size = _shared
    return losses(pools, tests, weights, budget, vocab_size, seed)


def doremi(pools, tests, natural, budget, vocab_size, steps: int = 8) -> np.ndarray:
    """DoReMi's weights: the mean over steps of weights that follow the excess loss."""
    reference = losses(pools, tests, natural, budget, vocab_size, 900)
    w, path = np.full(len(pools), 1 / len(pools)), []
    for step in range(steps):
        proxy = losses(pools, tests, w, budget, vocab_size, 901 + step)
        w = doremi_update(w, proxy - reference)
        path.append(w)
    return np.mean(path, 0)


def draw(path: Path, predicted: np.ndarray, measured: np.ndarray, names: list[str],
         chosen: dict[str, np.ndarray], results: dict[str, list[float]]) -> None:
    """Predicted against measured loss on the left, the four mixtures and their losses right."""
    import matplotlib.pyplot as plt
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    left.plot(measured.mean(1), predicted.mean(1), "o", color="#4878a8")
    ends = [measured.mean(1).min(), measured.mean(1).max()]
    left.plot(ends, ends, color="#999999", lw=1)
    left.set(xlabel="measured mean loss (nats per token)", ylabel="predicted",
             title="mixtures the law has not seen")
    base = np.zeros(len(chosen))
    for i, name in enumerate(names):
        share = np.array([w[i] for w in chosen.values()])
        right.barh(range(len(chosen)), share, left=base, label=name)
        base += share
    right.set_yticks(range(len(chosen)), [f"{k}\n{np.mean(results[k]):.3f} nats" for k in chosen])
    right.set(xlabel="share of the training tokens", title="four mixtures and their losses")
    right.legend(fontsize=7, ncol=len(names), loc="upper center", bbox_to_anchor=(0.45, -0.18))
    right.invert_yaxis()
    save_figure(figure, path)


def parse() -> argparse.Namespace:
    """The options."""
    parser = CommandLine(__doc__)
    parser.add_argument("--data", type=Path, default=out("02_data"), help="shards and index.json")
    parser.add_argument("--mixtures", type=within(int, low=8), default=64,
                        help="small models to train")
    parser.add_argument("--small", type=within(int, low=1), default=300_000,
                        help="tokens of a small model")
    parser.add_argument("--large", type=within(int, low=1), default=1_500_000,
                        help="tokens of a final model")
    parser.add_argument("--seeds", type=within(int, low=1), default=3,
                        help="final models per mixture")
    parser.add_argument("--workers", type=within(int, low=1), default=os.cpu_count() or 1)
    parser.add_argument("--fresh", action="store_true", help="measure again even if up to date")
    parser.add_argument("--quick", action="store_true", help="24 mixtures of 100,000 tokens")
    args = parser.parse_args()
    if args.quick:
        args.mixtures, args.small, args.large = 24, 100_000, 300_000
    return args


def main() -> None:
    args = parse()
    index = read_json(args.data / "index.json", "02_data/build_corpus.py")
    inputs = [args.data / "index.json", need(args.data / "train.bin", "02_data/build_corpus.py")]
    target = args.data / "mix.json"
    job = Job(__file__, vars(args), reads=inputs, writes=[target, args.data / "mix.png"])
    if job.up_to_date():
        return

    domains = load_domains(args.data, index)
    names, vocab = list(domains), index["vocab_size"]
    if len(names) < 2:
        raise BadInput(f"{shown(args.data)} has {len(names)} domains of {SMALLEST:,} tokens or "
                       "more, and two are needed to mix: build a larger corpus")
    held = [hold_out(documents, 30_000) for documents in domains.values()]
    tests, pools = [h[0] for h in held], [h[1] for h in held]
    sizes = np.array([len(pool) for pool in pools])
    natural = sizes / sizes.sum()
    try:
        caps = repetition_caps(sizes, args.large)
    except ValueError as error:
        raise BadInput(f"{error}: give a smaller --large") from None
    # 1. small models on many mixtures; each is predicted by a law fitted without it
    mixtures = sample_mixtures(natural, args.mixtures)
    mixtures = mixtures[np.random.default_rng(0).permutation(len(mixtures))]
    data, many = (pools, tests, vocab), args.workers
    table = np.array(list(tqdm(bounded_map(
        losses_of, ((w, args.small, 100) for w in mixtures), many, share, data),
        desc="small models", total=len(mixtures), disable=None)))
    predicted = cross_predict(mixtures, table)
    published = cross_predict(mixtures, table, powers=(1.0,))
    r, r_published = (float(np.corrcoef(p.mean(1), table.mean(1))[0, 1])
                      for p in (predicted, published))
    error = float(np.abs(predicted - table).mean())
    law = fit_mixing_law(mixtures, table, power=choose_power(mixtures, table))
    # 2. four mixtures at the larger budget
    chosen = {"natural": natural, "uniform": cap_weights(np.ones(len(names)), caps),
              "law's optimum": optimise(law, caps),
              "DoReMi": cap_weights(doremi(pools, tests, natural, args.small, vocab), caps)}
    finals = list(tqdm(bounded_map(
        losses_of, ((w, args.large, seed) for w in chosen.values() for seed in range(args.seeds)),
        many, share, data), desc="final models", total=len(chosen) * args.seeds, disable=None))
    results = {name: [float(x.mean()) for x in finals[i * args.seeds:(i + 1) * args.seeds]]
               for i, name in enumerate(chosen)}

    print(f"mixtures the law has not seen: correlation {r:.3f}, mean error {error:.4f} nats (law "
          f"in r^{law.power:g}; the published one, in r: {r_published:.3f})")
    for name, w in chosen.items():
        shares = ", ".join(f"{n} {x:.0%}" for n, x in zip(names, w))
        print(f"{name:14} {np.mean(results[name]):.4f} +- {np.std(results[name]):.4f} nats   "
              f"({shares})")
    gain = np.array(results["natural"]) - np.array(results["law's optimum"])
    write_json(target, {
        "domains": names, "mixtures": {k: list(map(float, w)) for k, w in chosen.items()},
        "losses": results, "correlation": r, "correlation_published": r_published,
        "mean_error": error, "power": law.power, "caps": list(map(float, caps)),
        "tried": mixtures.tolist(), "tried_losses": table.tolist()})
    draw(args.data / "mix.png", predicted, table, names, chosen, results)
    claim(r, gain, {"domains": names, "mean_error": error, "power": law.power})
    job.done()
    print(f"wrote {shown(target)} and mix.png")


def claim(r: float, gain: np.ndarray, details: dict) -> None:
    """Note whether the law ranks unseen mixtures (correlation `r`), and whether its optimum beats
    the natural mixture (`gain` in nats, one a seed)."""
    good_law, gains = r >= 0.9, gain.mean() > 2 * gain.std() and gain.mean() > 0
    record_claim(
        "domain-mix", measured="counting models: law fitted on small runs predicts others, "
        "then its optimum against the natural mixture at a larger budget, mean loss over domains",
        value={"correlation": round(r, 3), "gain_nats": round(float(gain.mean()), 4)},
        interval=(float(gain.min()), float(gain.max())),
        expected="predicted losses rank mixtures; the chosen mixture beats the natural one",
        verdict="holds" if good_law and gains else
        "holds in part" if good_law or gains else "does not hold here",
        command="python 02_data/mix_domains.py",
        details=details)


if __name__ == "__main__":
    command(main)
