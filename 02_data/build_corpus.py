"""Raw web pages to training shards: the whole pipeline, whose steps pipeline.py lists.

    python 02_data/build_corpus.py                        # the embedded crawl; about a minute
    python 02_data/build_corpus.py --warc CC-MAIN-*.warc.gz --out out/cc
    python 02_data/build_corpus.py --text notes/ --out out/notes

Reads the WARC files of crawl.py and the tokenizer of chapter 1; writes corpus.jsonl.gz, train.bin,
val.bin, index.json, funnel.json, funnel.png and rejects/ into out/02_data. The same input gives the
same bytes for any number of workers; a killed run goes on with the first missing part.

Several machines with one folder in common share the work: start the same command once per process
under torchrun, Slurm or an array of jobs (RANK and WORLD_SIZE), or with --rank i --world n.
"""

import argparse
import os
import shutil
from pathlib import Path
from typing import Iterator

import numpy as np
from tqdm import tqdm

import passes
from artifacts import BadInput, CommandLine, Job, command, need, out, shown, within
from decisions import decide_copies, decide_quality
from dedup import normalise_url
from dirty_words import load_words
from funnel import Funnel
from mixture import natural_mixture
from page_steps import Settings, package_of
from parts import (RECORDS_PER_PART, batched, bounded_map, decide, finish, read_pages, wait_for,
                   write_pages)
from pipeline import PIPELINE
from safety import load_blocklist
from shards import assign_splits, load_tokenizer, write_index, write_shards
from sources import addresses, find_sources, records_of
from work_files import STAGES, WorkFiles, part_name

RESULTS = ("index.json", "corpus.jsonl.gz", "train.bin", "val.bin", "funnel.json", "funnel.png",
           "rejects")


def parse() -> argparse.Namespace:
    """The options, grouped."""
    parser = CommandLine(__doc__)
    add = parser.add_argument_group("input and output").add_argument
    add("--warc", nargs="+", type=Path, default=[], help="WARC or WET files or folders "
        "(default: the embedded crawl, out/02_data/crawl, unless --text is given)")
    add("--text", nargs="+", type=Path, default=[], help="plain text or jsonl files or folders")
    add("--verify-digests", action="store_true", help="leave out records of WARC files whose bytes "
        "are not those that their digest was made of")
    add("--tokenizer", type=Path, default=out("01_tokenizer", "tokenizer.json"))
    add("--out", type=Path, default=out("02_data"))
    add = parser.add_argument_group("filters").add_argument
    add("--rules", choices=["auto", "web", "documentation"], default="auto",
        help="rule set: chosen per page (auto), or one for all")
    add("--languages", nargs="+", default=["en"], help="ISO 639-1 codes to keep")
    add("--blocklist", nargs="*", type=Path, default=[], help="more blocked domains, one per line")
    add("--dirty-words", nargs="*", type=Path, default=[], help="lists of more words that "
        "make a page dirty, one per line")
    add("--repeated-lines", choices=["keep", "first", "none"], default="keep", help="lines of web "
        "pages that occur twice in one part of 256 records: how many copies stay")
    add("--near-threshold", type=float, default=0.8, help="Jaccard similarity of near copies")
    add("--quality-model", type=Path, help="made by train_classifier.py; filters web pages as well")
    add("--min-quality", type=within(low=0, high=1), default=0.1,
        help="probability under which a page goes")
    add("--nsfw-model", type=Path, help="made by train_classifier.py nsfw")
    add("--harmful-model", type=Path, help="made by train_classifier.py harmful")
    add("--max-divergence", type=float, default=6.0, help="nats of outlier tokens allowed")
    add("--evaluation", nargs="*", type=Path, default=[], help="evaluation files: documents that "
        "share a 13-gram with them are removed")
    add("--val-share", type=within(above=0, below=1), default=0.04,
        help="share of bytes in the validation split")
    add = parser.add_argument_group("running").add_argument
    add("--max-pages", type=within(int, low=0), default=0,
        help="read at most so many records of each source")
    add("--workers", type=within(int, low=1), default=os.cpu_count() or 1)
    add("--rank", type=int, default=int(os.environ.get("RANK", 0)), help="number of this process")
    add("--world", type=int, default=int(os.environ.get("WORLD_SIZE", 1)),
        help="processes in all, as set by torchrun")
    add("--keep-work", action="store_true", help="leave the part files in work/ of --out")
    add("--seed", type=int, default=0)
    add("--quick", action="store_true", help="at most 120 records of each source")
    add("--fresh", action="store_true", help="build again even if up to date (one process)")
    args = parser.parse_args()
    if not 0 <= args.rank < args.world:
        parser.error(f"--rank {args.rank} is not in 0 ... {args.world - 1}")
    if args.fresh and args.world > 1:
        parser.error(f"--fresh is for one process: delete {shown(args.out)}, start all ranks")
    if args.quick:
        args.max_pages = args.max_pages or 120
    return args


