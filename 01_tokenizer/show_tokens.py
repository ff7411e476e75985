"""See a text as its tokens, in colours; or ids as text.

    python 01_tokenizer/show_tokens.py "What does numpy.argsort return?"
    python 01_tokenizer/show_tokens.py --ids 87 104 97 116

Reads out/01_tokenizer/tokenizer.json. The text may come from the standard input too. Special tokens
in the text are plain text unless --special is given.
"""

import sys
from pathlib import Path

from artifacts import CommandLine, BadInput, command, out
from bpe import Tokenizer

COLOURS = (224, 194, 229, 189, 223, 182)     # backgrounds of xterm's 256 colours, all light


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("text", nargs="?", help="what to encode (default: the standard input)")
    parser.add_argument("--ids", type=int, nargs="+", help="decode these instead")
    parser.add_argument("--special", action="store_true", help="let the text hold special tokens")
    parser.add_argument("--tokenizer", type=Path, default=out("01_tokenizer", "tokenizer.json"))
    parser.add_argument("--plain", action="store_true", help="no colours: tokens between bars")
    args = parser.parse_args()
    tokenizer = Tokenizer.load(args.tokenizer)
    # What the terminal could not read arrives as lone surrogates, which encode mends.
    ids = args.ids
    if ids is None:
        text = args.text if args.text is not None else sys.stdin.read()
        ids = tokenizer.encode(text, allowed_special="all" if args.special else ())
        if not ids:
            raise BadInput("the text is empty: there is nothing to show")
    text = tokenizer.decode(ids)
    print("|".join(token_names(tokenizer, ids)) if args.plain else coloured(tokenizer, ids))
    print("ids  " + " ".join(map(str, ids)))
    size = len(text.encode())
    print(f"{len(text)} characters, {size} bytes, {len(ids)} tokens, "
          f"{size / len(ids):.2f} bytes per token")


def token_names(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    """Each token as one can show it: its text, or its bytes where they are no whole characters.

    A 🙂 cut in two is `['<f09f>', '<9982>']`; a line feed shows as `⏎`.
    """
    names = []
    for i in ids:
        raw = tokenizer.decode_bytes([i])
        try:
            names.append(raw.decode().replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍"))
        except UnicodeDecodeError:
            names.append(f"<{raw.hex()}>")
    return names


def coloured(tokenizer: Tokenizer, ids: list[int]) -> str:
    """The tokens with backgrounds in turn, for a terminal; line feeds break the line too."""
    parts = []
    for k, name in enumerate(token_names(tokenizer, ids)):
        # Escape codes: 30 black letters, 48;5;n background; reset before any line break.
        shade = COLOURS[k % len(COLOURS)]
        parts.append(f"\x1b[30;48;5;{shade}m{name}\x1b[0m" + "\n" * name.count("⏎"))
    return "".join(parts)


if __name__ == "__main__":
    command(main)
