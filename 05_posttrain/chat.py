"""Talk to any checkpoint in the terminal, its tokens streaming as they are drawn.

    python 05_posttrain/chat.py                    # the SFT model; --model base, dpo, ppo, grpo
    python 05_posttrain/chat.py --model out/05_posttrain/ppo.pt --temperature 0.5
    python 05_posttrain/chat.py --model smollm2    # a published model: GGUF file or folder too
    echo "What does numpy.argsort do?" | python 05_posttrain/chat.py

Ask about anything that is installed beside it, "What does json.dumps do?": the documentation of the
name is looked up and put in front of the question (open book; --closed-book leaves it out). What
stands on the page it can repeat; what it says from memory has the form of an answer, and no more.
An answer that goes round in a circle is cut off.
An empty line or Ctrl-D ends it. Every question stands alone, as in training, unless --remember is
given (a published model always remembers); /new forgets it all. The base model knows no chat
template: it gets the bare text and continues it.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from artifacts import CommandLine, command, out
from chat_template import DOCUMENT_END, END, fit_prompt, plain_ids, special_id
from generate import generate
from installed_docs import with_documentation
from option_ranges import parsed
from published_chat import is_published, open_chatter
from training_stage import open_model, open_tokenizer, result

MADE_BY = {"base": "04_model_pretrain/pretrain.py"}


def checkpoint_path(name: str) -> Path:
    """"sft" -> out/05_posttrain/sft.pt, "base" -> chapter 4's; anything else is a path."""
    if name == "base":
        return out("04_model_pretrain", "base.pt")
    stages = ("sft", "dpo", "ppo", "grpo", "reinforce", "rft")
    return result(f"{name}.pt") if name in stages else Path(name)


def prompt_for(tokenizer, messages: list[dict], is_base: bool, room: int) -> list[int]:
    """The ids to continue, at most `room`: the newest turns that fit, the last question always.

    A base model gets the bare words of the last message behind <|endoftext|>.
    """
    if is_base:
        first = special_id(tokenizer, DOCUMENT_END)
        return [first, *plain_ids(tokenizer, messages[-1]["content"] + "\n")[1 - room:]]
    return fit_prompt(tokenizer, messages, room)


def until_a_circle(tokens: Iterable[int], turns: int = 3) -> Iterator[int]:
    """`tokens` up to where the same 1 to 8 of them come `turns` times in a row (one alone: twice as
    often): a small model that goes round in a circle does not find out of it.

    1 2 7 8 7 8 7 8 7 8 gives 1 2 7 8 7 8 7, without the token that closes the third round.
    """
    said: list[int] = []
    for token in tokens:
        said.append(token)
        for size in range(1, 9):
            rounds = turns * (2 if size == 1 else 1)
            end = said[-size * rounds:]
            if len(end) == size * rounds and end == end[:size] * rounds:
                return
        yield token


def reply(model, tokenizer, messages: list[dict], *, is_base: bool, temperature: float,
          max_new_tokens: int, generator: torch.Generator) -> Iterator[str]:
    """The answer to `messages` in pieces of text, as it is drawn; ends where the model ends it."""
    limit = model.config.sequence_length
    # However long the answer may become, half of the context is the question's.
    ids = prompt_for(tokenizer, messages, is_base, limit - min(max_new_tokens, limit // 2))
    stop = (special_id(tokenizer, END), special_id(tokenizer, DOCUMENT_END))
    tokens = generate(model, ids, max_new_tokens, temperature, top_p=0.95, stop=stop,
                      generator=generator)
    yield from tokenizer.stream_decode(until_a_circle(tokens))


def main() -> None:
    parser = CommandLine(__doc__)
    add = parser.add_argument
    add("--model", default="sft", help="base, sft, dpo, ppo, grpo, the path of a checkpoint, "
        "smollm2, or a published model's GGUF file or folder")
    add("--bits", type=int, default=16, choices=(4, 8, 16, 32),
        help="of a published model's weights; 4 is fastest")
    add("--tokenizer", type=Path, default=out("01_tokenizer", "tokenizer.json"))
    add("--temperature", type=float, default=0.3, help="0: always the likeliest token")
    add("--max-new-tokens", type=int, default=80)
    add("--closed-book", action="store_true", help="answer from memory, look nothing up")
    add("--remember", action="store_true", help="send the conversation so far with every question: "
        "for a model trained on more than one turn")
    add("--seed", type=int, default=0)
    args = parsed(parser)
    generator = torch.Generator().manual_seed(args.seed)
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    if is_published(args.model):
        chatter = open_chatter(args.model, args.bits)
        talk(args.model, lambda messages: chatter.reply(
            messages, args.temperature, args.max_new_tokens, generator),
            lambda asked: (asked, ""), remember=True)
        return
    path = checkpoint_path(args.model)
    tokenizer = open_tokenizer(args.tokenizer)
    model, _ = open_model(path, args.tokenizer, MADE_BY.get(
        args.model, f"05_posttrain/{args.model if path == result(path.name) else 'sft'}.py"))
    is_base = args.model == "base"
    talk(args.model, lambda messages: reply(
        model, tokenizer, messages, is_base=is_base, generator=generator,
        temperature=args.temperature, max_new_tokens=args.max_new_tokens),
        (lambda asked: (asked, "")) if is_base or args.closed_book else with_documentation,
        remember=args.remember)


def talk(name: str, answer: Callable[[list[dict]], Iterator[str]],
         look_up: Callable[[str], tuple[str, str]], remember: bool) -> None:
    """Questions from the terminal, one a line, each answered as it is drawn, until an empty one.

    `look_up` gives the question with what was found about it, and the name of what was found.
    `remember` sends what was said before along with every question.
    """
    messages: list[dict] = []
    try:
        while (asked := input("\nyou> " if sys.stdin.isatty() else "").strip()):
            if asked == "/new":
                messages = []
                continue
            asked, found = look_up(asked)
            if found:
                print(f"(looked up {found})")
            if not remember:        # trained on single questions, it would answer the last page
                messages = []
            messages.append({"role": "user", "content": asked})
            print(f"{name}> ", end="", flush=True)
            said = ""
            for piece in answer(messages):
                said += piece
                print(piece, end="", flush=True)
            print()
            messages.append({"role": "assistant", "content": said})
    except EOFError:
        print()


if __name__ == "__main__":
    command(main)
