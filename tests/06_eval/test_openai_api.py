"""openai_api.py: the fields and events of the protocol, over a real server on this machine."""

import json
import threading
import urllib.error
import urllib.request

import pytest

import openai_api
from arena_room import ArenaRoom, Refused
from contestants import Contestant
from page_server import PageServer
from votes import VoteLog


class Echo:
    """A published model that says who spoke and what, in pieces."""

    def reply(self, messages, temperature, max_new_tokens, generator):
        yield f"{temperature} {max_new_tokens}|"
        yield from (f"{m['role']}:{m['content']};" for m in messages)


@pytest.fixture
def address(tmp_path):
    log = VoteLog(tmp_path / "votes.jsonl")
    room = ArenaRoom({"echo": Contestant("echo", "published", Echo())}, None, log, seed=1)
    server = PageServer(("127.0.0.1", 0), room, token="sesame")
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/"
    server.shutdown()
    server.server_close()
    log.close()


def call(url: str, body: dict | None = None, key: str = "sesame") -> tuple[int, str, str]:
    request = urllib.request.Request(
        url, None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, reply.headers["Content-Type"], reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, "", error.read().decode()


TALK = [{"role": "system", "content": "S"}, {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": [{"type": "text", "text": "C"}, {"type": "text", "text": "D"}]}]
ANSWER = "0.5 9|system:S;user:A;assistant:B;user:CD;"


def test_a_whole_answer(address):
    status, kind, text = call(address + "chat/completions", {
        "model": "echo", "messages": TALK, "temperature": 0.5, "max_tokens": 9, "seed": 1, "n": 1})
    answer = json.loads(text)
    assert (status, kind) == (200, "application/json") and answer["object"] == "chat.completion"
    choice = answer["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": ANSWER}
    assert choice["finish_reason"] == "stop" and choice["index"] == 0
    assert answer["usage"]["completion_tokens"] == 5 and answer["model"] == "echo"
    assert json.loads(call(address + "models")[2])["data"][0]["id"] == "echo"


def test_a_stream_of_events(address):
    status, kind, text = call(address + "chat/completions", {
        "model": "echo", "messages": TALK, "temperature": 0.5, "max_completion_tokens": 9,
        "stream": True})
    assert status == 200 and kind.startswith("text/event-stream")
    lines = text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""] and all(x.startswith("data: ") for x in lines[:-1])
    chunks = [json.loads(line[6:]) for line in lines[:-2]]
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert len({c["id"] for c in chunks}) == 1, "one answer, one id"
    deltas = [c["choices"][0]["delta"] for c in chunks]
    assert deltas[0]["role"] == "assistant" and deltas[-1] == {}
    assert "".join(d.get("content", "") for d in deltas) == ANSWER
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]


def test_refusals_have_the_protocols_form(address):
    for body, status, words in (
            ({"model": "no", "messages": TALK}, 404, "no model is called"),
            ({"model": "echo"}, 400, "messages must be a list"),
            ({"model": "echo", "messages": ["x"]}, 400, "must be an object"),
            ({"model": "echo", "messages": TALK[:1]}, 400, "must end with the user"),
            ({"model": "echo", "messages": TALK, "temperature": 9}, 400, "temperature"),
            ({"model": "echo", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
             400, "only text")):
        got, _, text = call(address + "chat/completions", body)
        assert got == status and words in json.loads(text)["error"]["message"], (body, text)
    assert call(address + "chat/completions", {"model": "echo", "messages": TALK}, "open")[0] == 401
    for wish in ({"n": 2}, {"tools": [{"type": "function"}]}, {"stop": [1]}, {"stream_options": 1},
                 {"response_format": {"type": "json_object"}}):
        with pytest.raises(Refused):
            openai_api.asked({"messages": TALK} | wish)
    openai_api.asked({"messages": TALK, "n": 1, "tools": [], "response_format": {"type": "text"}})
    with pytest.raises(Refused):
        openai_api.asked({"messages": []})


def test_an_answer_ends_at_a_stop_text_wherever_its_pieces_part(address):
    for pieces, stop, expected in ((["one tw", "o three"], ("two",), "one "), (["ab"], ("c",), "ab"),
                                   (["a", "b", "c"], ("bc", "abd"), "a"), (["xa"], ("ab",), "xa"),
                                   (["END", "x"], ("END",), "")):
        got = "".join(openai_api.until(iter(pieces), stop))
        assert got == expected, f"{pieces} until {stop}: {expected!r}, got {got!r}"
    for stream in (False, True):
        text = call(address + "chat/completions", {"model": "echo", "messages": TALK, "stop": "B;",
                                                   "stream": stream})[2]
        assert "assistant:" in text and "CD" not in text


def test_an_answer_that_was_cut_says_so_and_a_stream_counts_on_request(address):
    body = {"model": "echo", "messages": TALK, "max_tokens": 5}
    whole = json.loads(call(address + "chat/completions", body)[2])
    assert whole["choices"][0]["finish_reason"] == "length", "five pieces of five allowed"
    text = call(address + "chat/completions", body | {
        "max_tokens": 6, "stream": True, "stream_options": {"include_usage": True}})[2]
    chunks = [json.loads(line[6:]) for line in text.split("\n\n")[:-2]]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 5
