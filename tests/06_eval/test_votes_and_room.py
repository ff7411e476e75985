"""Votes survive a kill; battles refuse what they must; the page answers plain HTTP."""

import errno
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from arena_room import ArenaRoom, Gate, Refused, clean_question
from artifacts import BadInput
from contestants import Contestant
from gpt import GPT, GPTConfig
from page_server import LARGEST_BODY, PageServer, RateLimit
from votes import VoteLog, read_votes

torch.set_num_threads(1)
VOTE = {"battle": "b", "model_a": "x", "model_b": "y", "winner": "a", "prompt": "p",
        "answer_a": "one", "answer_b": "two"}


class Bytes:
    """A tokenizer whose tokens are the 256 bytes and five special ones."""

    special_tokens = {name: 256 + i for i, name in enumerate(
        ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"))}

    def encode(self, text, allowed_special=()):
        return list(text.encode())

    def stream_decode(self, ids):
        for i in ids:
            yield bytes([i]).decode("latin-1") if i < 256 else ""


def models():
    torch.manual_seed(0)
    config = GPTConfig(vocab_size=261, sequence_length=64, layers=1, width=16, heads=1)
    return {name: Contestant(name, "sft", GPT(config).eval()) for name in ("sft", "dpo", "ppo")}


@pytest.fixture
def room(tmp_path):
    log = VoteLog(tmp_path / "votes.jsonl")
    yield ArenaRoom(models(), Bytes(), log, ["What?"], seed=1)
    log.close()


@pytest.fixture
def served(room):
    server = PageServer(("127.0.0.1", 0), room, per_minute=100_000, all_per_minute=100_000)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", server
    server.shutdown()
    server.server_close()


def post(url, body, headers=None, raw=None):
    data = raw if raw is not None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json",
                                                 **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, [json.loads(line) for line in reply.read().splitlines()]
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]


def fought(room, question="What?"):
    events = list(room.battle(question))
    return events[0]["battle"], events


# ---- the log

@pytest.mark.exercise("6.23")
def test_a_vote_is_on_the_disk_when_append_returns(tmp_path):
    log = VoteLog(tmp_path / "v.jsonl")
    assert log.append(VOTE) == 1
    # Another reader of the file, with nothing flushed or closed by us in between.
    assert read_votes(tmp_path / "v.jsonl") == [VOTE], "append returned before the line was written"
    assert log.append(VOTE | {"winner": "tie", "state": "closing"}) == 2
    assert read_votes(tmp_path / "v.jsonl")[1] == VOTE | {"winner": "tie"}, "only a vote's fields"
    log.close()


@pytest.mark.exercise("6.23")
def test_append_asks_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(fd))
    log = VoteLog(tmp_path / "v.jsonl")
    for votes in (1, 2, 3):
        log.append(VOTE)
        assert len(synced) >= votes, (
            f"vote {votes}: without os.fsync an acknowledged vote can vanish in a power cut")
    log.close()


@pytest.mark.exercise("6.23")
def test_a_vote_that_only_fsync_refuses_leaves_nothing(tmp_path, monkeypatch):
    def refuses(fd):
        raise OSError(errno.EIO, "the disk is broken")
    log = VoteLog(tmp_path / "v.jsonl")
    log.append(VOTE)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuses)
        with pytest.raises(OSError):
            log.append(VOTE | {"battle": "refused"})
    assert log.append(VOTE | {"battle": "again"}) == 2 == len(log.votes), "counted once it is kept"
    assert [v["battle"] for v in read_votes(tmp_path / "v.jsonl")] == [VOTE["battle"], "again"]
    log.close()


@pytest.mark.exercise("6.23")
def test_appends_from_many_threads(tmp_path):
    log = VoteLog(tmp_path / "v.jsonl")
    with ThreadPoolExecutor(16) as pool:
        counts = list(pool.map(lambda i: log.append(VOTE | {"battle": str(i)}), range(200)))
    assert sorted(counts) == list(range(1, 201)), "each vote is counted once"
    assert {v["battle"] for v in read_votes(tmp_path / "v.jsonl")} == set(map(str, range(200)))
    log.close()


