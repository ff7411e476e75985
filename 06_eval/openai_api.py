"""The protocol that most chat programs speak, on our own server: /v1/chat/completions.

    python 06_eval/serve.py --published smollm2
    curl http://127.0.0.1:8000/v1/chat/completions -H "Content-Type: application/json" \\
         -d '{"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}]}'

Any client of OpenAI's API that takes a base address talks to it, with `"stream": true` too (server
sent events). Read are model, messages, temperature, max_tokens (or max_completion_tokens), stream;
what else a client sends is passed over. Leaves out: tools, several choices, log-probabilities.
Source: OpenAI's API reference, "Chat" and "Chat streaming", 2026.
"""

import json
import secrets
import time
from collections.abc import Iterable, Iterator

from arena_room import Refused


def asked(body: dict) -> tuple[object, list[dict], object, object, bool]:
    """(model, messages, temperature, max_tokens, stream) of a request, in this server's words.

    Content may be a text or a list of {"type": "text"} parts. Refused (400) for what is not a
    talk; the room checks the rest.
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
    def given(*names: str, default: object) -> object:
        return next((body[n] for n in names if body.get(n) is not None), default)
    return (body.get("model"), talk, given("temperature", default=0.7),
            given("max_completion_tokens", "max_tokens", default=256),
            bool(body.get("stream", False)))


def completion(model: str, pieces: Iterable[str], prompt: int = 0) -> dict:
    """The whole answer as one object."""
    parts = list(pieces)
    return {"id": f"chatcmpl-{secrets.token_hex(12)}", "object": "chat.completion",
            "created": int(time.time()), "model": model,
            "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None,
                         "message": {"role": "assistant", "content": "".join(parts)}}],
            "usage": {"prompt_tokens": prompt, "completion_tokens": len(parts),
                      "total_tokens": prompt + len(parts)}}


def events(model: str, pieces: Iterable[str]) -> Iterator[bytes]:
    """The answer piece by piece, each one server-sent event, "[DONE]" the last."""
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "object": "chat.completion.chunk",
            "created": int(time.time()), "model": model}

    def event(delta: dict, reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return b"data: " + json.dumps(head | {"choices": [choice]}).encode() + b"\n\n"
    yield event({"role": "assistant", "content": ""})
    try:
        for piece in pieces:
            yield event({"content": piece})
    finally:
        if hasattr(pieces, "close"):        # a reader who left: the place in the gate is free
            pieces.close()
    yield event({}, "stop")
    yield b"data: [DONE]\n\n"


def model_list(names: Iterable[str]) -> dict:
    """What /v1/models answers."""
    return {"object": "list", "data": [{"id": name, "object": "model", "created": 0,
                                        "owned_by": "this machine"} for name in names]}
