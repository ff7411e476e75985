"""A web page for a class: chat with any checkpoint, and a blind arena with a live leaderboard.

    python 06_eval/serve.py                          # then open http://127.0.0.1:8000
    python 06_eval/serve.py --host 0.0.0.0           # for a class on one network; prints the token
    python 06_eval/serve.py --published smollm2      # a published model beside ours

Reads the tokenizer and every checkpoint that chapters 4 and 5 have left (or --model NAME=PATH);
writes out/06_eval/votes.jsonl, one vote a line, on the disk before the voter is thanked. The votes
become preferences with: python 05_posttrain/preferences.py --votes out/06_eval/votes.jsonl
A chat program that speaks OpenAI's API finds /v1/chat/completions here (openai_api.py).
Standard library only; the page asks no other server for anything. Leaves out: TLS, accounts.
"""

import argparse
import secrets
import socket
from pathlib import Path

import torch

from artifacts import BadInput, CommandLine, command, need, out, shown, within
from arena_room import ArenaRoom
from bpe import Tokenizer
from contestants import Contestant, default_paths, named_paths, open_contestants
from measurements import read_lines
from page_server import LOOPBACK, PageServer
from published_chat import open_chatter
from votes import VoteLog

EXAMPLES = ["What does numpy.argsort do?", "What does os.path.join return?",
            "Which module holds Counter?", "What does torch.nn.Linear do?"]


def suggestions(path: Path) -> list[str]:
    """Forty held-out questions for the page to draw from, or four examples while there are none."""
    if not path.exists():
        return EXAMPLES
    asked = [r["messages"][0]["content"] for r in read_lines(path, "05_posttrain/instructions.py")]
    return asked[::max(1, len(asked) // 40)][:40] or EXAMPLES


def own_address() -> str:
    """This machine's address on its network, for the teacher to read out; needs no internet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))     # a documentation address: nothing is sent
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def parse() -> argparse.Namespace:
    parser = CommandLine(__doc__)
    group = parser.add_argument_group("who may come")
    group.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets the network in")
    group.add_argument("--port", type=within(int, low=0, high=65535), default=8000,
                       help="0 takes any free one")
    group.add_argument("--token", help="the class token (default with --host: a random one)")
    group.add_argument("--per-minute", type=within(int, low=1), default=60,
                       help="requests of one reader")
    group = parser.add_argument_group("what is served")
    group.add_argument("--model", action="append", metavar="NAME=PATH", default=[])
    group.add_argument("--published", action="append", metavar="MODEL", default=[],
                       help="smollm2, or a published model's GGUF file or folder")
    group.add_argument("--tokenizer", default=out("01_tokenizer", "tokenizer.json"))
    group.add_argument("--questions", default=out("05_posttrain", "sft_val.jsonl"),
                       help="questions that the page suggests, .jsonl")
    group.add_argument("--votes", default=out("06_eval", "votes.jsonl"))
    parser.add_argument("--threads", type=within(int, low=1), default=1, help="torch threads")
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    paths = named_paths(args.model) if args.model else default_paths()
    contestants, tokenizer = {}, None
    if paths or not args.published:
        tokenizer = Tokenizer.load(need(args.tokenizer, "01_tokenizer/train_tokenizer.py"))
        contestants = open_contestants(paths, args.tokenizer)
    for name in args.published:
        short = Path(name).stem
        contestants[short] = Contestant(short, "published", open_chatter(name))
    room = ArenaRoom(contestants, tokenizer, VoteLog(args.votes),
                     suggestions(Path(args.questions)))
    for name in contestants:            # the first pass of a model is slow: take it before anyone
        list(room.pieces(name, [{"role": "user", "content": "hello"}], max_tokens=2))
    token = args.token or (None if args.host in LOOPBACK else secrets.token_urlsafe(6))
    try:
        server = PageServer((args.host, args.port), room, token, args.per_minute)
    except (OSError, OverflowError) as error:
        raise BadInput(f"cannot listen on {args.host} port {args.port} ({error}): give another "
                       "--host or --port")
    where = own_address() if args.host in ("0.0.0.0", "::") else args.host
    link = f"http://{where}:{server.server_address[1]}/" + (f"?token={token}" if token else "")
    print(f"{', '.join(contestants)}: {link}   (Ctrl-C ends)", flush=True)
    print(f"votes go to {shown(args.votes)} ({len(room.log.votes)} so far)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("\nclosed; every vote is stored")
    finally:
        server.server_close()
        room.log.close()


if __name__ == "__main__":
    command(main)
