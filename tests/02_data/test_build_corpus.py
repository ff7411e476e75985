"""build_corpus.py end to end on pages made here: what stays, what goes, the same bytes always."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest

import decisions
import key_files
import page_steps
import parts
import pipeline
import sources
from artifacts import ROOT
from bpe import Tokenizer
from warc import WarcWriter
from work_files import WorkFiles

WORDS = """river boat harbour salt wool winter town fire spring sail horizon school man fish net
letter day capital reply hill road horse bread stone bridge garden child winter morning market
silver house window teacher summer song ship island captain storm light tower field corn mill
water king daughter story book page night star bell church village doctor cart wheel door table
carries brings finds keeps remembers builds leaves sees hears follows opens loses paints sells
old new small cold bright quiet heavy early late green broken empty narrow warm""".split()


def article(name, paragraphs=6):
    rng, rows = random.Random(name), []
    for _ in range(paragraphs):
        w = [rng.choice(WORDS) for _ in range(11)]
        rows.append((f"The {w[0]} that {w[1]} to the {w[2]} {w[3]} {w[4]} and {w[5]}, with {w[6]}.",
                     f"Of {w[7]} and {w[8]} nobody {w[9]}s; it takes nine days, {w[10]} by {w[0]}.",
                     f"When {w[3]} be {w[4]}, {w[5]} {w[6]} have {w[7]}, {w[8]}, and a {w[9]}."
                     )[len(rows) % 3] + f" Then {w[2]} {w[10]} by {w[8]} {w[1]}.")
    return "<html><body><nav><a href=/>Home</a></nav><article>" + "".join(
        f"<p>{r}</p>" for r in rows) + "</article></body></html>"


def reference(name):
    return f"<p>{name} page</p><pre>" + "\n\n".join(
        f"{name}_{i}(a, b)\n    Return the {name} of a and b with option {i}, see ``{name}``.\n\n"
        f"    Parameters\n    ----------\n    a : {name} number {i}\n        The first {name}."
        for i in range(6)) + "</pre>"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crawl")
    for part in range(2):
        with WarcWriter(folder / f"{part}.warc.gz") as warc:
            for i in range(12):
                name = f"{'abcdefghijkl'[i]}{part}harbour"
                warc.response(f"https://{name}.example/story", article(name).encode())
                warc.response(f"https://docs{i}.example/{name}.html", reference(name).encode())
            warc.response(f"http://www.a{part}harbour.example:80/story#top",
                          article(f"a{part}harbour").encode())                        # URL copy
            warc.response(f"https://mirror{part}.example/x",
                          article(f"b{part}harbour").encode())                        # exact copy
            near = article(f"c{part}harbour").replace("nine days", "ten days", 1)
            warc.response(f"https://near{part}.example/x", near.encode())              # near copy
            warc.response(f"https://tiny{part}.example/", b"<p>Too short to keep.</p>")
            warc.response(f"https://free-xxx{part}.example/xxx", article("xxx").encode())
            warc.response(f"https://img{part}.example/", b"\x89PNG", content_type="image/png")
            warc.response(f"https://gone{part}.example/", b"<p>gone</p>", status="404 Not Found")
    specials = ["<|endoftext|>"]
    Tokenizer({i: bytes([i]) for i in range(256)} | {256: b"<|endoftext|>"}, [], specials).save(
        folder / "tokenizer.json")
    return folder


def build(inputs, target, *options, wait=True, **env):
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "02_data" / "build_corpus.py"), "--warc", str(inputs),
         "--tokenizer", str(inputs / "tokenizer.json"), "--out", str(target), "--workers", "1",
         "--min-quality", "0", *options], cwd=inputs, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.PIPE, env=os.environ | {"BUILD_LLM_OUT": str(target)} | env)
    if wait:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return out
    return process


def fingerprint(folder):
    """Hashes of everything whose bytes must not change; seconds differ, so funnel.json is out."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in ("corpus.jsonl.gz", "train.bin", "val.bin", "index.json")}


@pytest.fixture(scope="module")
def built(inputs, tmp_path_factory):
    target = tmp_path_factory.mktemp("built")
    return target, build(inputs, target, "--keep-work")


