"""Numbers in 8, 6, 5 and 4 bits: blocks that share a scale, and in some kinds a minimum.

    blocks = quantise(weights, "Q4_1")          # (R, C) float32 -> (R, bytes of a row) uint8
    again = dequantise(blocks, "Q4_1")          # (R, C) float32, off by half a step at most

A block of 32 neighbours is stored as one 16-bit scale d and 32 small integers q; x is about d q
(kinds ending in _0), or d q + m with the block's minimum m (_1). The K kinds, which are only read
here, group 8 or 16 small blocks under one scale, and keep the small blocks' scales in 6 or 8 bits.

| kind | bits per number | q | kind | bits per number | q |
|---|---|---|---|---|---|
| Q8_0 | 8.5 | -127 to 127 | Q5_0, Q5_1 | 5.5, 6 | 5 bits |
| Q4_0 | 4.5 | -8 to 7 | Q4_K, Q5_K | 4.5, 5.5 | 4, 5 bits, scale and minimum |
| Q4_1 | 5 | 0 to 15 | Q6_K | 6.5625 | 6 bits, scale |

The layouts are those of GGUF files (ggml, `ggml-common.h` and `ggml-quants.c`).
"""

import numpy as np

# kind -> (numbers in a block, bytes of a block)
BLOCKS = {"F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q8_0": (32, 34), "Q4_0": (32, 18),
          "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q4_K": (256, 144),
          "Q5_K": (256, 176), "Q6_K": (256, 210)}
WRITTEN = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")


def block_of(kind: str) -> tuple[int, int]:
    """(numbers, bytes) of a block of this kind; ValueError for a kind that is not known."""
    if kind not in BLOCKS:
        raise ValueError(f"quantisation {kind!r} is not known: {', '.join(BLOCKS)} are")
    return BLOCKS[kind]


def half(columns: np.ndarray) -> np.ndarray:
    """Pairs of bytes (N, 2 k) read as little-endian 16-bit floats (N, k), in float32."""
    return np.ascontiguousarray(columns).view("<f2").astype(np.float32)


def nibbles(packed: np.ndarray) -> np.ndarray:
    """(N, M) bytes -> (N, 2 M) integers 0 to 15: first all the low halves, then all the high.

    [0x21, 0x43] -> [1, 3, 2, 4]. Byte i of a block holds numbers i and i + M, so that one mask
    and one shift undo a whole block at once.
    """
    # The low four bits are the first half of the block ...
    low = packed & 15
    # ... the high four bits the second.
    return np.concatenate([low, packed >> 4], axis=1)


def dequantise_q8_0(blocks: np.ndarray) -> np.ndarray:
    """(N, 34) bytes -> (N, 32) float32: a 16-bit scale d, then 32 signed bytes q; x = d q.

    d = 0.5 and q = [-3, 4, ...] give [-1.5, 2, ...].
    """
    # The first two bytes are the scale of the whole block.
    d = half(blocks[:, :2])
    # The rest are signed: 0xff is -1, not 255.
    return d * np.ascontiguousarray(blocks[:, 2:]).view(np.int8)


def dequantise_q4_0(blocks: np.ndarray) -> np.ndarray:
    """(N, 18) bytes -> (N, 32) float32: scale d, then 16 bytes of `nibbles`; x = d (q - 8).

    d = 0.5 and a first byte of 0x9a give 1 as number 0 (nibble 10) and 0.5 as number 16 (9).
    """
    # Nibbles are 0 to 15; they stand for -8 to 7.
    q = nibbles(blocks[:, 2:]).astype(np.int8) - 8
    # One scale for each row of 32: (N, 1) times (N, 32).
    return half(blocks[:, :2]) * q


def dequantise_q4_1(blocks: np.ndarray) -> np.ndarray:
    """(N, 20) bytes -> (N, 32) float32: scale d, minimum m (16 bits each), 16 bytes of `nibbles`;
    x = d q + m. d = 0.5, m = -1 and a first byte of 0x9a give 4 as number 0 and 3.5 as number 16.
    """
    scale = half(blocks[:, :4])                                     # (N, 2): d, m
    # 0 means the block's smallest number, 15 its largest.
    x = scale[:, :1] * nibbles(blocks[:, 4:])
    return np.add(x, scale[:, 1:], out=x)


def fifth_bits(packed: np.ndarray) -> np.ndarray:
    """(N, 4) bytes, 32 bits, lowest first -> (N, 32) of 0 or 16: the top bit of a 5-bit number."""
    return np.unpackbits(packed, axis=1, bitorder="little") << 4


def dequantise_q5_0(blocks: np.ndarray) -> np.ndarray:
    """(N, 22) bytes -> (N, 32): scale, 32 fifth bits, nibbles; x = d (q - 16), q 0 to 31."""
    q = (nibbles(blocks[:, 6:]) | fifth_bits(blocks[:, 2:6])).astype(np.int8) - 16
    return half(blocks[:, :2]) * q