def main() -> None:
    args = parse()
    if not (args.warc or args.text):
        args.warc = [need(out("02_data", "crawl"), "02_data/crawl.py")]
    sources = find_sources(args.warc, args.text)
    load_tokenizer(args.tokenizer)                     # what it lacks is said now, not in an hour
    wishes = {k: v for k, v in vars(args).items()
              if k not in ("workers", "rank", "world", "keep_work", "out")}
    inputs = [*sources, args.tokenizer, *args.blocklist, *args.evaluation, *args.dirty_words,
              *(m for m in (args.quality_model, args.nsfw_model, args.harmful_model) if m)]
    job = Job(__file__, wishes, reads=inputs, writes=[args.out / name for name in RESULTS])
    if job.up_to_date():
        return
    settings = Settings(languages=tuple(args.languages), rules=args.rules,
                        blocklist=load_blocklist(args.blocklist), min_quality=args.min_quality,
                        dirty_words=load_words(args.dirty_words),
                        repeated_lines=args.repeated_lines, max_divergence=args.max_divergence,
                        nsfw_model=str(args.nsfw_model or ""),
                        harmful_model=str(args.harmful_model or ""),
                        quality_for_web=args.quality_model is not None)
    work = prepare_work(args, inputs, wishes)

    # Three passes run on every process; between them rank 0 decides what needs all pages.
    read_pages_pass(args, sources, work, settings)
    decide(work.folder, args.rank, "unique", lambda: decide_copies(work, args.near_threshold))
    unique_pass(args, work, settings)
    decide(work.folder, args.rank, "scored", lambda: decide_quality(
        work, args.near_threshold, args.quality_model, args.evaluation))
    score_pass(args, work, settings)
    if args.rank == 0:
        assemble(args, work)
        job.done()
        if not args.keep_work:
            shutil.rmtree(work.folder)


def prepare_work(args: argparse.Namespace, inputs: list, wishes: dict) -> WorkFiles:
    """The folder of part files, emptied if it belongs to other inputs, settings or code."""
    work = args.out / "work"
    started = Job(__file__, wishes, reads=inputs, writes=[work / "started"])
    if args.rank == 0 and (args.fresh or not started.is_current()):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        (work / "started").touch()
        started.done()
    # what an earlier run left there may still be deleted: wait for this run's note
    wait_for(lambda: args.rank == 0 or started.is_current(), "rank 0 to start")
    return WorkFiles(work)


def read_pages_pass(args: argparse.Namespace, sources: list[Path], work: WorkFiles,
                    settings: Settings) -> None:
    """Pass 1: every source's records through the page steps, parts that exist already skipped."""
    progress = tqdm(desc="read, extract, filter", unit=" pages", disable=None)

    def tasks():
        for number, (source, address) in enumerate(zip(sources, addresses(sources))):
            if number % args.world != args.rank:
                continue
            records = records_of(source, address, len(sources) == 1, args.verify_digests)
            if args.max_pages:
                records = (r for _, r in zip(range(args.max_pages), records))
            for k, items in enumerate(batched(records, RECORDS_PER_PART)):
                progress.update(len(items))
                if not work.counts("pages", part_name(number, k)).exists():
                    yield work, part_name(number, k), items, settings

    for _ in bounded_map(passes.read_part, tasks(), args.workers):
        pass
    progress.close()
    finish(work.folder, args.rank, args.world, "pages")


