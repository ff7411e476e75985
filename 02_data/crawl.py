"""The embedded crawl: pydoc's HTML page of every module of this Python, in web archives.

    python 02_data/crawl.py            # everything that is installed: about 100 seconds
    python 02_data/crawl.py --quick    # the standard library and numpy: about 15 seconds

Any Python holds a real web of documentation, written by thousands of people: pydoc turns each
module into a page with menus, boilerplate and near-copies. We collect the pages as a crawler would
meet them: one site a package (https://numpy.pydoc.example/numpy.fft.html), index pages, the
language reference, and some pages a second time under another spelling of their address.

Every module is imported in a child process (`render_pages.py`) with a time limit. What fails is
skipped and counted. Reads the installed packages; writes part-*.warc.gz and crawl.json. A second
run goes on where the first stopped.
Leaves out: private modules, tests, and programs that act when imported.
"""

import concurrent.futures
import json
import os
import pkgutil
import pydoc
import subprocess
import sys
import sysconfig
import tempfile
import threading
import zlib
from collections import Counter
from pathlib import Path
from typing import Iterable, Iterator

from tqdm import tqdm

from artifacts import BadInput, CommandLine, Job, command, out, read_json, shown, within, write_json
from render_pages import TOPIC
from warc import WarcWriter

QUICK = ("numpy",)                      # beside the standard library
BATCH = 40                              # modules of one child, and of one WARC file
# Programs and jokes that do something when imported, and modules that are not documentation.
ACTING = {"antigravity", "this", "idlelib", "turtledemo", "turtle", "lib2to3", "test", "tests",
          "testing", "conftest", "ensurepip", "venv", "site", "sitecustomize", "usercustomize",
          "distutils", "tkinter", "trove_classifiers", "pip", "setuptools", "pkg_resources"}


def why_not(name: str) -> str | None:
    """Why a module is not visited, by its dotted name alone; None if it is.

    "numpy.tests.test_x" -> "a test", "numpy._core" -> "private", "this" -> "acts when imported".
    """
    parts = name.split(".")
    if any(p.startswith("test_") or p in ("test", "tests", "testing", "conftest") for p in parts):
        return "a test"
    if "__main__" in parts or parts[0] in ACTING:
        return "acts when imported"
    if any(p.startswith("_") and p != "__future__" for p in parts):
        return "private"
    return None


def source_folders() -> list[str]:
    """The folders whose modules are documentation: the standard library and site-packages."""
    paths = sysconfig.get_paths()
    library = [paths["stdlib"], paths["platstdlib"], os.path.join(paths["platstdlib"],
                                                                  "lib-dynload")]
    installed = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    return list(dict.fromkeys(library + [paths["purelib"], paths["platlib"]] + installed))


def find_modules(folders: Iterable[str], skipped: Counter) -> Iterator[str]:
    """Dotted names of all modules in `folders`, below packages too, without importing any.

    Names that are not visited are counted in `skipped` by reason; nothing below them is looked at.
    """
    waiting = [(str(folder), "") for folder in folders]
    while waiting:
        folder, prefix = waiting.pop()
        for module in pkgutil.iter_modules([folder]):
            name = prefix + module.name
            refused = why_not(name)
            if refused or not module.name.isidentifier():
                skipped[refused or "no identifier"] += 1
                continue
            yield name
            if module.ispkg:
                waiting.append((os.path.join(folder, module.name), name + "."))


def plan_batches(names: Iterable[str], size: int = BATCH) -> list[list[str]]:
    """Sorted names in batches of at most `size`, a large package in batches of its own.

    Which modules share a process changes their pages (pydoc links what is loaded), so the batches
    depend on the names only. A package is imported once a batch, not once a module.
    """
    packages: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        packages.setdefault(name.split(".")[0].split(":")[0], []).append(name)
    batches, small = [], []
    for modules in packages.values():
        if len(modules) >= size // 2:
            batches += [modules[i:i + 4 * size] for i in range(0, len(modules), 4 * size)]
        else:
            small += modules
            if len(small) >= size:
                batches.append(small)
                small = []
    return batches + ([small] if small else [])


