"""How fast, and how right, are the rules and MinHash? Ratios to the field's tools, in one run.

    python 02_data/page_benchmark.py                # about 1 minute; peers take part if installed
    pip install datasketch rensa datatrove spacy    # the peers, in an environment of their own

Prints documents per CPU second for our rules and MinHash, beside datasketch, rensa and datatrove
where they are installed, recall in bands of Jaccard similarity against the S-curve, and precision
after verification. Texts are cut from the corpus, with typographic quotes and planted edits. Writes
out/02_data/benchmark.json and s_curve.png.
"""

import time
from pathlib import Path

import numpy as np

from artifacts import CommandLine, command, need, out, shown, within, write_json
from funnel import save_figure
from heuristics import c4, fineweb, gopher_quality, gopher_repetition
from minhash import band_keys, jaccard, near_duplicates, s_curve, signatures
from parts import read_pages
from shingles import shingles

RULES = (gopher_repetition, gopher_quality, c4, fineweb)


def sample_texts(corpus: Path, count: int, words: int = 256,
                 per_page: int | None = None) -> list[str]:
    """`count` texts of about `words` words, cut from the corpus in order; `per_page` of a page.

    Texts of one page share shingles, so their pairs do not meet independently: for comparing with
    the S-curve take one of each page.
    """
    texts: list[str] = []
    for page in read_pages(corpus):
        parts = page["text"].split(" ")
        texts += [" ".join(parts[i:i + words])
                  for i in range(0, len(parts) - words, words)][:per_page]
        if len(texts) >= count:
            break
    return texts[:count]


def planted_copies(texts: list[str], rates: np.ndarray, seed: int = 0) -> list[str]:
    """One edited copy of each text: each word is replaced by a new one with probability `rate`."""
    random = np.random.default_rng(seed)
    copies = []
    for i, (text, rate) in enumerate(zip(texts, rates)):
        words = text.split()
        for j in np.flatnonzero(random.random(len(words)) < rate):
            words[j] = f"edit{i}x{j}"
        copies.append(" ".join(words))
    return copies


def per_second(function, texts: list[str], repeats: int = 3) -> float:
    """Texts per CPU second, the best of `repeats` runs of function(texts)."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        function(texts)
        best = min(best, time.process_time() - start)
    return len(texts) / best


def our_rules(texts: list[str]) -> None:
    """All four rule sets on every text, without stopping at the first reason."""
    for text in texts:
        for rule in RULES:
            rule(text)


def our_candidates(texts: list[str]) -> np.ndarray:
    """Text to band keys, and the sort that brings candidates together."""
    return np.sort(band_keys(signatures(texts)), axis=0)


def datasketch_candidates(texts: list[str]) -> None:
    """The same with datasketch: 5-word shingles, 112 permutations, 14 bands of 8."""
    from datasketch import MinHash, MinHashLSH
    from shingles import normalise_text
    index = MinHashLSH(num_perm=112, params=(14, 8))
    for i, text in enumerate(texts):
        words = normalise_text(text).split()
        sketch = MinHash(num_perm=112, seed=1)
        sketch.update_batch([b" ".join(words[j:j + 5]) for j in range(max(len(words) - 4, 1))])
        index.query(sketch)
        index.insert(i, sketch)


def rensa_candidates(texts: list[str]) -> None:
    """The same with rensa, a MinHash in Rust."""
    from rensa import RMinHash, RMinHashLSH
    from shingles import normalise_text
    index = RMinHashLSH(threshold=0.8, num_perm=112, num_bands=14)
    for i, text in enumerate(texts):
        words = normalise_text(text).decode().split()
        sketch = RMinHash(num_perm=112, seed=1)
        sketch.update([" ".join(words[j:j + 5]) for j in range(max(len(words) - 4, 1))])
        index.query(sketch)
        index.insert(i, sketch)


def as_printed(texts: list[str]) -> list[str]:
    """The texts with typographic quotes and dashes, as most of the web writes them."""
    return [t.replace("'", "\u2019").replace(' "', " \u201c").replace('" ', "\u201d ").replace(
        " - ", " \u2014 ") for t in texts]


def datatrove_rules(texts: list[str]) -> None:
    """datatrove's four filters on every text."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import (C4QualityFilter, FineWebQualityFilter,
                                            GopherQualityFilter, GopherRepetitionFilter)
    filters = (GopherRepetitionFilter(), GopherQualityFilter(),
               C4QualityFilter(filter_no_terminal_punct=False), FineWebQualityFilter())
    for i, text in enumerate(texts):
        for each in filters:
            each.filter(Document(text=text, id=str(i)))