def unique_pass(args: argparse.Namespace, work: WorkFiles, settings: Settings) -> None:
    """Pass 2: copies out, band keys of what is left."""
    tasks, page, entry = [], 0, 0
    for i, part in enumerate(work.parts("pages")):
        counts = np.load(work.keys("pages", part))["entry_counts"]
        if i % args.world == args.rank and not work.counts("unique", part).exists():
            tasks.append((work, part, page, entry, settings))
        page, entry = page + len(counts), entry + int(counts.sum())
    run(args, passes.unique_part, tasks, "deduplicate")
    finish(work.folder, args.rank, args.world, "unique")


def score_pass(args: argparse.Namespace, work: WorkFiles, settings: Settings) -> None:
    """Pass 3: near-copy entries out, quality, overlap with evaluation sets, domains."""
    tasks, first_long = [], 0
    for i, part in enumerate(work.parts("unique")):
        if i % args.world == args.rank and not work.counts("final", part).exists():
            tasks.append((work, part, first_long, settings))
        first_long += len(np.load(work.keys("unique", part))["owner"])
    run(args, passes.score_part, tasks, "score")
    finish(work.folder, args.rank, args.world, "final")


def run(args: argparse.Namespace, function, tasks: list, what: str) -> None:
    """Tasks over the workers, with a progress bar."""
    for _ in tqdm(bounded_map(function, tasks, args.workers), total=len(tasks), desc=what,
                  unit=" parts", disable=None):
        pass


def final_pages(work: WorkFiles) -> Iterator[dict]:
    """The pages that survived all three passes, in input order."""
    for part in work.parts("final"):
        yield from read_pages(work.texts("final", part))


def assemble(args: argparse.Namespace, work: WorkFiles) -> None:
    """The last step: splits, corpus, shards, index, funnel."""
    funnel = Funnel(tuple(step.name for step in PIPELINE))
    for stage in STAGES:
        for part in work.parts(stage):
            funnel.add(work.counted(stage, part))
    # texts stay on the disk: what the splits need of each document is a line of numbers
    rows = [(page["number"], package_of(page["url"]), len(page["text"].encode()))
            for page in final_pages(work)]
    if not rows:
        funnel.write(args.out)
        print(funnel.table())
        raise BadInput(f"no page survived the pipeline: see {shown(args.out / 'rejects')}")
    clusters, packages, sizes = zip(*rows)
    splits = assign_splits(clusters, packages, sizes, args.val_share, args.seed)
    corpus = write_pages(args.out / "corpus.jsonl.gz", (
        {"id": i, "url": normalise_url(page["url"]), "text": page["text"],
         "domain": page["domain"], "package": package, "quality": page["quality"],
         "cluster": page["number"], "split": split}
        for i, (page, package, split) in enumerate(zip(final_pages(work), packages, splits))))
    total = sum(sizes)
    with tqdm(total=total, desc="tokenise", unit="B", unit_scale=True, disable=None) as progress:
        shards = write_shards(read_pages(corpus), args.tokenizer, args.out, args.workers,
                              progress)
    index = write_index(args.out, shards, args.tokenizer, corpus,
                        natural_mixture(read_pages(corpus)))
    last = funnel.step("shards")
    last.update(pages=len(rows), bytes=total,
                tokens=sum(s["tokens"] for s in index["splits"].values()))
    funnel.write(args.out)
    print(funnel.table())
    for name, split in index["splits"].items():
        print(f"{name}: {len(split['documents']['id']):,} documents, {split['tokens']:,} tokens, "
              f"{split['bytes'] / 1e6:.2f} MB, {split['bytes'] / max(split['tokens'], 1):.2f} "
              "bytes per token")
    print("domains: " + ", ".join(f"{k} {v:.1%}" for k, v in index["mixture"].items()))
    print(f"wrote {shown(corpus)}, train.bin, val.bin, index.json, funnel.png, rejects/")


if __name__ == "__main__":
    command(main)
