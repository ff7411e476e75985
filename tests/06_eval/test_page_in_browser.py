"""The arena page in a real browser: a battle, a vote, the board; hostile text stays text."""

import json
import re
import shutil
import subprocess
import threading
import types

import pytest

from arena_room import ArenaRoom
from page_server import PageServer
from votes import VoteLog, read_votes

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome",
                                               "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: plain HTTP "
                                "tests stand in test_votes_and_room.py")
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\x07"

# Runs inside the page, as a reader would: ask, read, vote by key, look at the board.
DRIVER = """<script nonce="NONCE">(async () => {
  const until = async (what, f) => { for (let i = 0; i < 400; i++) { const v = f(); if (v) return v;
    // The browser's virtual clock would run ahead of the server: a real request keeps the pace.
    await fetch("/api/models", {headers}); await new Promise(r => setTimeout(r, 5)); } throw new Error("waited in vain for " + what); };
  const seen = {};
  try {
    await until("suggestions", () => $("hints").children.length);
    seen.votable_before = !document.querySelector("[data-vote=a]").disabled;
    $("question").value = "What?"; $("ask").requestSubmit();
    await until("the end of the answers", () => !document.querySelector("[data-vote=a]").disabled);
    seen.names_before = $("name-a").textContent + $("name-b").textContent;
    seen.answer = $("text-a").textContent; seen.elements_in_answer = $("text-a").children.length;
    document.body.focus();
    document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "2", bubbles: true}));
    await until("the names", () => $("name-a").textContent && $("name-b").textContent);
    seen.names_after = [$("name-a").textContent, $("name-b").textContent];
    seen.votable_after = !document.querySelector("[data-vote=a]").disabled;
    $("tab-board").click();
    await until("the board", () => document.querySelectorAll("#rows tbody tr").length);
    seen.board = [...document.querySelectorAll("#rows tbody tr td:nth-child(2)")].map(c => c.textContent);
    $("tab-chat").click(); $("message").value = "hello"; $("tell").requestSubmit();
    await until("a chat answer", () => (document.querySelector("#talk .assistant") || {}).textContent
                                        && $("speak").textContent === "Send");
    seen.chat = document.querySelector("#talk .assistant").textContent;
    seen.wide = document.documentElement.scrollWidth > innerWidth;
  } catch (error) { seen.error = String(error); }
  const pre = document.createElement("pre"); pre.id = "seen"; pre.textContent = JSON.stringify(seen);
  document.body.append(pre);
})();</script></body>"""


class HostileRoom(ArenaRoom):
    """A room whose models say what an attacker would have them say."""

    def pieces(self, name, messages, temperature=0.7, max_tokens=80):
        yield from (HOSTILE[:20], HOSTILE[20:])


@pytest.mark.parametrize("size", ["1200,900", "390,800"])
def test_a_reader_votes(tmp_path, size):
    class Two:
        special_tokens = {}

    stage = types.SimpleNamespace(stage="sft")
    room = HostileRoom({"sft": stage, "dpo": stage}, Two(), VoteLog(tmp_path / "votes.jsonl"),
                       [HOSTILE], seed=0)
    server = PageServer(("127.0.0.1", 0), room)
    server.page = server.page.replace("</body>", DRIVER)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        dom = subprocess.run(
            [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={size}",
             f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=15000",
             "--dump-dom", url], capture_output=True, text=True, timeout=60).stdout
    finally:
        server.shutdown()
        server.server_close()
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.S)
    assert found, f"the page's script did not finish: {dom[-400:]}"
    import html
    seen = json.loads(html.unescape(found[1]))
    assert "error" not in seen, seen
    assert not seen["votable_before"] and not seen["votable_after"]
    assert seen["names_before"] == "", "a name was shown before the vote"
    assert set(seen["names_after"]) == {"sft", "dpo"}
    assert seen["elements_in_answer"] == 0 and "<script>" in seen["answer"], (
        "an answer's markup became part of the page")
    assert "\u2407" in seen["answer"], "control characters are shown as their pictures"
    assert "<title>Blind arena</title>" in dom, "a script in a model's answer ran"
    assert set(seen["board"]) == {"sft", "dpo"} and "<script>" in seen["chat"]
    assert not seen["wide"], f"the page is wider than the {size} window"
    vote = read_votes(tmp_path / "votes.jsonl")
    assert len(vote) == 1 and vote[0]["winner"] == "b" and vote[0]["answer_a"] == HOSTILE
