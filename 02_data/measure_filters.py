"""Is clean data worth more than much data? One small model on what each step lets through.

    python 02_data/measure_filters.py       # about 2 minutes

Reads the crawl and the built corpus; writes out/02_data/filters.json, filters.png and steps/.

The same counting model (ngram.py, order 4) is trained on equal numbers of tokens of: raw HTML, HTML
without its tags, extracted text, text that passed the page rules, and the finished corpus; then on
all of the extracted text there is: more tokens, but dirtier. The judge is held-out clean text.

Fairness: pages whose address is in the validation split, and pages that quote it at length, are in
no training set; and of the held-out text only entries count of which no training set holds a
sequence of 13 words, else the set with the most copies would know the answers by heart. Left out: a
model that generalises. 04_model_pretrain/data_quality.py trains one on the same sets, which this
command leaves in out/02_data/steps.
"""

import argparse
import os
import re
from pathlib import Path
from typing import Iterator

import numpy as np
from tqdm import tqdm

from artifacts import (BadInput, CommandLine, Job, command, need, out, read_json, record_claim,
                       shown, within, write_json)
from bpe import Tokenizer
from ngram import NgramModel
from decontaminate import contaminated, evaluation_ngrams
from dedup import digest64, entries_of, normalise_url
from extract import extract_text
from funnel import save_figure
from page_steps import Settings
from parts import batched, bounded_map, read_pages
from pipeline import run_steps
from sources import END_OF_TEXT, find_sources, read_source
from token_pools import TokenPool, save_steps

STAGES = ("raw HTML", "tags stripped", "extracted", "page rules", "corpus")
LONGEST = 200_000        # characters of one page that take part: no page may be a tenth of a set
QUOTES = 50              # shared 13-grams with held-out text beyond which a page is left out
_TAG = re.compile(r"<[^>]*>")
_shared: dict = {}       # what every worker process knows, set once


def stage_texts(page: dict, extracted: str, settings: Settings) -> dict[str, str]:
    """The text of one page after each of the first four stages; a rejected page has no fourth."""
    html = page["body"].decode("utf-8", "replace")
    texts = {"raw HTML": html, "tags stripped": _TAG.sub(" ", html)}
    if extracted:
        texts["extracted"] = extracted
    # extracted once: the steps meet it as a plain text
    page |= {"kind": "text", "body": extracted.encode("utf-8", "replace")}
    if run_steps(page, "pages", settings, {}):
        texts["page rules"] = page["text"]
    return {name: text[:LONGEST] for name, text in texts.items()}


def crawl_sample(source: Path, avoid: set[str], held_out: np.ndarray,
                 share: float) -> Iterator[tuple[dict, str]]:
    """Pages of a source (a share of them by hash of the address) that may be trained on, and their
    main text."""
    for kind, url, body, charset in read_source(source):
        if kind != "html" or digest64(f"sample {url}") >= share * 2**64 \
                or normalise_url(url) in avoid:
            continue
        extracted = extract_text(body, charset)
        if contaminated(extracted, held_out) <= QUOTES:
            yield {"url": url, "kind": kind, "body": body, "charset": charset}, extracted


def share(values: dict) -> None:
    """Note in a worker process what all its tasks need."""
    _shared.update(values)


def tokens_of(text: str) -> tuple[np.ndarray, int]:
    """(ids of a text with <|endoftext|> after it, its bytes)."""
    tokenizer = _shared["tokenizer"]
    ids = tokenizer.encode_to_numpy(text)
    end = np.array([tokenizer.special_tokens[END_OF_TEXT]], ids.dtype)
    return np.concatenate([ids, end]), len(text.encode("utf-8"))


def read_one(source: Path) -> tuple[list[tuple[str, np.ndarray, int]], np.ndarray]:
    """(stage, tokens, bytes) of all sampled pages of a source, and the held-out sequences in them.
    """
    rows, known = [], []
    for page, extracted in crawl_sample(source, _shared["avoid"], _shared["quoted"],
                                        _shared["share"]):
        known.append(quotes(extracted, _shared["quoted"]))
        rows += [(name, *tokens_of(text))
                 for name, text in stage_texts(page, extracted, Settings()).items()]
    return rows, np.unique(np.concatenate(known or [np.zeros(0, np.uint64)]))


def read_texts(texts: list[str]) -> tuple[list[tuple[str, np.ndarray, int]], np.ndarray]:
    """The same for finished pages of the corpus."""
    known = [quotes(text, _shared["quoted"]) for text in texts]
    return [("corpus", *tokens_of(text[:LONGEST])) for text in texts], \
        np.unique(np.concatenate(known))