def test_every_kind_of_page_goes_where_it_belongs(built):
    target, printed = built
    steps = {s["name"]: s for s in json.loads((target / "funnel.json").read_text())["steps"]}
    assert steps["read"]["pages"] == 62
    assert steps["page type"]["reasons"] == {"not HTML": 2, "HTTP status 404": 2}
    assert steps["address"]["reasons"] == {"blocked address": 2}
    assert steps["quality rules"]["rejected"] == 2, steps["quality rules"]
    assert steps["URL copies"]["rejected"] == 2 and steps["exact copies"]["rejected"] == 2
    assert steps["near copies"]["rejected"] == 2, \
        "the page that differs by one word from another"
    assert steps["shards"]["pages"] == 48, "12 stories and 12 reference pages from each file"
    for before, after in zip(list(steps.values())[1:], list(steps.values())[2:-1]):
        assert after["pages"] == before["pages"] - after["rejected"], (before["name"], after)
    assert "shards" in printed and "bytes per token" in printed
    samples = (target / "rejects" / "address.jsonl").read_text().splitlines()
    assert {"url", "reason", "text"} <= set(json.loads(samples[0]))
    assert (target / "funnel.png").stat().st_size > 5000


def test_corpus_index_and_shards_agree(built):
    target, _ = built
    pages = list(parts.read_pages(target / "corpus.jsonl.gz"))
    assert [set(p) for p in pages[:1]] == [{"id", "url", "text", "domain", "package", "quality",
                                            "cluster", "split"}]
    assert [p["id"] for p in pages] == list(range(48))
    assert len({p["text"] for p in pages}) == 48
    index = json.loads((target / "index.json").read_text())
    assert index["corpus_sha256"] == parts.file_sha256(target / "corpus.jsonl.gz")
    assert sum(len(s["documents"]["id"]) for s in index["splits"].values()) == 48
    for name, split in index["splits"].items():
        ids = np.fromfile(target / f"{name}.bin", "<u2")
        assert len(ids) == split["tokens"]
        by_id = {p["id"]: p for p in pages}
        assert all(by_id[i]["split"] == name for i in split["documents"]["id"])
    assert abs(sum(index["mixture"].values()) - 1) < 1e-9
    assert "Home" not in pages[0]["text"], "the menu is gone"


def test_second_run_does_nothing_and_workers_change_no_byte(inputs, built, tmp_path):
    target, _ = built
    assert "up to date" in build(inputs, target, "--workers", "2")
    build(inputs, tmp_path, "--workers", "2")
    assert not (tmp_path / "work").exists(), "part files are deleted at the end"
    assert fingerprint(tmp_path) == fingerprint(target), "two workers wrote other bytes than one"


def test_two_ranks_write_what_one_process_writes(inputs, built, tmp_path):
    target, _ = built
    second = build(inputs, tmp_path, "--rank", "1", "--world", "2", wait=False)
    build(inputs, tmp_path, RANK="0", WORLD_SIZE="2")
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert fingerprint(tmp_path) == fingerprint(target)


def test_a_killed_run_goes_on_with_the_first_missing_part(inputs, built, tmp_path):
    target, _ = built
    work = tmp_path / "work"
    shutil.copytree(target / "work", work)
    # as if killed in pass 1: one part made, the rest and all decisions missing
    kept = work / "pages" / "00000-00000.json"
    made = kept.stat().st_mtime_ns
    for path in sorted(work.rglob("*")):
        mine = path.name.startswith("00000-00000") or "started" in path.name
        if path.is_file() and not mine:
            path.unlink()
    for folder in ("unique", "final"):
        for path in (work / folder).glob("*"):
            path.unlink()
    build(inputs, tmp_path, "--keep-work")
    assert kept.stat().st_mtime_ns == made, "the finished part was made again"
    assert fingerprint(tmp_path) == fingerprint(target)


@pytest.mark.parametrize("options, message", [
    (["--warc", "nowhere"], "does not exist"),
    (["--tokenizer", "nowhere.json"], "run python 01_tokenizer/train_tokenizer.py"),
])
def test_missing_inputs_are_one_line(inputs, tmp_path, options, message):
    process = build(inputs, tmp_path, *options, wait=False)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and message in err and "Traceback" not in err, err


def test_survivors_do_not_depend_on_the_order_of_pages():
    rng = np.random.default_rng(0)
    rows = np.zeros(60, decisions.ROW)
    rows["key"], rows["first"] = rng.integers(1, 9, 60), -rng.integers(1, 5, 60)
    rows["specific"], rows["number"] = rng.integers(-3, 3, 60), np.arange(60)
    rows["address"] = np.arange(60) * 7919 % 61
    copies, stay = set(decisions.copies_in(rows)), set(decisions.first_entries(rows))
    order = rng.permutation(60)
    assert set(decisions.copies_in(rows[order])) == copies
    assert set(decisions.first_entries(rows[order])) == stay
    assert len(copies) == 60 - len(set(rows["key"])), "one of each key stays"
    for row in rows[sorted(copies)]:
        same = rows[rows["key"] == row["key"]]
        assert same["first"].min() <= row["first"], "the longest stays"
    rows["key"][:9] = 0
    assert set(range(9)) <= set(decisions.first_entries(rows)), "an entry without words is no copy"