def dequantise_q5_1(blocks: np.ndarray) -> np.ndarray:
    """(N, 24) bytes -> (N, 32): scale, minimum, 32 fifth bits, nibbles; x = d q + m."""
    scale = half(blocks[:, :4])
    return scale[:, :1] * (nibbles(blocks[:, 8:]) | fifth_bits(blocks[:, 4:8])) + scale[:, 1:]


def six_bit_scales(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 12) bytes -> scales (N, 8) and minima (N, 8), 6 bits each, of a K block's 8 parts.

    Bytes 0 to 3 hold scales 0 to 3 in their low 6 bits, bytes 4 to 7 minima 0 to 3. Bytes 8 to 11
    hold the low 4 bits of scale (low nibble) and minimum (high) 4 to 7; their top 2 bits are the
    top 2 bits of bytes 0 to 3 and 4 to 7.
    """
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, third & 15 | first >> 6 << 4], axis=1)
    minima = np.concatenate([second & 63, third >> 4 | second >> 6 << 4], axis=1)
    return scales, minima


def _with_scales_and_minima(blocks: np.ndarray, q: np.ndarray) -> np.ndarray:
    """q (N, 8, 32) -> (N, 256): x = d scale q - dmin minimum, d and dmin in the first 4 bytes."""
    scales, minima = six_bit_scales(blocks[:, 4:16])
    d = half(blocks[:, :4])
    x = (d[:, :1] * scales)[..., None] * q - (d[:, 1:] * minima)[..., None]
    return x.reshape(len(blocks), 256)


def _nibble_pairs(packed: np.ndarray) -> np.ndarray:
    """(N, 128) bytes -> (N, 8, 32): of each 32 bytes first the low halves, then the high."""
    return nibbles(packed.reshape(-1, 32)).reshape(-1, 8, 32)


def dequantise_q4_k(blocks: np.ndarray) -> np.ndarray:
    """(N, 144) bytes -> (N, 256): d, dmin, 12 bytes of scales, 128 bytes of nibbles."""
    return _with_scales_and_minima(blocks, _nibble_pairs(blocks[:, 16:]))


def dequantise_q5_k(blocks: np.ndarray) -> np.ndarray:
    """(N, 176) bytes -> (N, 256): as Q4_K, with 32 bytes before the nibbles: bit j of byte i is
    the fifth bit of number i of part j."""
    bits = np.unpackbits(blocks[:, 16:48, None], axis=2, bitorder="little")     # (N, 32, 8)
    return _with_scales_and_minima(
        blocks, _nibble_pairs(blocks[:, 48:]) | bits.transpose(0, 2, 1) << 4)


def dequantise_q6_k(blocks: np.ndarray) -> np.ndarray:
    """(N, 210) bytes -> (N, 256): 128 bytes of low nibbles, 64 of top bit pairs, 16 signed scales
    (one for 16 numbers), d; x = d scale (q - 32). Each half of the block has 64 + 32 bytes."""
    low = blocks[:, :128].reshape(-1, 2, 1, 64)
    low = np.concatenate([low & 15, low >> 4], axis=2).reshape(-1, 2, 4, 32)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3
    q = (low | high << 4).astype(np.int8).reshape(-1, 16, 16) - 32
    scales = half(blocks[:, 208:]) * np.ascontiguousarray(blocks[:, 192:208]).view(np.int8)
    return (scales[..., None] * q).reshape(len(blocks), 256)


def _read_bf16(blocks: np.ndarray) -> np.ndarray:
    """The upper halves of float32 numbers."""
    wide = np.ascontiguousarray(blocks).view("<u2").astype(np.uint32) << 16
    return wide.view(np.float32)


READERS = {"F32": lambda b: np.ascontiguousarray(b).view("<f4").astype(np.float32), "F16": half,
           "BF16": _read_bf16, "Q8_0": dequantise_q8_0, "Q4_0": dequantise_q4_0,
           "Q4_1": dequantise_q4_1, "Q5_0": dequantise_q5_0, "Q5_1": dequantise_q5_1,
           "Q4_K": dequantise_q4_k, "Q5_K": dequantise_q5_k, "Q6_K": dequantise_q6_k}


def dequantise(blocks: np.ndarray | bytes, kind: str) -> np.ndarray:
    """(..., bytes) uint8 -> (..., numbers) float32; the last dimension is a row of whole blocks.

    ValueError if the kind is not known or the bytes are no whole number of blocks.
    """
    numbers, size = block_of(kind)
    blocks = np.frombuffer(blocks, np.uint8) if isinstance(blocks, bytes) else np.asarray(blocks)
    if blocks.dtype != np.uint8 or not blocks.ndim or blocks.shape[-1] % size:
        raise ValueError(f"{kind} comes in blocks of {size} bytes, not in {blocks.dtype} of shape "
                         f"{blocks.shape}")
    values = READERS[kind](blocks.reshape(-1, size))
    return values.reshape(*blocks.shape[:-1], blocks.shape[-1] // size * numbers)


def quantise_q8_0(x: np.ndarray) -> np.ndarray:
    """(N, 32) float32 -> (N, 34) bytes of Q8_0: d = max |x| / 127, q = x / d rounded.

    d is rounded to its 16 bits when it is stored, not before. Halves are rounded away from zero.
    Of [127, -63.5, 0.2, ...] d is 1 and q [127, -64, 0, ...].
    A block of zeros has d = 0 and q = 0, and nothing is divided by zero.
    """
    # The largest number of the block becomes 127 or -127 ...
    d = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    inverse = np.divide(1, d, out=np.zeros_like(d), where=d > 0)
    # ... and the others are rounded to the nearest step: numpy's round takes halves to even.
    steps = x * inverse
    q = np.trunc(steps + np.copysign(np.float32(0.5), steps)).astype(np.int8)
    return np.concatenate([d.astype("<f2").view(np.uint8), q.view(np.uint8)], axis=1)


def _pack_nibbles(q: np.ndarray) -> np.ndarray:
    """(N, 2 M) numbers 0 to 15 -> (N, M) bytes, the inverse of `nibbles`."""
    q = q.astype(np.uint8)
    return q[:, :q.shape[1] // 2] | q[:, q.shape[1] // 2:] << 4


def quantise_q4_0(x: np.ndarray) -> np.ndarray:
    """(N, 32) float32 -> (N, 18) bytes of Q4_0: the number of largest size, with its sign, is
    stored as -8: d = that / -8, q = x / d + 8 rounded to the nearest, at most 15.

    Of two of that size the first counts. d is rounded to its 16 bits when it is stored, not before.
    A block of zeros has d = 0 and q = 8. Of [-8, 4, 7.5, 0, ...] d is 1 and q [0, 12, 15, 8, ...].
    """
    # There are 9 steps on one side and 7 on the other: the longer side goes to the largest number.
    place = np.abs(x).argmax(axis=1)[:, None]
    d = np.take_along_axis(x, place, axis=1) / np.float32(-8)
    inverse = np.divide(1, d, out=np.zeros_like(d), where=d != 0)
    # Adding half a step before cutting off is rounding; a number as large on the other side is 16.
    q = np.minimum(15, np.trunc(x * inverse + np.float32(8.5)))
    return np.concatenate([d.astype("<f2").view(np.uint8), _pack_nibbles(q)], axis=1)


def quantise_q4_1(x: np.ndarray) -> np.ndarray:
    """(N, 32) float32 -> (N, 20) bytes of Q4_1: m = the smallest, d = (largest - m) / 15,
    q = (x - m) / d rounded to the nearest.

    Of [2, 17, 4.4, ...] (15 the range) m is 2, d is 1 and q [0, 15, 2, ...].
    """
    # Only the range that the block really uses is cut into 15 steps.
    low, high = x.min(axis=1, keepdims=True), x.max(axis=1, keepdims=True)
    d = (high - low) / np.float32(15)
    inverse = np.divide(1, d, out=np.zeros_like(d), where=d > 0)
    q = np.minimum(15, np.trunc((x - low) * inverse + np.float32(0.5)))
    scale = np.concatenate([d, low], axis=1).astype("<f2")
    return np.concatenate([scale.view(np.uint8), _pack_nibbles(q)], axis=1)


def _write_bf16(x: np.ndarray) -> np.ndarray:
    """float32 -> the 16 upper bits, rounded to the nearest, halves to even."""
    bits = x.astype("<f4").view("<u4")
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").view(np.uint8)


WRITERS = {"F32": lambda x: x.astype("<f4").view(np.uint8), "BF16": _write_bf16,
           "F16": lambda x: x.astype("<f2").view(np.uint8), "Q8_0": quantise_q8_0,
           "Q4_0": quantise_q4_0, "Q4_1": quantise_q4_1}


def quantise(array: np.ndarray, kind: str) -> np.ndarray:
    """(..., numbers) floats -> (..., bytes) uint8 of a kind in WRITTEN, to the nearest step.

    ValueError if the kind is not written here, a row is no whole number of blocks, or a number is
    not finite or too large for 16 bits (a scale is one).
    """
    numbers, size = block_of(kind)
    array = np.asarray(array, dtype=np.float32)
    if kind not in WRITERS:
        raise ValueError(f"{kind} is read here, not written; {', '.join(WRITERS)} are")
    if not array.ndim or array.shape[-1] % numbers:
        raise ValueError(f"{kind} takes rows of whole blocks of {numbers}, not shape {array.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        blocks = WRITERS[kind](np.ascontiguousarray(array).reshape(-1, numbers))
        scales = blocks[:, :4 if kind == "Q4_1" else 2]
        bad = not np.isfinite(array).all() or (
            kind not in ("F32", "BF16") and not np.isfinite(half(scales)).all())
    if bad:
        raise ValueError(f"numbers that are not finite, or too large for {kind}")
    return blocks.reshape(*array.shape[:-1], array.shape[-1] // numbers * size)
