"""What happens on the arena page, without the web: talks, blind battles, votes, the board.

    room = ArenaRoom(contestants, tokenizer, VoteLog(path))
    for event in room.battle("What does numpy.sort do?"): ...
    room.vote(event["battle"], "a")

Safe to call from many threads at once. Names stay here until the vote is on the disk.
"""

import contextlib
import secrets
import threading
from collections import Counter, OrderedDict
from typing import Iterator, Mapping, Sequence

import torch

from arena import bradley_terry, votes_needed
from contestants import Contestant, prompt_for, stop_ids
from generate import generate
from votes import WINNERS, VoteLog

LONGEST_QUESTION = 2000         # characters
LONGEST_ANSWER = 256            # tokens
KEPT_BATTLES = 5000


class Refused(Exception):
    """A request that cannot be served: an HTTP status and one line for the reader."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Gate:
    """At most `running` generations at once; `waiting` more may queue, others are sent away."""

    def __init__(self, running: int, waiting: int) -> None:
        self.slots, self.room = threading.Semaphore(running), threading.Semaphore(running + waiting)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Wait for a slot; Refused (503) at once if the queue is full."""
        if not self.room.acquire(blocking=False):
            raise Refused(503, "too many readers are waiting; try again in a moment")
        try:
            with self.slots:
                yield
        finally:
            self.room.release()


def clean_question(text: object) -> str:
    """A question fit for a model: a string of 1 to 2,000 characters, control characters removed.

    Refused (400) for anything else, (413) if it is too long. Newlines and tabs stay.
    Example: "  hi\\x00 " -> "hi".
    """
    if not isinstance(text, str):
        raise Refused(400, "the question must be a text")
    if len(text) > LONGEST_QUESTION:
        raise Refused(413, f"the question has {len(text):,} characters; {LONGEST_QUESTION:,} fit")
    # A lone surrogate cannot be encoded: it would fail later, inside the tokenizer.
    kept = "".join(c for c in text if c in "\n\t" or (ord(c) >= 32 and ord(c) != 127
                                                      and not 0xD800 <= ord(c) <= 0xDFFF)).strip()
    if not kept:
        raise Refused(400, "the question is empty")
    return kept