def child_environment(home: str) -> dict[str, str]:
    """What a strange module may know: no secrets of the reader's, no display, a fixed hash seed
    (the order of a set is part of a page) and a fixed date."""
    keep = {k: os.environ[k] for k in ("SYSTEMROOT", "LD_LIBRARY_PATH") if k in os.environ}
    return {**keep, "HOME": home, "USERPROFILE": home, "PATH": os.defpath, "PYTHONHASHSEED": "0",
            "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", "TERM": "dumb",
            "PYTHONWARNINGS": "ignore", "SOURCE_DATE_EPOCH": "1735689600"}


def parse_answers(data: bytes) -> tuple[dict[str, bytes], dict[str, str], str | None]:
    """A child's answers -> (pages by name, reasons by name, the module it died in or None)."""
    pages, skips, open_module, at = {}, {}, None, 0
    while (end := data.find(b"\n", at)) >= 0:
        word, name, *rest = data[at:end].decode().split(" ", 2)
        at = end + 1
        if word == "start":
            open_module = name
        elif word == "page":
            size = int(rest[0])
            if at + size > len(data):
                break                       # it died while it was writing
            pages[name], open_module, at = data[at:at + size], None, at + size
        else:
            skips[name], open_module = rest[0], None
    return pages, skips, open_module


def run_child(names: list[str], seconds: float, stop: threading.Event) -> tuple[bytes, int]:
    """(answers, exit code) of one child that visits `names`; killed once `stop` is set."""
    script = Path(__file__).with_name("render_pages.py")
    with tempfile.TemporaryDirectory() as home:
        # a session of its own: no terminal to write on or to ask
        child = subprocess.Popen([sys.executable, str(script), str(seconds)], cwd=home,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.DEVNULL, env=child_environment(home),
                                 start_new_session=True)
        job = json.dumps(names).encode()
        while True:
            try:
                answers, _ = child.communicate(job, timeout=0.5)
                return answers, child.returncode
            except subprocess.TimeoutExpired:
                job = None
                if stop.is_set():
                    child.kill()


def visit(names: list[str], seconds: float,
          stop: threading.Event | None = None) -> tuple[dict[str, bytes], dict[str, str]]:
    """The pages of `names`, and why the others gave none. A child that dies is replaced."""
    pages, skips, left = {}, {}, list(names)
    stop = stop or threading.Event()
    while left:
        answers, code = run_child(left, seconds, stop)
        if stop.is_set():
            raise KeyboardInterrupt
        new_pages, new_skips, died_in = parse_answers(answers)
        pages |= new_pages
        skips |= new_skips
        if died_in is None and left[0] not in pages and left[0] not in skips:
            died_in = left[0]               # it did not even start
        if died_in:
            # the watchdog's exit code is 1, a crash in C code has a negative one
            skips[died_in] = "took too long" if code == 1 else "crashed"
        left = [n for n in left if n not in pages and n not in skips]
    return pages, skips


def address(name: str) -> str:
    """numpy.fft -> https://numpy.pydoc.example/numpy.fft.html"""
    if name.startswith(TOPIC):
        return f"https://python.pydoc.example/topics/{name[len(TOPIC):]}.html"
    return f"https://{name.split('.')[0]}.pydoc.example/{name}.html"


