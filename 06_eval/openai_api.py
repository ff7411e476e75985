"""The protocol that most chat programs speak, on our own server: /v1/chat/completions.

    python 06_eval/serve.py --published smollm2
    curl http://127.0.0.1:8000/v1/chat/completions -H "Content-Type: application/json" \\
         -d '{"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}]}'

Any client of OpenAI's API that takes a base address talks to it, with `"stream": true` too (server
sent events). Read are model, messages, temperature, max_tokens (or max_completion_tokens), stop,
stream and its include_usage; tools, several choices and answers in JSON are refused, what else a
client sends is passed over. `openai_client_benchmark.py` tries it with OpenAI's own client.
Source: OpenAI's API reference, "Chat" and "Chat streaming", 2026.
"""

import json
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from arena_room import Refused


@dataclass(frozen=True)
class Asked:
    """What a request says, in this server's words."""
    model: object
    talk: list[dict]
    temperature: object
    max_tokens: object
    stream: bool
    stop: tuple[str, ...]           # texts at which the answer ends, not given
    usage: bool                     # the stream's last event counts the tokens


def asked(body: dict) -> Asked:
    """A request's fields. Content may be a text or a list of {"type": "text"} parts.

    Refused (400) for what is not a talk, and for a wish that cannot be met and whose neglect the
    client would not see: several choices, tools, answers in JSON. The room checks the rest.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages must be a list of at least one message")
    talk = []
    for message in messages:
        if not isinstance(message, dict):
            raise Refused(400, "a message must be an object with role and content")
        content = message.get("content")
        if isinstance(content, list):
            if not all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
                raise Refused(400, "only text can be answered here")
            content = "".join(part["text"] for part in content)
        role = {"developer": "system"}.get(message.get("role"), message.get("role"))
        talk.append({"role": role, "content": content})
    kind, options = body.get("response_format") or {}, body.get("stream_options") or {}
    stop = body.get("stop") or ()
    stop = (stop,) if isinstance(stop, str) else stop
    for wrong, words in ((body.get("n") not in (None, 1), "only n = 1 answer at a time is given"),
                         (body.get("tools") or body.get("functions"), "no tools are known here"),
                         (not isinstance(kind, dict) or kind.get("type", "text") != "text",
                          "answers are text: no other response_format is known here"),
                         (not isinstance(options, dict), "stream_options must be an object"),
                         (not isinstance(stop, (list, tuple)) or not all(
                             isinstance(t, str) and t for t in stop),
                          "stop must be a text or a list of texts")):
        if wrong:
            raise Refused(400, words)
    def given(*names: str, default: object) -> object:
        return next((body[n] for n in names if body.get(n) is not None), default)
    return Asked(body.get("model"), talk, given("temperature", default=0.7),
                 given("max_completion_tokens", "max_tokens", default=256),
                 bool(body.get("stream", False)), tuple(stop), bool(options.get("include_usage")))


def until(pieces: Iterable[str], stop: tuple[str, ...]) -> Iterator[str]:
    """The pieces up to the first place where a text of `stop` begins, wherever the pieces' borders
    are: what could be the beginning of one is held back until it is known."""
    held = ""
    try:
        for piece in pieces:
            held += piece
            found = [place for text in stop if (place := held.find(text)) >= 0]
            if found:
                held = held[:min(found)]
                break
            keep = max((n for text in stop for n in range(1, len(text))
                        if held.endswith(text[:n])), default=0)
            yield held[:len(held) - keep]
            held = held[len(held) - keep:]
        yield held
    finally:
        if hasattr(pieces, "close"):        # a reader who left: the place in the gate is free
            pieces.close()


def _why(count: int, most: object) -> str:
    """"length" if the answer took all the tokens it was allowed (a piece is a token, but for
    characters that take several), else "stop"."""
    return "length" if isinstance(most, (int, float)) and count >= most else "stop"


def _usage(count: int) -> dict:
    return {"prompt_tokens": 0, "completion_tokens": count, "total_tokens": count}


def completion(model: str, pieces: Iterable[str], stop: tuple[str, ...] = (),
               most: object = None) -> dict:
    """The whole answer as one object. `most`: the tokens that were allowed."""
    counted = Counted(pieces)
    text = "".join(until(counted, stop))
    return {"id": f"chatcmpl-{secrets.token_hex(12)}", "object": "chat.completion",
            "created": int(time.time()), "model": model,
            "choices": [{"index": 0, "finish_reason": _why(counted.count, most), "logprobs": None,
                         "message": {"role": "assistant", "content": text}}],
            "usage": _usage(counted.count)}


class Counted:
    """Pieces as they come, and how many there have been."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self.pieces, self.count = iter(pieces), 0

    def __iter__(self) -> "Counted":
        return self

    def __next__(self) -> str:
        piece = next(self.pieces)
        self.count += 1
        return piece

    def close(self) -> None:
        """Ends what makes the pieces."""
        if hasattr(self.pieces, "close"):
            self.pieces.close()


def events(model: str, pieces: Iterable[str], stop: tuple[str, ...] = (), most: object = None,
           usage: bool = False) -> Iterator[bytes]:
    """The answer piece by piece, each one server-sent event, "[DONE]" the last."""
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "object": "chat.completion.chunk",
            "created": int(time.time()), "model": model}
    counted = Counted(pieces)

    def line(content: dict) -> bytes:
        return b"data: " + json.dumps(head | content).encode() + b"\n\n"

    def event(delta: dict, reason: str | None = None) -> bytes:
        return line({"choices": [{"index": 0, "delta": delta, "finish_reason": reason,
                                  "logprobs": None}]})
    yield event({"role": "assistant", "content": ""})
    words = until(counted, stop)
    try:
        for piece in words:
            if piece:
                yield event({"content": piece})
    finally:
        words.close()
        counted.close()
    yield event({}, _why(counted.count, most))
    if usage:
        yield line({"choices": [], "usage": _usage(counted.count)})
    yield b"data: [DONE]\n\n"


def model_list(names: Iterable[str]) -> dict:
    """What /v1/models answers."""
    return {"object": "list", "data": [{"id": name, "object": "model", "created": 0,
                                        "owned_by": "this machine"} for name in names]}
