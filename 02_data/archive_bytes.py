"""The bytes of an archive as a window that slides over them: gzip members, other packings, zips.

    for name, file in open_archive(path):        # one file, or each WARC file inside a .wacz
        window = Window(file, problems)
        window.skip_to(PATTERN)                  # ... and read window.data from window.at

A `.warc.gz` is a row of gzip members, one a record if it was made well. Members may be damaged, end
anywhere, or have rubbish between them: what cannot be unpacked is noted by its offset and passed
over. What Python's own library can unpack is unpacked (gzip, bzip2, xz, in 3.14 zstandard);
anything else is refused by name, with the command that unpacks it.
"""

import bz2
import lzma
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Iterator

from artifacts import BadInput, shown
from http_body import zstandard

CHUNK = 1 << 15           # read at a time; what follows a member in it is copied once a record
GZIP = b"\x1f\x8b\x08"
# How packed files begin -> (name, the command that unpacks them).
PACKED = ((b"\x28\xb5\x2f\xfd", "zstd", "zstd -d"), (b"\x04\x22\x4d\x18", "lz4", "lz4 -d"),
          (b"BZh", "bzip2", "bunzip2"), (b"\xfd7zXZ\0", "xz", "unxz"),
          (b"7z\xbc\xaf\x27\x1c", "7z", "7z x"), (b"Rar!", "rar", "unrar x"))
CUT = "the file ends inside this gzip member"
ZSTD_DICTIONARY = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")     # a .warc.zst begins with one
ARCHIVE_NAMES = (".warc", ".warc.gz", ".warc.bz2", ".warc.xz", ".warc.zst", ".wet", ".wet.gz",
                 ".arc", ".arc.gz")


@dataclass(frozen=True)
class Problem:
    """Something skipped: where in the file (bytes), and why."""
    offset: int
    reason: str


def packing_of(head: bytes) -> tuple[str, str] | None:
    """(name, command) of the way a file is packed that begins with `head`, None for gzip or none.

    b"BZh9" -> ("bzip2", "bunzip2")
    """
    if ZSTD_DICTIONARY.match(head):
        return "zstd", "zstd -d"
    return next(((name, undo) for magic, name, undo in PACKED if head.startswith(magic)), None)


def open_archive(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """(name, open file) of the WARC or ARC file at `path`, or of each one inside a .wacz zip.

    BadInput for a zip without WARC files and for a packing that this Python cannot undo.
    """
    with open(path, "rb") as file:
        head = file.read(512)
        file.seek(0)
        if head.startswith(b"PK\3\4"):
            yield from _open_wacz(path, file)
        elif packing := packing_of(head):
            with _unpacked(path, file, *packing) as inner:
                yield path.name, inner
        else:
            yield path.name, file


def _open_wacz(path: Path, file: IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    try:
        with zipfile.ZipFile(file) as archive:
            names = [n for n in archive.namelist() if n.lower().endswith(ARCHIVE_NAMES)]
            if not names:
                raise BadInput(f"{shown(path)} is a zip without WARC files in it: give a .wacz")
            for name in sorted(names):
                with archive.open(name) as first:
                    try:
                        packing = packing_of(first.read(8))
                    except (zipfile.BadZipFile, zlib.error):       # said when it is read
                        packing = None
                with archive.open(name) as inner:
                    yield name, _unpacked(Path(name), inner, *packing) if packing else inner
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"{shown(path)} is a damaged zip file ({error}): fetch it again")


def _unpacked(path: Path, file: IO[bytes], name: str, command: str) -> IO[bytes]:
    if name == "bzip2":
        return bz2.open(file)
    if name == "xz":
        return lzma.open(file)
    if name == "zstd" and (module := zstandard()):
        return module.open(file)
    raise BadInput(f"{shown(path)} is packed with {name}, which this Python cannot undo: run "
                   f"{command} {path.name} and give the file that it makes")


class Window:
    """The decompressed bytes around the place being read, filled from the file as needed."""

    def __init__(self, file: IO[bytes], problems: list[Problem], start: re.Pattern):
        head = file.read(CHUNK)
        file.seek(0)
        self.gzipped = head.startswith(b"\x1f\x8b") or (GZIP in head and not start.search(head))
        self.pieces = _members(file, problems) if self.gzipped else _plain(file)
        self.data, self.at, self.dropped, self.ended = b"", 0, 0, False
        self.members: list[tuple[int, int]] = []      # (position in all bytes, offset in the file)

    def have(self, end: int) -> bool:
        """Make `data[at:at + end]` available; False if the file ends before."""
        size = len(self.data) - self.at
        if size >= end or self.ended:
            return size >= end
        parts = [self.data[self.at:]] if size else []
        self.dropped, self.at = self.dropped + self.at, 0
        while size < end and (piece := next(self.pieces, None)) is not None:
            self.members.append((self.dropped + size, piece[0]))
            parts.append(piece[1])
            size += len(piece[1])
        self.ended = size < end
        self.data = parts[0] if len(parts) == 1 else b"".join(parts)
        return size >= end

    def more(self) -> bool:
        """Make as much again available, so that asking often costs little; False at the end."""
        size = len(self.data) - self.at
        self.have(2 * size + 4096)
        return len(self.data) - self.at > size

    def offset(self) -> int:
        """The place being read as an offset in the file; in gzip, that of its member."""
        here = self.dropped + self.at
        if not self.gzipped:
            return here
        while len(self.members) > 1 and self.members[1][0] <= here:
            self.members.pop(0)
        return self.members[0][1] if self.members else 0

    def skip_to(self, start: re.Pattern, longest: int = 12) -> re.Match | None:
        """Go to where `start` matches next and give the match; None if it does nowhere.

        `longest` bytes at the window's edge are looked at again with what follows them.
        """
        while True:
            found = start.search(self.data, self.at)
            if found:
                self.at = found.start()
                return found
            self.at = max(self.at, len(self.data) - longest)
            if not self.more():
                return None


def _plain(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while chunk := file.read(1 << 20):
        yield offset, chunk
        offset += len(chunk)


def _members(file: IO[bytes], problems: list[Problem]) -> Iterator[tuple[int, bytes]]:
    """(offset of the gzip member, decompressed bytes), a member in one piece or in several.

    A damaged member is noted and skipped up to the next place that looks like a member's start.
    """
    waiting, start = file.read(CHUNK), 0
    while waiting:
        if not waiting.startswith(GZIP):
            found = waiting.find(GZIP)
            if found < 0:                       # the two last bytes may be half a magic number
                start += max(len(waiting) - 2, 0)
                fresh = file.read(CHUNK)
                waiting = waiting[-2:] + fresh if fresh else b""
                continue
            waiting, start = waiting[found:], start + found
        inflater, used = zlib.decompressobj(31), 0
        try:
            while True:
                # at most 16 MB at a time, so that no member, however built, fills the memory
                piece = inflater.decompress(waiting, 1 << 24)
                if piece:
                    yield start, piece
                if inflater.eof:
                    break
                used += len(waiting) - len(inflater.unconsumed_tail)
                # a member of pages' size: more at once, as little of it is copied for the next one
                waiting = inflater.unconsumed_tail or file.read(4 * CHUNK)
                if not waiting:
                    problems.append(Problem(start, CUT))
                    return
            start += used + len(waiting) - len(inflater.unused_data)
            waiting = inflater.unused_data or file.read(CHUNK)
        except zlib.error:
            problems.append(Problem(start, "damaged gzip member"))
            waiting, start = waiting[1 if not used else 0:], start + max(used, 1)