class ArenaRoom:
    """The models, the open battles and the votes. `seed` makes pairs, sides and answers repeat."""

    def __init__(self, contestants: Mapping[str, Contestant], tokenizer, log: VoteLog,
                 suggestions: Sequence[str] = (), running: int = 8, waiting: int = 200,
                 seed: int | None = None) -> None:
        self.contestants, self.tokenizer, self.log = dict(contestants), tokenizer, log
        self.suggestions = list(suggestions)
        self.gate, self.lock = Gate(running, waiting), threading.Lock()
        self.battles: OrderedDict[str, dict] = OrderedDict()
        self.random = torch.Generator().manual_seed(secrets.randbits(40) if seed is None else seed)
        self.drawn: Counter = Counter(tuple(sorted((v["model_a"], v["model_b"])))
                                      for v in log.votes)
        self.known_board: tuple[int, dict] = (-1, {})

    def _draw(self, below: int) -> int:
        return int(torch.randint(below, (1,), generator=self.random))

    def pieces(self, name: str, messages: Sequence[dict], temperature: float = 0.7,
               max_tokens: int = 80) -> Iterator[str]:
        """The answer of model `name` to a conversation, in pieces of text as they are drawn."""
        contestant = self.contestants[name]
        if contestant.stage == "published":     # it brings its own template and tokenizer
            with self.lock:
                generator = torch.Generator().manual_seed(self._draw(2 ** 31))
            yield from contestant.model.reply(list(messages), temperature,
                                              min(max_tokens, LONGEST_ANSWER), generator)
            return
        limit = contestant.model.config.sequence_length
        room = min(max_tokens, LONGEST_ANSWER, limit // 2)
        # A long talk keeps its newest part; the answer needs its share of the context.
        ids = prompt_for(self.tokenizer, contestant.stage, list(messages), limit - room)
        with self.lock:
            generator = torch.Generator().manual_seed(self._draw(2 ** 31))
        yield from self.tokenizer.stream_decode(generate(
            contestant.model, ids, room, temperature, top_p=0.95,
            stop=stop_ids(self.tokenizer), generator=generator))

    def chat(self, name: object, messages: object, temperature: object = 0.7,
             max_tokens: object = 80) -> Iterator[str]:
        """A streamed answer in a talk with a named model. Refused (404) for an unknown model,
        (400) for a talk that is not {"role": "user" | "assistant", "content": text} in turns. A
        first message of the system reaches published models; ours know no such role."""
        if not isinstance(name, str) or name not in self.contestants:
            raise Refused(404, f"no model is called {name!r:.40}")
        if not isinstance(messages, list) or not 1 <= len(messages) <= 40:
            raise Refused(400, "a talk has 1 to 40 messages")
        talk, system = [], []
        if isinstance(messages[0], dict) and messages[0].get("role") == "system":
            system, messages = [{"role": "system", "content": clean_question(
                messages[0].get("content"))}], messages[1:]
        for place, message in enumerate(messages):
            role = "user" if place % 2 == 0 else "assistant"
            if not isinstance(message, dict) or message.get("role") != role:
                raise Refused(400, "the talk must begin with the user and go by turns")
            content = message.get("content")
            talk.append({"role": role, "content": content if role == "assistant" and content == ""
                         else clean_question(content)})
        if not talk or len(talk) % 2 == 0:
            raise Refused(400, "the talk must end with the user")
        heat = _within(temperature, 0.0, 2.0, "temperature")
        length = int(_within(max_tokens, 1, LONGEST_ANSWER, "max_tokens"))
        talk = (system if self.contestants[name].stage == "published" else []) + talk
        return self._gated(self.pieces(name, talk, heat, length))

    def _gated(self, pieces: Iterator) -> Iterator:
        with self.gate.entered():
            yield from pieces

    def pair(self) -> tuple[str, str]:
        """Two different models on random sides; pairs with fewer battles come more often."""
        names = sorted(self.contestants)
        if len(names) < 2:
            raise Refused(409, "an arena needs two models; chapter 5 trains the second one")
        with self.lock:
            pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1:]]
            weights = torch.tensor([1.0 / (1 + self.drawn[pair]) for pair in pairs])
            a, b = pairs[int(torch.multinomial(weights, 1, generator=self.random))]
            self.drawn[a, b] += 1
            # A fair coin decides the sides: readers favour a side, and must not favour a model.
            return (a, b) if self._draw(2) else (b, a)

    def battle(self, question: object) -> Iterator[dict]:
        """Events of one blind battle: {"battle": id}, then {"side", "text"} pieces of both answers
        in turn, at last {"done": true}. Only a battle that is done can be voted on."""
        text = clean_question(question)
        a, b = self.pair()
        identity = secrets.token_urlsafe(12)
        battle = {"battle": identity, "model_a": a, "model_b": b, "prompt": text,
                  "answer_a": "", "answer_b": "", "state": "speaking"}
        with self.lock:
            self.battles[identity] = battle
            while len(self.battles) > KEPT_BATTLES:
                self.battles.popitem(last=False)
        return self._gated(self._speak(battle))

    def _speak(self, battle: dict) -> Iterator[dict]:
        yield {"battle": battle["battle"]}
        messages = [{"role": "user", "content": battle["prompt"]}]
        speaking = {side: self.pieces(battle[f"model_{side}"], messages) for side in "ab"}
        while speaking:
            for side in list(speaking):
                piece = next(speaking[side], None)
                if piece is None:
                    del speaking[side]
                elif piece:
                    battle[f"answer_{side}"] += piece
                    yield {"side": side, "text": piece}
        battle["state"] = "open"
        yield {"done": True}

    def vote(self, identity: object, winner: object) -> dict:
        """Store a vote for good, then reveal: {"model_a", "model_b", "votes"}.

        Refused: (400) unknown winner, (404) unknown battle, (409) answers unfinished or already
        voted. Two votes at once on one battle: the first counts, the other is refused.
        """
        if winner not in WINNERS:
            raise Refused(400, f"the winner is one of {', '.join(WINNERS)}")
        with self.lock:
            battle = self.battles.get(identity) if isinstance(identity, str) else None
            if battle is None:
                raise Refused(404, "there is no such battle; start a new one")
            if battle["state"] != "open":
                raise Refused(409, "the answers are not finished" if battle["state"] == "speaking"
                              else "this battle has its vote already")
            battle["state"] = "closing"
        try:
            votes = self.log.append(battle | {"winner": winner})
        except OSError:
            battle["state"] = "open"
            raise
        battle["state"] = "closed"
        return {"model_a": battle["model_a"], "model_b": battle["model_b"], "votes": votes}

    def board(self) -> dict:
        """The leaderboard of all votes: rows with rating, 95 % interval, rank, votes; and what the
        number of votes can tell."""
        votes = list(self.log.votes)
        if self.known_board[0] != len(votes):
            # A wide prior (550 points) keeps the interval finite when a model has never lost.
            fit = bradley_terry(votes, prior=0.1)
            seen = Counter(v[side] for v in votes for side in ("model_a", "model_b"))
            rows = [{"model": m, "rating": round(fit[m]), "low": round(fit.low[m]),
                     "high": round(fit.high[m]), "rank": fit.rank[m], "votes": seen[m]}
                    for m in fit]
            needed = {gap: votes_needed(gap) for gap in (50, 100, 200)}
            self.known_board = (len(votes), {"rows": rows, "votes": len(votes), "needed": needed,
                                             "remarks": fit.remarks})
        return self.known_board[1]


def _within(value: object, low: float, high: float, name: str) -> float:
    """`value` as a number in [low, high]; Refused (400) otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise Refused(400, f"{name} must be a number from {low:g} to {high:g}")
    return float(value)
