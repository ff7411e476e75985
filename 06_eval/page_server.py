"""The web around the arena room: eight fixed addresses, streaming, limits; no file is ever served.

    server = PageServer(("127.0.0.1", 8000), room, token=None)
    server.serve_forever()

From the standard library only. A request is read with a time limit and a size limit, must be JSON
(so that no other site's form can send it), must name this host, and with a class token must carry
it. Answers stream as chunked lines of JSON. Leaves out: TLS and accounts; for a class on one
network, not for the open internet.
"""

import hmac
import json
import re
import secrets
import socket
import sys
import threading
import time
from collections import OrderedDict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Iterable
from urllib.parse import SplitResult, urlsplit

import openai_api
from arena_room import LONGEST_ANSWER, ArenaRoom, Refused

LARGEST_BODY = 64 * 1024
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class RateLimit:
    """At most `count` requests in `seconds` for each reader; the oldest readers are forgotten."""

    def __init__(self, count: int, seconds: float) -> None:
        self.count, self.seconds = count, seconds
        self.seen: OrderedDict[str, deque] = OrderedDict()
        self.lock = threading.Lock()

    def check(self, reader: str, now: float | None = None) -> None:
        """Count one request; Refused (429) if it is one too many."""
        now = time.monotonic() if now is None else now
        with self.lock:
            times = self.seen.setdefault(reader, deque())
            self.seen.move_to_end(reader)
            while len(self.seen) > 10_000:
                self.seen.popitem(last=False)
            while times and times[0] <= now - self.seconds:
                times.popleft()
            if len(times) >= self.count:
                raise Refused(429, f"at most {self.count} requests in {self.seconds:g} s; wait a "
                              "little")
            times.append(now)


def _split(address: str) -> SplitResult:
    """The parts of an address; Refused (400) for one that is none, such as "http://[::1"."""
    try:
        return urlsplit(address)
    except ValueError:
        raise Refused(400, "this is no address")