def recall_by_band(texts: list[str], seed: int = 0) -> list[dict]:
    """Share of planted pairs that met, beside the S-curve, in bands of true Jaccard similarity."""
    rates = np.random.default_rng(seed).uniform(0, 0.12, len(texts))
    copies = planted_copies(texts, rates, seed)
    truth = np.array([jaccard(shingles(a), shingles(b)) for a, b in zip(texts, copies)])
    met = (band_keys(signatures(texts)) == band_keys(signatures(copies))).any(1)
    rows = []
    for low in np.arange(0.3, 1.0, 0.1):
        inside = (truth >= low) & (truth < low + 0.1 + (low > 0.85))
        if inside.sum() >= 20:
            theory = s_curve(truth[inside])
            rows.append({"low": round(float(low), 1), "pairs": int(inside.sum()),
                         "met": float(met[inside].mean()), "theory": float(theory.mean()),
                         "sigma": float(np.sqrt((theory * (1 - theory)).sum()) / inside.sum())})
    return rows


def draw(rows: list[dict], path: Path) -> None:
    """The S-curve with the measured recall and two standard errors."""
    import matplotlib.pyplot as plt
    figure, axis = plt.subplots(figsize=(6, 3.8))
    x = np.linspace(0, 1, 200)
    axis.plot(x, s_curve(x), color="#4878a8", label="1 - (1 - J^8)^14")
    axis.errorbar([r["low"] + 0.05 for r in rows], [r["met"] for r in rows],
                  [2 * r["sigma"] for r in rows], fmt="o", color="#b8683c", capsize=3,
                  label="planted pairs that met (2 standard errors)")
    axis.set(xlabel="Jaccard similarity J of the 5-word shingles", ylabel="chance to be compared")
    axis.legend()
    save_figure(figure, path)


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--corpus", type=Path, default=out("02_data", "corpus.jsonl.gz"))
    parser.add_argument("--documents", type=within(int, low=1), default=4000,
                        help="documents to compare")
    parser.add_argument("--out", type=Path, default=out("02_data"))
    parser.add_argument("--quick", action="store_true", help="400 documents")
    args = parser.parse_args()
    count = 400 if args.quick else args.documents
    texts = as_printed(sample_texts(need(args.corpus, "02_data/build_corpus.py"), count))
    result: dict = {"documents": len(texts)}
    name_of = "MinHash, text to candidates"
    for name, ours, peer_name, peer, some in (
            (name_of, our_candidates, "datasketch", datasketch_candidates, 1000),
            (name_of, our_candidates, "rensa", rensa_candidates, count),
            ("four rule sets", our_rules, "datatrove", datatrove_rules, 100)):
        mine = per_second(ours, texts)
        try:
            theirs = per_second(peer, texts[:some], repeats=2)
        except ImportError as error:
            theirs = None
            print(f"{peer_name} is not installed ({error.name}): no ratio")
        ratio = f", {mine / theirs:.1f} times {peer_name} ({theirs:,.0f})" if theirs else ""
        print(f"{name}: {mine:,.0f} documents per CPU second{ratio}")
        result.setdefault(name, {})[peer_name] = {
            "ours": mine, "theirs": theirs, "ratio": theirs and mine / theirs}
    rows = recall_by_band(sample_texts(args.corpus, count, per_page=1))
    print("Jaccard      pairs    met  theory   sigmas off")
    for r in rows:
        off = (r["met"] - r["theory"]) / max(r["sigma"], 1e-9)
        print(f"{r['low']:.1f} - {r['low'] + 0.1:.1f} {r['pairs']:8} {r['met']:6.3f} "
              f"{r['theory']:7.3f} {off:10.1f}")
    both = texts + planted_copies(texts, np.full(len(texts), 0.03), 1)
    clusters = near_duplicates(both)
    wrong = sum(1 for c in clusters if all(
        jaccard(shingles(both[c[0]]), shingles(both[i])) < 0.8 for i in c[1:]) and len(c) == 2)
    print(f"{len(clusters):,} clusters after verification, {wrong} pairs below 0.8")
    write_json(args.out / "benchmark.json",
               result | {"recall": rows, "clusters": len(clusters), "wrong": wrong})
    draw(rows, args.out / "s_curve.png")
    print(f"wrote {shown(args.out / 'benchmark.json')} and s_curve.png")


if __name__ == "__main__":
    command(main)
