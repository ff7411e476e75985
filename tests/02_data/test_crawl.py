"""crawl: strange modules are visited safely, and the same modules give the same pages."""

import email.message
import pydoc
import subprocess
import sys
import types
from collections import Counter
from pathlib import Path

import crawl
from crawl import (address, find_modules, index_page, other_spelling, parse_answers, plan_batches,
                   visit, why_not)
from render_pages import Pages, remembered, stable
from warc import read_warc

ROOT = Path(crawl.__file__).resolve().parent.parent


def test_dangerous_and_private_modules_are_not_visited():
    assert why_not("numpy.tests.test_core") == "a test"
    assert why_not("antigravity") == why_not("idlelib.run") == "acts when imported"
    assert why_not("json.__main__") == "acts when imported"
    assert why_not("numpy._core.umath") == "private"
    assert why_not("numpy.fft") is why_not("__future__") is None


def test_modules_are_found_without_importing(tmp_path):
    (tmp_path / "pack" / "sub").mkdir(parents=True)
    for name in ("pack/__init__", "pack/one", "pack/_two", "pack/sub/__init__", "lone", "pack/a-b"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported!')", encoding="utf-8")
    skipped = Counter()
    found = sorted(find_modules([str(tmp_path)], skipped))
    assert found == ["lone", "pack", "pack.one", "pack.sub"]
    assert skipped == {"private": 1, "no identifier": 1}


def test_batches_depend_on_the_names_only():
    names = [f"big.m{i:03}" for i in range(100)] + ["b", "a", "c.d", "c"]
    batches = plan_batches(names, size=20)
    assert batches == plan_batches(reversed(names), size=20)
    assert sorted(sum(batches, [])) == sorted(names)
    assert ["a", "b", "c", "c.d"] in batches, "small packages share a child"


def test_answers_of_a_child_that_died():
    data = b"start a\npage a 5\nhello" b"start b\nskip b import refused\n" b"start c\npage c 9\nhel"
    pages, skips, died_in = parse_answers(data)
    assert (pages, skips, died_in) == ({"a": b"hello"}, {"b": "import refused"}, "c")


def test_nothing_that_changes_or_tells_of_this_machine_stays_in_a_page():
    for page, right in {
            "&lt;x&nbsp;at&nbsp;0x7f3a52c0&gt; &lt;y at 0xAB&gt;": "&lt;x&gt; &lt;y&gt;",
            "&lt;function long_na...e372d85e0&gt;": "&lt;function long_na...&gt;",
            "handle 7f3a52c0 at 12, 0x7f3a": "handle  at 12, 0x7f3a",
            "file:/home/me/.venv/lib/x.py \ud800": "file:/usr/lib/x.py ?"}.items():
        assert stable(page, ["/home/me/.venv", "/home/me"]) == right


def test_pages_are_pydocs_letter_by_letter(monkeypatch):
    tricky = types.ModuleType("tricky", """See https://a.example/x_(y) and RFC 2822, RFC-822( PEP8(x).

    self.close, self.close(), myself.close(), close(), Close, Close(1), closed( open(Thing), f"{x}"


    a < b && c > "d"\twith a tab, http: RFC, xhttp://no, ftp://a.b/c).  naïve(é) Thing.close(self.n)
    """)
    code = "class Close:\n  def close(self): 'self.close() or open(1), Thing'\n  n = 1.0\n" \
           "class Thing(Close):\n  m = True\n  def open(self, a=1): pass\ndef open(x): 'see Thing'\n"
    exec(code, tricky.__dict__)
    for made in ("Close", "Thing"):
        getattr(tricky, made).__module__ = tricky.__name__
    for module in (tricky, email.message):
        name = module.__name__
        theirs = pydoc.HTMLDoc().document(module, name)
        assert theirs.count("<a href") > 9, "hardly a link: the test shows nothing"
        monkeypatch.setattr(pydoc, "getdoc", remembered(pydoc.getdoc))
        for time in ("first", "second"):
            assert Pages().document(module, name) == theirs, f"{name}, {time} time"


def test_a_visit_survives_what_modules_do(tmp_path, monkeypatch):
    """A module may print, exit, crash, hang, or read the environment: each only loses its page."""
    bodies = {"good": '"""A good module."""\nx = object()', "loud": "print('noise' * 99)",
              "leaves": "raise SystemExit(3)", "dies": "import os; os._exit(9)",
              "hangs": "while True: pass", "secret": "import os\nkey = os.environ.get('SECRET')",
              "calls": "import webbrowser; webbrowser.open('http://a.example')"}
    for name, body in bodies.items():
        (tmp_path / f"zz_{name}.py").write_text(body, encoding="utf-8")
    monkeypatch.setenv("SECRET", "a-secret-of-the-reader")
    original = crawl.child_environment
    monkeypatch.setattr(crawl, "child_environment",
                        lambda home: original(home) | {"PYTHONPATH": str(tmp_path)})
    pages, skips = visit([f"zz_{name}" for name in bodies], seconds=1.5)
    assert set(pages) == {"zz_good", "zz_loud", "zz_secret"}
    assert b"object object&gt;" in pages["zz_good"] and b"noise" not in pages["zz_loud"]
    assert b"a-secret" not in pages["zz_secret"], "the reader's environment is in a page"
    assert skips["zz_hangs"] == "took too long" and skips["zz_leaves"] == "raised SystemExit"
    assert {"zz_dies", "zz_calls"} <= set(skips)


def test_addresses():
    assert address("numpy.fft") == "https://numpy.pydoc.example/numpy.fft.html"
    assert address("topic:FLOAT") == "https://python.pydoc.example/topics/FLOAT.html"
    urls = [address(f"pack.m{i}") for i in range(1000)]
    others = [other_spelling(url) for url in urls]
    assert 20 < sum(o is not None for o in others) < 90, "about one page in twenty"
    assert all(o != url for o, url in zip(others, urls) if o)
    assert b'<a href="json.tool.html">json.tool</a>' in index_page("json", ["json", "json.tool"])


def test_the_command_writes_archives_twice_the_same(tmp_path):
    for name in "ab":
        subprocess.run([sys.executable, str(ROOT / "02_data" / "crawl.py"), "--packages", "json",
                        "--out", str(tmp_path / name)], check=True, capture_output=True)
    files = sorted(p.name for p in (tmp_path / "a").glob("*.warc.gz"))
    assert files
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    urls = [r.url for file in files for r in read_warc(tmp_path / "a" / file) if r.url]
    assert "https://json.pydoc.example/json.decoder.html" in urls
    assert any("/topics/" in url for url in urls)


def test_a_second_run_goes_on_where_the_first_stopped(tmp_path, monkeypatch):
    first = crawl.batch_result(tmp_path, 0, ["bisect", "this.is.not.there"], 20)
    assert first["pages"] >= 1 and sum(first["skipped"].values()) == 1
    monkeypatch.setattr(crawl, "visit", lambda *args: 1 / 0)
    assert crawl.batch_result(tmp_path, 0, ["bisect", "this.is.not.there"], 20) == first