class PageServer(ThreadingHTTPServer):
    """A threaded server that holds the room, the token and the limits."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], room: ArenaRoom, token: str | None = None,
                 per_minute: int = 60, all_per_minute: int = 3000) -> None:
        self.room, self.token = room, token
        self.limit = RateLimit(per_minute, 60.0)
        # A whole class may share one address behind its router: a second, wide limit on that.
        self.address_limit = RateLimit(all_per_minute, 60.0)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.page = Path(__file__).with_name("arena_page.html").read_text(encoding="utf-8")
        super().__init__(address, PageHandler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader who went away in the middle is nothing to report; anything else is."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class PageHandler(BaseHTTPRequestHandler):
    """One request: checked, routed, answered."""

    protocol_version = "HTTP/1.1"
    timeout = 30                # seconds that a slow reader may take for each read
    server: PageServer

    def do_GET(self) -> None:
        """The page, the models, the board."""
        self._answer({"/": self._page, "/api/models": self._models, "/api/board": self._board,
                      "/v1/models": lambda: self._json(
                          openai_api.model_list(self.server.room.contestants))})

    def do_POST(self) -> None:
        """Chat, battle, vote."""
        self._answer({"/api/chat": self._chat, "/api/battle": self._battle,
                      "/api/vote": self._vote, "/v1/chat/completions": self._completions})

    def _answer(self, routes: dict) -> None:
        length = self.headers.get("Content-Length", "")
        # isdigit alone would let "²" through, which int refuses; 12 digits are a terabyte.
        self.unread = int(length) if re.fullmatch("[0-9]{1,12}", length) else None
        try:
            path = _split(self.path).path
            if path not in routes:
                raise Refused(404, "there is nothing at this address")
            self._check_host()
            if path != "/":
                self._check_token()
            routes[path]()
        except Refused as refusal:
            self._refuse(refusal.status, str(refusal))
        except (BrokenPipeError, ConnectionError, TimeoutError):
            self.close_connection = True
        except OSError as error:
            self._refuse(507, f"the vote could not be stored ({error.strerror})")
        except Exception:
            self._refuse(500, "something is wrong here; the teacher's terminal says what")
            raise

    def _check_host(self) -> None:
        """On loopback only loopback's names: another site cannot point its own name at us."""
        host = (_split(f"//{self.headers.get('Host', '')}").hostname or "").lower()
        if self.server.server_address[0] in LOOPBACK and host not in LOOPBACK:
            raise Refused(403, "this server answers to localhost only")

    def _check_token(self) -> None:
        given = self.headers.get("X-Class-Token") or \
            self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.server.token and not hmac.compare_digest(given.encode("utf-8", "replace"),
                                                         self.server.token.encode()):
            raise Refused(401, "the class token is missing or wrong: open the address that the "
                          "teacher gave, with its ?token=")

    def _body(self) -> dict:
        """The JSON object in the request; Refused for anything else."""
        self.server.address_limit.check(self.client_address[0])
        reader = self.headers.get("X-Reader", "")[:64]
        self.server.limit.check(f"{self.client_address[0]} {reader}")
        if self.unread is None:
            raise Refused(411, "the request must say its length")
        if self.unread > LARGEST_BODY:
            raise Refused(413, f"{self.unread:,} bytes are too many; {LARGEST_BODY:,} fit")
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "the request must be application/json")
        data, self.unread = self.rfile.read(self.unread), 0
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            raise Refused(400, "the request is not JSON")
        if not isinstance(body, dict):
            raise Refused(400, "the request must be a JSON object")
        return body

    def _drain(self) -> None:
        """Read and forget what is left of a body, up to a point, so that the reader hears why."""
        left, until = min(self.unread or 0, 2 ** 25), time.monotonic() + 5
        while left > 0 and time.monotonic() < until:
            got = self.rfile.read(min(left, 2 ** 16))
            left -= len(got) or left
            self.unread -= len(got)
        # What could not be read away, or has no known end, would be taken for the next request.
        self.close_connection = self.unread != 0

    def _headers(self, status: int, kind: str, length: int | None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        if self.close_connection:
            self.send_header("Connection", "close")
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))

    def _json(self, value: object, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self._headers(status, "application/json", len(data))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status: int, message: str) -> None:
        try:
            if self.command == "POST" and self.unread != 0:
                self._drain()
            self._json({"error": {"message": message, "type": "invalid_request_error"}
                        if self.path.startswith("/v1/") else message}, status)
        except OSError:
            self.close_connection = True

    def _completions(self) -> None:
        a = openai_api.asked(self._body())
        length = a.max_tokens
        length = min(length, LONGEST_ANSWER) if type(length) in (int, float) else length
        pieces = self.server.room.chat(a.model, a.talk, a.temperature, length)
        if a.stream:
            self._stream(openai_api.events(a.model, pieces, a.stop, length, a.usage),
                         "text/event-stream; charset=utf-8")
        else:
            self._json(openai_api.completion(a.model, pieces, a.stop, length))

    def _stream(self, values: Iterable, kind: str = "application/x-ndjson; charset=utf-8") -> None:
        """Values as lines of JSON, or bytes as they are, each sent at once as one chunk."""
        source = iter(values)
        # The first value before the header: a refusal can still have its own status.
        first = next(source, None)
        self._headers(200, kind, None)
        self.end_headers()
        try:
            while first is not None:
                data = first if isinstance(first, bytes) else json.dumps(first).encode() + b"\n"
                self.wfile.write(b"%X\r\n%b\r\n" % (len(data), data))
                self.wfile.flush()
                first = next(source, None)
            self.wfile.write(b"0\r\n\r\n")
        finally:
            # A reader who pressed stop is gone: closing the generator frees the place in the gate.
            source.close()

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        data = self.server.page.replace("NONCE", nonce).encode()
        self._headers(200, "text/html; charset=utf-8", len(data))
        self.send_header("Content-Security-Policy",
                         f"default-src 'none'; script-src 'nonce-{nonce}'; style-src "
                         f"'nonce-{nonce}'; connect-src 'self'; img-src data:; base-uri 'none'; "
                         "form-action 'none'; frame-ancestors 'none'")
        self.end_headers()
        self.wfile.write(data)

    def _models(self) -> None:
        self._json({"models": list(self.server.room.contestants),
                    "suggestions": self.server.room.suggestions})

    def _board(self) -> None:
        self._json(self.server.room.board())

    def _chat(self) -> None:
        body = self._body()
        pieces = self.server.room.chat(body.get("model"), body.get("messages"),
                                       body.get("temperature", 0.7), body.get("max_tokens", 80))
        self._stream(pieces)

    def _battle(self) -> None:
        self._stream(self.server.room.battle(self._body().get("question")))

    def _vote(self) -> None:
        body = self._body()
        self._json(self.server.room.vote(body.get("battle"), body.get("winner")))

    def log_message(self, *args: object) -> None:
        """No access log: what readers ask is theirs, and a token may stand in an address."""
