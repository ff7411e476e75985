"""OpenAI's own client, pointed at our server: does it get answers, streams and errors it knows?

    pip install openai                                          # optional, for this file alone
    python 06_eval/serve.py --published smollm2                 # in another terminal
    python 06_eval/openai_client_benchmark.py --model smollm2

Prints one line for each thing tried: models, a whole answer, a stream with its count of tokens, a
stop text, the asynchronous client, and three errors by their class. Exit status 1 if one fails.
"""

import asyncio
import time
from collections.abc import Callable

from artifacts import BadInput, CommandLine, command

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def tried(name: str, action: Callable[[], object]) -> bool:
    """Do it, print what came and how long it took; False if it did not come."""
    began = time.perf_counter()
    try:
        said, good = action(), True
    except Exception as why:                    # whatever the client makes of our server's words
        said, good = f"{type(why).__name__}: {why}", False
    print(f"{'ok' if good else 'FAILED':7}{name:24}{time.perf_counter() - began:7.2f} s  "
          f"{said!s:.90}")
    return good


def refused(client, kind: type, **changes) -> str:
    """The message of the error of class `kind` that a wrong request gives."""
    try:
        client.chat.completions.create(**{"messages": QUESTION, "model": "no"} | changes)
    except kind as why:
        return str(why)
    raise AssertionError(f"no {kind.__name__}")


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("--address", default="http://127.0.0.1:8000/v1", help="of the server")
    parser.add_argument("--model", default="smollm2", help="one that the server has")
    parser.add_argument("--token", default="none", help="the class token, if the server has one")
    args = parser.parse_args()
    try:
        import openai
    except ImportError:
        raise BadInput("the package openai is missing: python -m pip install openai") from None
    client = openai.OpenAI(base_url=args.address, api_key=args.token, max_retries=0)
    ask = {"model": args.model, "messages": QUESTION, "temperature": 0, "max_tokens": 24}

    def stream() -> str:
        parts = list(client.chat.completions.create(
            **ask, stream=True, stream_options={"include_usage": True}))
        text = "".join(p.choices[0].delta.content or "" for p in parts if p.choices)
        return f"{text!r}, {parts[-1].usage.completion_tokens} tokens"

    async def waited() -> str:
        answers = openai.AsyncOpenAI(base_url=args.address, api_key=args.token, max_retries=0)
        parts = await answers.chat.completions.create(**ask, stream=True)
        return repr("".join([p.choices[0].delta.content or "" async for p in parts]))
    good = [
        tried("models", lambda: [m.id for m in client.models.list()]),
        tried("answer", lambda: client.chat.completions.create(**ask).choices[0].message.content),
        tried("stream", stream), tried("asynchronous stream", lambda: asyncio.run(waited())),
        tried("cut at one token", lambda: client.chat.completions.create(
            **ask | {"max_tokens": 1}).choices[0].finish_reason),
        tried("unknown model", lambda: refused(client, openai.NotFoundError)),
        tried("tools", lambda: refused(client, openai.BadRequestError, model=args.model, tools=[
            {"type": "function", "function": {"name": "f", "parameters": {}}}])),
        tried("no question", lambda: refused(client, openai.BadRequestError, model=args.model,
                                             messages=[]))]
    raise SystemExit(0 if all(good) else 1)


if __name__ == "__main__":
    command(main)
