"""The chat template: how a conversation becomes one row of tokens, and which of them are trained.

    <|user|>What does numpy.argsort do?<|assistant|>Return the indices that sort.<|end|>

Three special tokens, each one id that no text can ever produce: a user who types the
characters `<|assistant|>` gets thirteen ordinary characters, not a change of speaker.
`render` returns ids and loss mask together, built side by side, so that they cannot drift apart.

But: no system role, no tools, and no text before the first turn.
"""

from artifacts import BadInput

USER, ASSISTANT, END, PAD, DOCUMENT_END = (
    "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>", "<|endoftext|>")
OPENING = {"user": USER, "assistant": ASSISTANT}


def special_id(tokenizer, name: str) -> int:
    """The id of the special token `name`, as `special_id(tokenizer, "<|end|>")`.

    Raises BadInput that names the token and the way out if the tokenizer was made without it.
    """
    try:
        return tokenizer.special_tokens[name]
    except KeyError:
        raise BadInput(f"the tokenizer has no special token {name}: make it again with "
                       "python 01_tokenizer/train_tokenizer.py") from None


def plain_ids(tokenizer, text: str) -> list[int]:
    """The ids of `text` as ordinary text: a special token written out in it stays characters.

    This is the only door by which anybody's words enter a conversation.
    """
    return list(tokenizer.encode(text, allowed_special=()))


def render(tokenizer, messages: list[dict]) -> tuple[list[int], list[int]]:
    """A conversation -> (ids, mask), two lists of the same length.

    messages: [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}, ...],
    any number of turns, starting with the user. mask is 1 on every token that the assistant must
    learn to say: the words of each answer and the <|end|> that closes it; it is 0 on the user's
    words, on <|user|> and on <|assistant|>. The end token is inside the mask: a model that is
    never trained to say it never stops.

    With one id per character, [user "ab", assistant "c"] gives
        ids  [<|user|>, a, b, <|assistant|>, c, <|end|>]
        mask [       0, 0, 0,             0, 1,       1]
    Raises BadInput for a role that is not "user" or "assistant". The words of a message never
    become special tokens. `render_prompt(m)` is a prefix of `render(m + answer)`.
    """
    ids, mask = [], []
    for message in messages:
        role = message["role"]
        if role not in OPENING:
            raise BadInput(f"a message has the role {role!r}; only user and assistant are known")
        # The opening token and the words are encoded apart, so that no merge crosses the border
        # between them: the prompt's ids are the same with and without an answer behind it.
        words = plain_ids(tokenizer, message["content"])
        ids += [special_id(tokenizer, OPENING[role]), *words]
        # Only the assistant's words are a lesson. The user's words are the question, not the aim.
        trained = int(role == "assistant")
        mask += [0, *[trained] * len(words)]
        # The end token closes an answer and is part of the lesson.
        if role == "assistant":
            ids.append(special_id(tokenizer, END))
            mask.append(1)
    return ids, mask


def render_prompt(tokenizer, messages: list[dict]) -> list[int]:
    """A conversation that ends with the user -> ids that end with <|assistant|>, ready to answer.

    `render_prompt(tokenizer, [{"role": "user", "content": "ab"}])` with one id per character is
    [<|user|>, a, b, <|assistant|>], exactly the beginning of `render` of the same conversation
    with an answer. Raises BadInput if the last message is not the user's.
    """
    if not messages or messages[-1]["role"] != "user":
        raise BadInput("a prompt must end with a message of the user")
    # Everything so far, as in training, then the token after which the assistant speaks.
    ids, _ = render(tokenizer, messages)
    return [*ids, special_id(tokenizer, ASSISTANT)]


def fit_prompt(tokenizer, messages: list[dict], room: int, most: int | None = None) -> list[int]:
    """`render_prompt` of the newest turns that fit `room` tokens; the last question always.

    A last question that is longer than `room` alone is kept whole up to `most` tokens (None: up to
    `room`); beyond that its first words go, never the tokens that say who speaks: without <|user|>
    in front, the rest of a question reads as the end of an answer. `room` is 2 at least.
    """
    # Turns are dropped in pairs from the front, so that the user still speaks first.
    while len(messages) > 2 and len(render_prompt(tokenizer, messages)) > room:
        messages = messages[2:]
    ids = render_prompt(tokenizer, messages)
    if len(ids) > room:
        ids = render_prompt(tokenizer, messages[-1:])
    over = len(ids) - max(2, room, most or 0)
    return ids[:1] + ids[1 + over:] if over > 0 else ids


def question(text: str) -> list[dict]:
    """One user message as a conversation: `question("Hi?")`."""
    return [{"role": "user", "content": text}]


def prompt_ids(tokenizer, text: str) -> list[int]:
    """The ids of one question, ready for the assistant's answer."""
    return render_prompt(tokenizer, question(text))