def bits_per_byte(ids: np.ndarray) -> float:
    """The judge's bits per byte under a counting model of these tokens."""
    model = NgramModel(ids, _shared["tokenizer"].vocab_size, order=4)
    nats = -model.log_probabilities(_shared["test"]).sum()
    return float(nats / np.log(2) / _shared["size"])


def quotes(text: str, held_out: np.ndarray) -> np.ndarray:
    """Which of the hashes `held_out` (sorted) of 13-word sequences occur in `text`."""
    hashes = evaluation_ngrams([text])
    place = np.minimum(np.searchsorted(held_out, hashes), len(held_out) - 1)
    return hashes[held_out[place] == hashes]


def unseen_entries(pages: list[dict], seen: np.ndarray) -> list[str]:
    """The entries of held-out pages, 100 characters or more, that share no 13 words with `seen`."""
    return [entry for page in pages for entry in entries_of(page["text"])
            if len(entry) >= 100 and not contaminated(entry, seen)]


def draw(path: Path, results: dict[str, list[float]], tokens: dict[str, int]) -> None:
    """Bits per byte of each training set, seeds as points."""
    import matplotlib.pyplot as plt
    figure, axis = plt.subplots(figsize=(8, 3.6))
    for i, (name, values) in enumerate(results.items()):
        axis.barh(i, np.mean(values), color="#b8683c" if "all" in name else "#4878a8")
        axis.plot(values, [i] * len(values), "k.", ms=4)
        axis.text(max(values), i, f"  {np.mean(values):.3f}", va="center", fontsize=8)
    axis.set_yticks(range(len(results)),
                    [f"{name}\n{tokens[name] / 1e6:.1f}M tokens" for name in results], fontsize=8)
    axis.set(xlabel="bits per byte on held-out clean text (lower is better)",
             xlim=(0, 1.15 * max(map(max, results.values()))))
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def claim_quality(results: dict[str, list[float]]) -> None:
    """Verdict of quality-over-quantity: clean beats dirty at equal tokens, and beats all of it."""
    clean, dirty = np.array(results["corpus"]), np.array(results["extracted"])
    more = np.array(results["all extracted"])
    gap = dirty - clean
    equal = gap.mean() > 2 * gap.std() and gap.mean() > 0
    beyond = clean.mean() < more.mean()
    record_claim(
        "quality-over-quantity", measured="bits per byte on held-out clean text of the same "
        "counting model trained on each step's output, equal tokens, and on all extracted text",
        value={name: round(float(np.mean(v)), 4) for name, v in results.items()},
        interval=(float(gap.min()), float(gap.max())),
        expected="the corpus beats extracted text at equal tokens, and even all of it",
        verdict="holds" if equal and beyond else "holds in part" if equal or beyond else
        "does not hold here", command="python 02_data/measure_filters.py",
        details={"gap_extracted_minus_corpus": gap.tolist()})


def claim_filthy(funnel: dict) -> None:
    """Verdict of raw-web-filthy from the funnel: how much of the bytes and pages is left."""
    steps = {s["name"]: s for s in funnel["steps"]}
    first, text, last = steps["read"], steps["extract"], steps["shards"]
    share, of_text = last["bytes"] / first["bytes"], last["bytes"] / text["bytes"]
    record_claim(
        "raw-web-filthy", measured="the funnel of the embedded crawl: bytes left of raw HTML",
        value={"bytes_left": round(share, 4), "text_left": round(of_text, 3),
               "pages_left": round(last["pages"] / first["pages"], 3)},
        expected="a brutal filter: RefinedWeb kept 11.7 % of its documents, most of the bytes go",
        verdict="holds" if share < 0.25 and of_text < 0.5 else
        "holds in part" if share < 0.25 else "does not hold here",
        command="python 02_data/build_corpus.py && python 02_data/measure_filters.py",
        details={"rejected": {n: s["rejected"] for n, s in steps.items()}})


def parse() -> argparse.Namespace:
    """The options."""
    parser = CommandLine(__doc__)
    parser.add_argument("--data", type=Path, default=out("02_data"), help="a built corpus")
    parser.add_argument("--warc", nargs="+", type=Path, default=[out("02_data", "crawl")],
                        help="the crawl that the corpus was built from")
    parser.add_argument("--tokenizer", type=Path, default=out("01_tokenizer", "tokenizer.json"))
    parser.add_argument("--tokens", type=within(int, low=1), default=1_500_000,
                        help="of each training set")
    parser.add_argument("--share", type=within(above=0, high=1), default=0.3,
                        help="of the crawl's pages")
    parser.add_argument("--seeds", type=within(int, low=1), default=3)
    parser.add_argument("--workers", type=within(int, low=1), default=os.cpu_count() or 1)
    parser.add_argument("--fresh", action="store_true", help="measure again even if up to date")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    args = parser.parse_args()
    if args.quick:
        args.tokens, args.share = args.tokens // 10, args.share / 10
    return args