@pytest.mark.exercise("6.23")
def test_the_count_belongs_to_the_vote(tmp_path):
    """Between storing a vote and counting them another voter must not slip in."""
    class Slow(list):
        def append(self, vote):
            super().append(vote)
            time.sleep(0.002)

    log = VoteLog(tmp_path / "v.jsonl")
    log.votes = Slow()
    with ThreadPoolExecutor(12) as pool:
        counts = list(pool.map(lambda i: log.append(VOTE | {"battle": str(i)}), range(36)))
    assert sorted(counts) == list(range(1, 37)), (
        f"36 votes at once are the 1st to the 36th, each number once; got {sorted(counts)}. "
        "Is the lock held from the write to the count?")
    log.close()


def test_half_a_line_is_set_aside(tmp_path):
    path = tmp_path / "v.jsonl"
    path.write_bytes(json.dumps(VOTE).encode() + b"\n" + b'{"battle": "half')
    assert read_votes(path) == [VOTE]
    log = VoteLog(path)
    log.append(VOTE | {"battle": "next"})
    log.close()
    assert [v["battle"] for v in read_votes(path)] == ["b", "next"]
    path.write_bytes(b"nonsense\n" + json.dumps(VOTE).encode() + b"\n")
    with pytest.raises(BadInput, match="line 1"):
        read_votes(path)


def test_kill_9_loses_no_acknowledged_vote(tmp_path):
    """A child votes as fast as it can and prints each acknowledgement; it is killed in between."""
    path = tmp_path / "v.jsonl"
    code = ("import sys; from votes import VoteLog\n"
            f"log = VoteLog({str(path)!r}); vote = {VOTE!r}\n"
            "for i in range(10**6):\n"
            "    n = log.append(vote | {'battle': str(i)}); print(n, flush=True)\n")
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                             env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    heard = [int(child.stdout.readline()) for _ in range(50)]
    child.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    heard += [int(line) for line in child.stdout.read().split("\n")[:-1] if line]
    child.wait()
    assert len(read_votes(path)) >= heard[-1], f"{heard[-1]} votes acknowledged, fewer stored"
    log = VoteLog(path)
    assert log.append(VOTE) >= heard[-1] + 1, "the log goes on after a crash"
    log.close()


# ---- the room

def test_questions_are_cleaned():
    assert clean_question("  hi\x00 there\x1b[31m\n ok\t!") == "hi there[31m\n ok\t!"
    assert clean_question("你好 \U0001f600") == "你好 \U0001f600", "other scripts are welcome"
    for bad, status in ((7, 400), (None, 400), ("", 400), (" \x00 ", 400), ("x" * 2001, 413),
                        ("\ud800", 400)):
        with pytest.raises(Refused) as refusal:
            clean_question(bad)
        assert refusal.value.status == status, f"{bad!r:.20}: {refusal.value.status}"
    assert len(clean_question("x" * 2000)) == 2000


def test_a_battle_hides_names_and_takes_one_vote(room):
    identity, events = fought(room)
    said = json.dumps(events)
    assert not any(name in said for name in ("sft", "dpo", "ppo")), "a name before the vote"
    assert events[-1] == {"done": True}
    told = room.vote(identity, "a")
    assert told["votes"] == 1 and {told["model_a"], told["model_b"]} < {"sft", "dpo", "ppo"}
    for again in ("a", "b"):
        with pytest.raises(Refused) as refusal:
            room.vote(identity, again)
        assert refusal.value.status == 409
    stored = read_votes(room.log.path)[0]
    assert stored["answer_a"] == "".join(e["text"] for e in events if e.get("side") == "a")


def test_votes_that_are_refused(room):
    for identity, winner, status in (("nobody", "a", 404), (None, "a", 404), ([], "a", 404),
                                     ("nobody", "c", 400)):
        with pytest.raises(Refused) as refusal:
            room.vote(identity, winner)
        assert refusal.value.status == status
    events = room.battle("What?")
    identity = next(events)["battle"]
    with pytest.raises(Refused) as refusal:
        room.vote(identity, "a")
    assert refusal.value.status == 409, "a vote before the answers are finished"
    events.close()
    assert room.gate.room._value == 208, "a reader who leaves frees the place"


def test_two_votes_at_once_count_once(room):
    for _ in range(5):
        identity, _ = fought(room)
        with ThreadPoolExecutor(8) as pool:
            def vote(_):
                try:
                    return room.vote(identity, "b")["votes"]
                except Refused as refusal:
                    return refusal.status
            results = list(pool.map(vote, range(8)))
        assert sorted(map(str, results))[1:] .count("409") + results.count(409) >= 7
    assert len(read_votes(room.log.path)) == 5