def test_decisions_on_the_disk_are_those_in_memory(built, tmp_path, monkeypatch):
    target, _ = built
    work = WorkFiles(tmp_path / "work")
    shutil.copytree(target / "work", work.folder)
    before = {name: np.load(work.decision(name)).tolist() for name in ("copies", "entries", "near")}
    monkeypatch.setattr(key_files, "ROWS", 8)
    decisions.decide_copies(work, 0.8)
    decisions.decide_quality(work, 0.8, None, [])
    assert {name: np.load(work.decision(name)).tolist() for name in before} == before
    assert 1 in before["copies"] and 2 in before["copies"] and 3 in before["copies"]


def test_the_list_of_steps_is_the_run_the_funnel_and_the_lessons_table(built):
    target, _ = built
    steps = json.loads((target / "funnel.json").read_text())["steps"]
    assert [s["name"] for s in steps] == [s.name for s in pipeline.PIPELINE]
    lesson = (ROOT / "02_data" / "README.md").read_text(encoding="utf-8")
    assert pipeline.table() in lesson, "paste the output of python 02_data/pipeline.py"


def test_files_of_one_name_in_two_folders_are_two(tmp_path):
    """Bug reports of two projects: notes/a/x.txt and notes/b/x.txt are not one page."""
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text(f"text of {folder}\n")
        (tmp_path / folder / "part-0.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    found = sources.find_sources([], [tmp_path])
    urls = [record[1] for source, address in zip(found, sources.addresses(found))
            for record in sources.read_source(source, address)]
    assert len(set(urls)) == len(urls) == 6, urls
    assert "file:///a/x.txt#0" in urls, "the path below the folder that all share"
    assert sources.addresses(found[:1]) == ["file:///part-0.jsonl"]
    assert page_steps.package_of("file:///a/x.txt#0") == "a"


def test_addresses_and_packages():
    specific = page_steps.specific
    assert specific("https://x.org/a.b.html") < specific("https://x.org/a.html")
    assert specific("https://x.org/a.html") < specific("https://x.org/_a.b.c.html")
    package = page_steps.package_of
    assert package("http://www.pil.pydoc.example:80/PIL.Image.html") == "PIL"
    assert package("https://news.example/2024/story") == "news.example"


def test_one_strange_page_is_counted_and_does_not_end_the_run(monkeypatch):
    def broken(page, settings):
        raise ZeroDivisionError("strange")
    monkeypatch.setattr(pipeline, "PIPELINE", (pipeline.Step("extract", "pages", "", "", broken),))
    counters = {}
    page = {"url": "u", "body": b"x"}
    assert not pipeline.run_steps(page, "pages", page_steps.Settings(), counters)
    assert counters["extract"]["reasons"] == {"error ZeroDivisionError": 1}


def test_a_reject_shows_the_text_that_was_rejected():
    words = "The " + " of ".join(" and ".join(WORDS[i:i + 4]) for i in range(0, 84, 4))
    page = {"url": "u", "kind": "text", "charset": None,
            "body": f"{words}. It is the end.\nA line with {{ braces }}.".encode()}
    counters = {}
    assert not pipeline.run_steps(page, "pages", page_steps.Settings(rules="web"), counters)
    step = next(c for c in counters.values() if c["rejected"])
    assert step["reasons"] == {"C4 curly bracket": 1}
    assert step["samples"][0]["text"].startswith("The river and boat"), "not an empty text"


def test_personal_data_next_to_a_mask_is_found_too():
    page = {"text": "server 8.8.8.8(202) 555-0143 on call", "rules": "web"}
    assert page_steps.personal_data(page, page_steps.Settings()) is None
    assert page["text"] == "server |||IP_ADDRESS||||||PHONE_NUMBER||| on call"
    page = {"text": " ".join(f"a{i}@b.org" for i in range(6)), "rules": "web"}
    assert page_steps.personal_data(page, page_steps.Settings()) == "personal data: 6 > 5"


def test_a_model_of_english_judges_no_other_language(monkeypatch):
    monkeypatch.setattr(page_steps, "classify_nsfw", lambda text, model: ("nsfw", 0.99))
    settings = page_steps.Settings()
    page = {"rules": "web", "text": "사용자 정의 도구모음을 사용해서 아이콘을 추가할 수 있습니다."}
    assert page_steps.safety(page | {"language": "en"}, settings) == "nsfw: 0.99"
    assert page_steps.safety(page | {"language": "ko"}, settings) is None, \
        "what is learned from English examples knows no Korean"
