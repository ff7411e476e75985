"""Byte-pair encoding, first rung: train, encode and decode as the papers tell it, and as slow.

    python 01_tokenizer/bpe_textbook.py              the lesson's four words, every merge shown
    python 01_tokenizer/bpe_textbook.py "any text" --vocab-size 270

    from bpe_textbook import train, encode, decode
    merges = train("low low lower", 260)
    decode(encode("lower", merges), merges)                 # 'lower'

Sennrich et al. 2016 (arXiv:1508.07909, algorithm 1) on bytes instead of letters. A token is a
number: byte b is the token b, and the first merge makes the token 256. Every merge counts all pairs
of all words again, so that 32,000 merges of 50 MB would take hours. The rungs above this one give
the same merges: bpe_cells.py in seconds, bpe_hybrid.py faster. Left out: special tokens (bpe.py).
"""

from collections import Counter
from typing import Mapping, Sequence

from artifacts import BadInput, CommandLine, command
from pretokenize import split

Word = tuple[int, ...]                     # the tokens of a piece of text, in order
Merge = tuple[bytes, bytes]                # the bytes of two tokens that become one
FOUR_WORDS = "\n".join(["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3)


def count_pairs(words: Mapping[Word, int]) -> Counter:
    """How often each pair of neighbouring tokens occurs, from word -> its count.

    `count_pairs({(1, 2, 1, 2): 3})` is `{(1, 2): 6, (2, 1): 3}`.
    """
    pairs = Counter()
    for word, count in words.items():
        # Beside itself without its first token, each token stands with its right neighbour. A word
        # that occurs `count` times brings each of its pairs as often.
        for pair in zip(word, word[1:]):
            pairs[pair] += count
    return pairs


def merge_pair(word: Word, pair: tuple[int, int], new: int) -> Word:
    """`word` with each occurrence of `pair`, from left to right, replaced by the token `new`.

    `merge_pair((1, 1, 1), (1, 1), 9)` is `(9, 1)`: a token takes part in one merge only.
    """
    merged, i = [], 0
    while i < len(word):
        # Two tokens at once where the pair stands, one token everywhere else.
        if word[i:i + 2] == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return tuple(merged)


def train(text: str, vocab_size: int) -> list[Merge]:
    """The merges that make a vocabulary of `vocab_size` tokens, the 256 bytes included, in order.

    Each merge joins the pair that occurs most often inside the pieces of `text` (GPT-2's `split`);
    of equally frequent pairs it is the one with the greatest bytes, compared as (left, right).
    Training ends early when every piece is one token. `train("aab aab", 257)` is
    `[(b'a', b'b')]`: (a, a) occurs as often, but b > a.
    """
    # The numbers of a piece's bytes, as a tuple: a list could not be looked up. A Counter is a dict
    # word -> how often it came.
    words = Counter(tuple(piece.encode()) for piece in split(text))
    tokens = [bytes([b]) for b in range(256)]            # token -> its bytes
    merges = []
    while len(tokens) < vocab_size:
        pairs = count_pairs(words)
        if not pairs:
            break
        # The most frequent pair; its bytes decide between equals. `max` compares what `key` makes
        # of each pair: first the counts, then the left tokens, then the right ones.
        best = max(pairs, key=lambda pair: (pairs[pair], tokens[pair[0]], tokens[pair[1]]))
        left, right = tokens[best[0]], tokens[best[1]]
        merges.append((left, right))
        # The new token takes the next number, and stands wherever the pair stood.
        words = {merge_pair(word, best, len(tokens)): count for word, count in words.items()}
        tokens.append(left + right)
    return merges


def encode(text: str, merges: Sequence[Merge]) -> list[int]:
    """The tokens of `text`: its bytes, after every merge in the order of training.

    The merges apply inside the pieces of the text, each wherever its pair stands: rank decides, not
    length and not the place; of two tokens with the same bytes the older counts. With the merges
    `[(b"b", b"a"), (b"a", b"b")]`, "abab" becomes `[97, 256, 98]`, the tokens a, ba, b.
    """
    # Bytes -> token. Backwards, so that of two tokens with the same bytes the older one stays.
    number = {token: i for i, token in reversed([*enumerate(token_bytes(merges))])}
    ids = []
    for piece in split(text):
        word = tuple(piece.encode())
        for new, (left, right) in enumerate(merges, 256):
            word = merge_pair(word, (number[left], number[right]), new)
        ids += word
    return ids


def decode(ids: Sequence[int], merges: Sequence[Merge]) -> str:
    """The text of the tokens `ids`; bytes that are no whole character become U+FFFD."""
    tokens = token_bytes(merges)
    return b"".join(tokens[i] for i in ids).decode("utf-8", "replace")


def token_bytes(merges: Sequence[Merge]) -> list[bytes]:
    """The bytes of every token, by its number: `token_bytes([(b"a", b"b")])[256]` is `b"ab"`."""
    return [bytes([b]) for b in range(256)] + [left + right for left, right in merges]


def main() -> None:
    parser = CommandLine(__doc__)
    parser.add_argument("text", nargs="?", default=FOUR_WORDS,
                        help="what to train on (default: low 5 times, lower 2, newest 6, widest 3)")
    parser.add_argument("--vocab-size", type=int, default=263, help="tokens, with the 256 bytes")
    parser.add_argument("--encode", default="lowest", help="text to encode with the merges")
    args = parser.parse_args()
    if not args.text:
        raise BadInput("the text is empty: there is nothing to learn merges from")
    merges = train(args.text, args.vocab_size)
    print(f"{len(encode(args.text, []))} tokens at first: every byte is one")
    for k, (left, right) in enumerate(merges, 1):
        # Encoding with the merges so far shows what each of them saves.
        print(f"{255 + k}  {shown_bytes(left):>6} + {shown_bytes(right):<6} -> "
              f"{shown_bytes(left + right):<10} {len(encode(args.text, merges[:k]))} tokens")
    ids, tokens = encode(args.encode, merges), token_bytes(merges)
    print(f"{args.encode} = " + "|".join(shown_bytes(tokens[i]) for i in ids) + " = "
          + " ".join(map(str, ids)) + f" = {decode(ids, merges)}")


def shown_bytes(token: bytes) -> str:
    """A token as one can show it: a blank is `_`, and what is no whole character its bytes."""
    return token.decode("utf-8", "backslashreplace").replace(" ", "_").replace("\n", "\\n")


if __name__ == "__main__":
    command(main)