def fill_pools(sources: list[Path], kept: list[str], knowledge: dict,
               workers: int) -> tuple[dict[str, TokenPool], np.ndarray]:
    """The tokens of each stage, read from the crawl's `sources` and the corpus's texts `kept`; and
    the held-out sequences that some stage holds, sorted."""
    pools = {name: TokenPool(knowledge["tokenizer"]) for name in STAGES}
    share(knowledge)
    known = [knowledge["quoted"][:0]]
    for function, tasks, what in ((read_one, sources, "pages of the crawl"),
                                  (read_texts, list(batched(kept, 64)), "pages of the corpus")):
        for rows, found in tqdm(bounded_map(function, tasks, workers, share, (knowledge,)),
                                total=len(tasks), desc=what, unit=" parts", disable=None):
            known.append(found)
            for name, ids, size in rows:
                pools[name].add(ids, size)
    return pools, np.unique(np.concatenate(known))


def main() -> None:
    args = parse()
    corpus = need(args.data / "corpus.jsonl.gz", "02_data/build_corpus.py")
    funnel = read_json(args.data / "funnel.json", "02_data/build_corpus.py")
    sources = find_sources([need(w, "02_data/crawl.py") for w in args.warc], [])
    target = args.data / "filters.json"
    steps = [args.data / "steps" / name.replace(" ", "_") for name in STAGES]
    tokenizer = Tokenizer.load(need(args.tokenizer, "01_tokenizer/train_tokenizer.py"))
    job = Job(__file__, vars(args), writes=[target, args.data / "filters.png", *steps],
              reads=[corpus, args.data / "funnel.json", args.tokenizer, *sources])
    if job.up_to_date():
        return

    pages = list(read_pages(corpus))
    held = [p for p in pages if p["split"] == "val"]
    if not held:
        raise BadInput("no page is held out to judge by: build a larger corpus")
    avoid, quoted = {p["url"] for p in held}, evaluation_ngrams([p["text"] for p in held])
    knowledge = {"tokenizer": tokenizer, "avoid": avoid, "quoted": quoted, "share": args.share}
    kept = [p["text"] for p in pages if p["split"] == "train"
            and digest64(f"sample {p['url']}") < 2**63]
    pools, known = fill_pools(sources, kept, knowledge, args.workers)
    judge = TokenPool(tokenizer)
    for entry in unseen_entries(held, known):
        judge.add(*tokens_of(entry))
    budget = min(args.tokens, *(pool.size for pool in pools.values()))
    if budget < 1000 or not judge.size:
        raise BadInput("too few pages to compare: build a larger corpus, or raise --share")
    test, size = np.concatenate(judge.documents), sum(judge.sizes)
    print(f"judge: {len(judge.documents):,} held-out entries that no training set quotes, "
          f"{size / 1e6:.2f} MB")
    save_steps(args.data / "steps", pools, judge, 2 * args.tokens, args.tokenizer)
    plan = [(name, budget) for name in STAGES] + [("all extracted", pools["extracted"].size)]
    tokens = dict(plan)
    draws = (pools["extracted" if name == "all extracted" else name].draw(count, seed)
             for name, count in plan for seed in range(args.seeds))
    measured = list(tqdm(bounded_map(bits_per_byte, draws, args.workers, share, (
        {"tokenizer": tokenizer, "test": test, "size": size},)), desc="train",
        total=len(plan) * args.seeds, unit=" models", disable=None))
    results = {name: measured[i * args.seeds:(i + 1) * args.seeds]
               for i, (name, _) in enumerate(plan)}
    for name, count in plan:
        print(f"{name:14} {count / 1e6:6.2f}M tokens: {np.mean(results[name]):.4f} "
              f"+- {np.std(results[name]):.4f} bits per byte")
    write_json(target, {"bits_per_byte": results, "tokens": tokens, "test_bytes": size})
    draw(args.data / "filters.png", results, tokens)
    claim_quality(results)
    claim_filthy(funnel)
    job.done()
    print(f"wrote {shown(target)}, filters.png and two claims")


if __name__ == "__main__":
    command(main)