def test_sides_and_pairs_are_random(room):
    pairs = [room.pair() for _ in range(600)]
    for a in ("sft", "dpo", "ppo"):
        share = sum(p[0] == a for p in pairs) / sum(a in p for p in pairs)
        assert 0.4 < share < 0.6, f"{a} stands on side A in {share:.0%} of its battles"
    counts = [sum(set(p) == pair for p in pairs)
              for pair in ({"sft", "dpo"}, {"sft", "ppo"}, {"dpo", "ppo"})]
    assert min(counts) > 160, f"pairs are drawn evenly in the long run: {counts}"


def test_the_gate_sends_the_surplus_away():
    gate, busy = Gate(1, 1), threading.Event()

    def hold():
        with gate.entered():
            busy.wait(5)

    threads = [threading.Thread(target=hold) for _ in range(2)]
    [thread.start() for thread in threads]
    time.sleep(0.05)
    with pytest.raises(Refused) as refusal:
        with gate.entered():
            pass
    assert refusal.value.status == 503
    busy.set()
    [thread.join() for thread in threads]
    with gate.entered():
        pass


def test_the_rate_limit_forgets():
    limit = RateLimit(2, 60)
    limit.check("r", 0.0), limit.check("r", 1.0), limit.check("other", 1.0)
    with pytest.raises(Refused):
        limit.check("r", 59.0)
    limit.check("r", 60.5)


# ---- plain HTTP

def test_the_page_carries_all_it_needs(served):
    url, _ = served
    with urllib.request.urlopen(url, timeout=10) as reply:
        page, policy = reply.read().decode(), reply.headers["Content-Security-Policy"]
    assert "http://" not in page and "https://" not in page, "the page asks another server"
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "innerHTML" not in page, "model output must enter as text only"
    assert "data.remarks.map" in page and 'id="remarks"' in page, "what the votes cannot say"
    assert "prefers-color-scheme" in page and "viewport" in page


def test_a_battle_over_http(served):
    url, _ = served
    status, events = post(url + "/api/battle", {"question": "What?"})
    assert status == 200 and events[-1] == {"done": True}
    status, told = post(url + "/api/vote", {"battle": events[0]["battle"], "winner": "tie"})
    assert status == 200 and told[0]["votes"] == 1
    board = json.loads(urllib.request.urlopen(url + "/api/board", timeout=10).read())
    assert board["votes"] == 1 and len(board["rows"]) == 2
    assert all(row["low"] < row["rating"] < row["high"] for row in board["rows"])


def test_chat_over_http(served):
    url, _ = served
    talk = [{"role": "user", "content": "<script>alert(1)</script>"}]
    status, pieces = post(url + "/api/chat", {"model": "dpo", "messages": talk, "max_tokens": 5})
    assert status == 200 and all(isinstance(piece, str) for piece in pieces)


@pytest.mark.parametrize("path, body, status", [
    ("/api/vote", {"battle": "x", "winner": "a"}, 404), ("/api/vote", {"winner": "me"}, 400),
    ("/api/chat", {"model": "../../etc", "messages": []}, 404),
    ("/api/chat", {"model": "sft", "messages": []}, 400),
    ("/api/chat", {"model": ["sft"], "messages": []}, 404),
    ("/api/chat", {"model": "sft", "messages": [{"role": "assistant", "content": "x"}]}, 400),
    ("/api/chat", {"model": "sft", "messages": [{"role": "user", "content": "x"}],
                   "temperature": float("nan")}, 400),
    ("/api/battle", {"question": "\x00"}, 400), ("/api/battle", [], 400),
    ("/../votes.jsonl", {}, 404), ("/etc/passwd", {}, 404)])
def test_bad_requests_have_one_clear_line(served, path, body, status):
    url, _ = served
    got, message = post(url + path, body)
    assert got == status and "\n" not in message and "Traceback" not in message, (got, message)


