"""Who may judge: our reward model, a model's likelihood, or a model behind an address.

    judge = RewardJudge(load_reward_model(path), tokenizer)
    judge("What does sort do?", "Return a sorted copy.", "It does.")     # P(first is better)

The first two score each answer alone, so they cannot prefer a side; a judge that reads both
answers at once can, and usually does: `judge.judge_both_orders` shows it.
"""

import http.client
import json
import math
import os
import time
import urllib.error
import urllib.request

import torch

from artifacts import BadInput
from chat_template import PAD, special_id
from responses import collate, sequence_logprobs
from reward_model import answer_row


class ScoreJudge:
    """A judge made of a score for one answer: P(first) = sigmoid(score(first) - score(second)).

    Scores are remembered, because every answer is judged in two orders and many comparisons.
    """

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], float] = {}

    def score(self, question: str, answer: str) -> float:
        """The score of one answer, in log odds; subclasses say how."""
        raise NotImplementedError

    def __call__(self, question: str, first: str, second: str) -> float:
        for answer in (first, second):
            if (question, answer) not in self.known:
                self.known[question, answer] = self.score(question, answer)
        gap = self.known[question, first] - self.known[question, second]
        return 0.5 * (1.0 + math.tanh(0.5 * gap))


class RewardJudge(ScoreJudge):
    """Chapter 5's reward model on its Bradley-Terry scale, where differences are log odds."""

    def __init__(self, model, tokenizer) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

    @torch.no_grad()
    def score(self, question: str, answer: str) -> float:
        """Raw score of a finished answer."""
        row = _row(self.model, self.tokenizer, question, answer)
        return float(self.model.raw_score(*collate([row], special_id(self.tokenizer, PAD)))[0])


class LikelihoodJudge(ScoreJudge):
    """How natural an answer sounds to a model: mean log-probability of its tokens, in nats.

    It needs no training and knows no preference, only what is likely. Different family than the
    reward model, so agreement between the two means something.
    """

    def __init__(self, model, tokenizer) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

    @torch.no_grad()
    def score(self, question: str, answer: str) -> float:
        """Mean nats per answer token, the end token included (so that endless text costs)."""
        row = _row(self.model, self.tokenizer, question, answer)
        total = sequence_logprobs(self.model, *collate([row], special_id(self.tokenizer, PAD)))
        return float(total[0]) / max(1, sum(row[1]))


def _row(model, tokenizer, question: str, answer: str) -> tuple[list[int], list[int]]:
    """(ids, mask) of question and answer, the answer cut to the model's context at its end."""
    ids, mask = answer_row(tokenizer, question, answer)
    limit = model.config.sequence_length
    return ids[:limit], mask[:limit]


class AddressJudge:
    """A model behind an OpenAI-compatible address that the user names; nothing is sent elsewhere.

    It is asked to answer with one letter, m or M, as AlpacaEval asks, and the probabilities of the
    two are used where the address gives them. Nonsense raises ValueError, silence TimeoutError,
    an unreachable address or a refusal OSError with what it says about itself: `judge.compare`
    counts these and goes on.
    """

    instruction = ("Two answers to one question follow. Reply with one letter: m if the first "
                   "answer is better, M if the second is better.")

    def __init__(self, address: str, model: str, key_variable: str = "JUDGE_KEY",
                 timeout: float = 30.0) -> None:
        if not address.startswith(("http://", "https://")):
            raise BadInput(f"the judge's address must begin with http:// or https://: {address!r}")
        self.url = address.rstrip("/") + "/chat/completions"
        self.model, self.key_variable, self.timeout = model, key_variable, timeout

    def __call__(self, question: str, first: str, second: str) -> float:
        content = (f"{self.instruction}\n\nQuestion: {question}\n\nFirst answer (m):\n{first}"
                   f"\n\nSecond answer (M):\n{second}\n\nBetter answer, m or M:")
        body = {"model": self.model, "max_tokens": 1, "temperature": 0, "logprobs": True,
                "top_logprobs": 5, "messages": [{"role": "user", "content": content}]}
        headers = {"Content-Type": "application/json"}
        if os.environ.get(self.key_variable):
            headers["Authorization"] = f"Bearer {os.environ[self.key_variable]}"
        try:
            reply = self._ask(urllib.request.Request(self.url, json.dumps(body).encode(), headers))
            return read_verdict(json.loads(reply)["choices"][0])
        except urllib.error.HTTPError as error:
            raise OSError(f"{self.url} answered {error.code} {error.reason}"
                          f"{refusal_in(error)}") from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise TimeoutError(f"{self.url} did not answer in {self.timeout:g} s") from error
            raise
        except (LookupError, TypeError, AttributeError, OverflowError, RecursionError,
                http.client.HTTPException, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.url} answered in an unknown form "
                             f"({type(error).__name__}: {error})") from error

    def _ask(self, request: urllib.request.Request) -> bytes:
        """The reply's first megabyte; TimeoutError also where it comes drop by drop for ever."""
        until, data = time.monotonic() + self.timeout, b""
        with urllib.request.build_opener(StayHere).open(request, timeout=self.timeout) as reply:
            while len(data) < 1_000_000 and (piece := reply.read1(65536)):
                data += piece
                if time.monotonic() > until:
                    raise TimeoutError(f"{self.url} did not finish in {self.timeout:g} s")
        return data


def refusal_in(error: urllib.error.HTTPError) -> str:
    """": " and the message in an error's body, or "" if there is none. OpenAI's form is {"error":
    {"message": ...}}; others say {"message"}, {"detail"} or plain text."""
    try:
        text = error.read(10_000).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    try:
        body = json.loads(text)
        while isinstance(body, dict):
            body = next((body[key] for key in ("error", "message", "detail") if key in body), text)
        text = body if isinstance(body, str) else text
    except (ValueError, RecursionError):
        pass
    return ": " + " ".join(text.split())[:300] if text else ""


class StayHere(urllib.request.HTTPRedirectHandler):
    """No redirects: questions and the key go to the named address or nowhere."""

    def redirect_request(self, *args: object) -> None:
        return None


def read_verdict(choice: dict) -> float:
    """P(first is better) from one choice of a chat completion.

    With token probabilities: p(m) / (p(m) + p(M)). Without: 1.0 for m, 0.0 for M. Anything else
    raises ValueError that shows what was said.
    Example: {"message": {"content": "M"}} -> 0.0.
    """
    logprobs = (choice.get("logprobs") or {}).get("content") or []
    mass = {"m": 0.0, "M": 0.0}
    for candidate in logprobs[0].get("top_logprobs") or [] if logprobs else []:
        letter = candidate["token"].strip()
        if letter in mass:
            mass[letter] += math.exp(candidate["logprob"])
    if sum(mass.values()) > 0:
        return mass["m"] / sum(mass.values())
    said = str((choice.get("message") or {}).get("content") or "").strip()
    if said[:1] in mass and not said[1:2].isalnum():
        return 1.0 if said[0] == "m" else 0.0
    raise ValueError(f"the judge was to say m or M, and said {said[:60]!r}")