def other_spelling(url: str) -> str | None:
    """Another address of the same page, for one page in twenty, as links are found in the wild."""
    variants = (url.replace("https://", "http://www."), url + "?utm_source=feed",
                url.replace("https://", "HTTPS://").replace(".example/", ".EXAMPLE:443/"),
                url.replace(".example/", ".example/./"), url + "#top")
    key = zlib.crc32(url.encode())
    return variants[key // 20 % len(variants)] if key % 20 == 0 else None


def index_page(package: str, names: list[str]) -> bytes:
    """The index of one site: nothing but links, as half of the web."""
    html = pydoc.HTMLDoc()
    links = html.multicolumn(names, lambda n: f'<a href="{n}.html">{n}</a>')
    title = f'<strong class="title">Index of {package}</strong>'
    return html.page(f"Index of {package}",
                     html.heading(title) + html.bigsection(package, "index", links)).encode()


def write_batch(folder: Path, number: int, names: list[str], seconds: float,
                stop: threading.Event | None = None) -> dict:
    """Visit one batch and write its WARC file; returns the counts, noted beside it for resuming."""
    part = folder / f"part-{number:04d}.warc.gz"
    note = part.with_suffix(".json")
    pages, skips = visit(names, seconds, stop)
    count = size = 0
    with WarcWriter(part, software="02_data/crawl.py") as warc:
        for name in names:
            if name not in pages:
                continue
            addresses = [address(name), other_spelling(address(name))]
            for url in filter(None, addresses):
                warc.response(url, pages[name])
                count, size = count + 1, size + len(pages[name])
        for package in sorted({n.split(".")[0] for n in pages if ":" not in n}):
            modules = sorted(n for n in pages if n.split(".")[0] == package)
            if len(modules) > 1:
                page = index_page(package, modules)
                warc.response(f"https://{package}.pydoc.example/", page)
                count, size = count + 1, size + len(page)
    result = {"names": names, "pages": count, "bytes": size,
              "skipped": dict(sorted(Counter(skips.values()).items()))}
    write_json(note, result)
    return result


def batch_result(folder: Path, number: int, names: list[str], seconds: float,
                 stop: threading.Event | None = None) -> dict:
    """The result of a batch: from its note if an earlier run finished it, else by visiting."""
    note = folder / f"part-{number:04d}.warc.json"
    if note.exists() and note.with_suffix(".gz").exists():
        result = read_json(note, "02_data/crawl.py --fresh")
        if result["names"] == names:
            return result
    return write_batch(folder, number, names, seconds, stop)


def choose_modules(packages: list[str] | None, quick: bool, skipped: Counter) -> set[str]:
    """The names to visit: modules of all packages, of `packages`, or of the quick choice, and the
    topics of the language reference. BadInput if `packages` are not installed."""
    names = set(find_modules(source_folders(), skipped)) | {
        n for n in sys.builtin_module_names if not why_not(n)}
    if packages or quick:
        wanted = set(packages or QUICK + tuple(sys.stdlib_module_names))
        names = {n for n in names if n.split(".")[0] in wanted}
    if not names:
        raise BadInput(f"no module of {' '.join(packages or [])} is installed: "
                       "check the names with pip list")
    topics = list(pydoc.Helper.topics) + [k for k in pydoc.Helper.keywords if k.isidentifier()]
    return names | {TOPIC + topic for topic in topics}


def main() -> None:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--out", type=Path, default=out("02_data", "crawl"), help="folder of the WARC files")
    add("--packages", nargs="*", help="only these packages (default: all that are installed)")
    add("--seconds", type=within(above=0), default=30, help="time limit for one module")
    add("--workers", type=within(int, low=1), default=os.cpu_count() or 1,
        help="child processes at a time")
    add("--quick", action="store_true", help="the standard library and numpy only")
    add("--fresh", action="store_true", help="make again even if up to date")
    args = parser.parse_args()
    skipped: Counter = Counter()
    names = choose_modules(args.packages, args.quick, skipped)
    summary = args.out / "crawl.json"
    # A package installed since then makes other pages.
    settings = {**vars(args), "modules": zlib.crc32(" ".join(sorted(names)).encode())}
    job = Job(__file__, settings, reads=[], writes=[summary])
    if job.up_to_date():
        return
    batches = plan_batches(names)
    args.out.mkdir(parents=True, exist_ok=True)
    keep = {f"part-{i:04d}.warc" for i in range(len(batches))} if not args.fresh else set()
    for old in args.out.glob("part-*"):
        if old.name.rsplit(".", 1)[0] not in keep:
            old.unlink()

    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(args.workers) as pool:
        # the largest first, so that no worker is left alone with one at the end
        order = sorted(range(len(batches)), key=lambda i: -len(batches[i]))
        batches_made = [pool.submit(batch_result, args.out, i, batches[i], args.seconds, stop)
                        for i in order]
        results = []
        try:
            with tqdm(total=len(names), unit="module", desc="crawl", mininterval=1) as bar:
                for done in concurrent.futures.as_completed(batches_made):
                    results.append(done.result())
                    bar.update(len(results[-1]["names"]))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    for result in results:
        skipped.update(result["skipped"])
    pages, size = (sum(r[key] for r in results) for key in ("pages", "bytes"))
    write_json(summary, {"modules": len(names), "pages": pages, "bytes": size,
                         "files": len(batches), "skipped": dict(sorted(skipped.items()))})
    job.done()
    print(f"{pages:,} pages, {size / 1e6:.1f} MB of HTML in {len(batches)} files of "
          f"{shown(args.out)}; modules skipped:")
    for why, count in skipped.most_common():
        print(f"  {count:6,}  {why}")


if __name__ == "__main__":
    command(main)