def test_large_and_strange_bodies(served):
    url, server = served
    got, message = post(url + "/api/battle", None, raw=b"x" * 10_000_000)
    assert got == 413, f"a prompt of 10 MB: {got} {message}"
    assert post(url + "/api/battle", None, raw=b"{not json")[0] == 400
    assert post(url + "/api/battle", None, raw=b"[" * 50_000)[0] == 400
    assert post(url + "/api/battle", {"question": "x"}, {"Content-Type": "text/plain"})[0] == 415
    assert post(url + "/api/battle", {"question": "x"}, {"Host": "evil.example"})[0] == 403
    assert post(url + "/api/battle", {"question": "x" * (LARGEST_BODY - 100)})[0] == 413
    server.limit.count = 0
    assert post(url + "/api/battle", {"question": "x"})[0] == 429


@pytest.mark.parametrize("line, header, status", [
    ("POST /api/vote", "Content-Length: \u00b2", 411), ("POST /api/vote", "X: y", 411),
    ("POST /api/vote", "Content-Length: " + "9" * 5000, 411), ("GET /", "Host: [::1", 400),
    ("POST /api/vote", "Content-Length: -5", 411), ("GET http://[::1", "X: y", 400),
    ("GET /%2e%2e/votes.jsonl", "X: y", 404), ("GET /\x00", "X: y", 404), ("PUT /", "X: y", 501)])
def test_strange_requests_are_refused_in_words(served, capfd, line, header, status):
    url, _ = served
    host = "" if header.startswith("Host") else "Host: localhost\r\n"
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":")[-1]))) as raw:
        raw.settimeout(10)
        raw.sendall(f"{line} HTTP/1.1\r\n{host}Connection: close\r\n{header}\r\n\r\n".encode(
            "latin-1"))
        assert raw.recv(100).split()[1] == str(status).encode()
    assert "Traceback" not in capfd.readouterr().err, "a reader's nonsense is no error of ours"


def test_a_refused_body_is_not_taken_for_the_next_request(room):
    """One kept connection, as a browser holds it: wrong token, wrong path, then a good vote."""
    server = PageServer(("127.0.0.1", 0), room, token="sesame")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    line = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    body = json.dumps({"question": "What?", "battle": "x", "winner": "a"})
    for path, token, status in (("/api/battle", "wrong", 401), ("/nowhere", "sesame", 404),
                                ("/api/battle", "sesame", 200), ("/api/vote", "sesame", 404)):
        line.request("POST", path, body, {"Content-Type": "application/json",
                                          "X-Class-Token": token})
        reply = line.getresponse()
        reply.read()
        assert reply.status == status, f"{path} with {token}: {reply.status} instead of {status}"
    server.shutdown()
    server.server_close()


def test_the_class_token(room):
    server = PageServer(("127.0.0.1", 0), room, token="sesame")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    assert post(url + "/api/battle", {"question": "x"})[0] == 401
    assert post(url + "/api/battle", {"question": "x"}, {"X-Class-Token": "sesam"})[0] == 401
    assert post(url + "/api/battle", {"question": "x"}, {"X-Class-Token": "sesame"})[0] == 200
    server.shutdown()
    server.server_close()


def test_thirty_readers_at_once(served):
    url, server = served

    def reader(_):
        status, events = post(url + "/api/battle", {"question": "What?"})
        if status != 200:
            return status
        return post(url + "/api/vote", {"battle": events[0]["battle"], "winner": "a"})[0]

    with ThreadPoolExecutor(30) as pool:
        results = list(pool.map(reader, range(30)))
    assert results == [200] * 30, f"errors: {[r for r in results if r != 200]}"
    assert len(read_votes(server.room.log.path)) == 30, "a vote was lost"


@pytest.mark.exercise("6.23")
@pytest.mark.parametrize("taken", [0, 7])
def test_a_vote_that_a_full_disk_refused_is_sent_again_and_counted_once(tmp_path, taken):
    log = VoteLog(tmp_path / "v.jsonl")
    log.append(VOTE | {"battle": "first"})
    real = log.file

    class Full:
        """The same file on a disk that takes a few bytes and then no more."""
        def write(self, data):
            if taken and not written:
                written.append(real.write(bytes(data[:taken])))
                real.flush()
                return taken
            raise OSError(28, "No space left on device")

        def __getattr__(self, name):
            return getattr(real, name)

    written = []
    log.file = Full()
    with pytest.raises(OSError):
        log.append(VOTE | {"battle": "again"})
    log.file = real                                     # room was made
    assert log.append(VOTE | {"battle": "again"}) == 2, "the refused one does not count"
    assert [v["battle"] for v in read_votes(tmp_path / "v.jsonl")] == ["first", "again"]
    log.close()
