"""What encoding looks up, made from a vocabulary and its merges.

    from token_ids import lookup_tables, special_ids
"""

from typing import Callable, Mapping, Sequence

from artifacts import BadInput


def lookup_tables(ids: Mapping[bytes, int], merges: Sequence[tuple[bytes, bytes]]) -> tuple:
    """What encoding looks up: (whole, byte_ids, ranks, merged), from token -> id and the merges.

    whole: the merged tokens -> id; byte_ids[b]: the id of byte b, None if it has no token; ranks:
    pair of ids -> the rank of its merge (the lowest, if it comes twice); merged[rank]: the id of
    the merged token. BadInput names a part of a merge, or its result, that `ids` lacks. With
    the 256 bytes under their own value, b"th" as 300 and the merge (b"t", b"h"):
    `whole = {b"th": 300}`, `ranks = {(116, 104): 0}`, `merged = [300]`.
    """
    whole, ranks, merged = {}, {}, []
    try:
        # GPT-2 and cl100k number the bytes in an order of their own.
        byte_ids = [ids.get(bytes([b])) for b in range(256)]
        for rank, (a, b) in enumerate(merges):
            token = a + b
            whole[token] = made = ids[token]
            ranks.setdefault((ids[a], ids[b]), rank)
            merged.append(made)
    except KeyError as error:
        raise BadInput(f"the vocabulary lacks {error.args[0]!r}, a part of a merge or what it "
                       "makes: vocabulary and merges do not belong together") from None
    return whole, byte_ids, ranks, merged


def special_ids(special_tokens: Mapping[str, int] | Sequence[str], vocab: dict[int, bytes],
                made: Callable[[], set[bytes]] = set) -> dict[str, int]:
    """Special token -> id. Names the vocabulary lacks are added to `vocab` with the next free ids.

    `made()` are the tokens that ordinary text merges to, or those of them that count here.
    `special_ids(["<|end|>"], {0: b"a"})` is `{"<|end|>": 1}`.
    """
    wanted = {name.encode() for name in special_tokens}
    # A merge may happen to spell a special token; that id belongs to ordinary text.
    ordinary = {bytes([b]) for b in range(256)}
    of_bytes = {}
    if wanted:
        ordinary |= wanted & made()
    for i, token in vocab.items() if wanted else ():
        if token in wanted:
            of_bytes.setdefault(token, []).append(i)
    named = {}
    for name in special_tokens:
        token = name.encode()
        if not name:
            raise BadInput("a special token is empty: give it at least one character")
        known = of_bytes.get(token, [])[token in ordinary:]
        i = special_tokens[name] if isinstance(special_tokens, Mapping) else (
            known[-1] if known else max(vocab, default=-1) + 1)
        if token in ordinary and i == of_bytes.get(token, [None])[0]:
            raise BadInput(f"special token {name!r} has id {i}, which ordinary text reaches too: "
                           "give it another name, such as <|name|>")
        if vocab.setdefault(i, token) != token:
            raise BadInput(f"special token {name!r} has id {i}, which is {vocab[i]!r} already")
        named[name] = i
    return named
