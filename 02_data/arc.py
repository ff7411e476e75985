"""ARC files, the web archives of 1996 to 2009 and the oldest crawls: read as WARC records are.

    https://a.example/ 192.0.2.1 20080430204825 text/html 1234        (one line of header)
    HTTP/1.1 200 OK ...                                              (1,234 bytes, as sent)

Version 2 has more fields between the type and the length, which stands last in both. The first
record describes the file and holds no page. Nothing follows a record but a line end.
"""

import re
import zlib
from typing import Iterator

from archive_bytes import Problem, Window
from http_body import BadBody, Headers, split_response

FIRST = re.compile(rb"filedesc:")
HEADER = (rb"([a-zA-Z][\w.+-]{0,20}:[^\n]{1,4000}?) ([\w.:-]{1,45}) "
          rb"(\d{8,17}) (\S{0,200})(?: [^\n]{0,2000})? (\d{1,12})[ \t]*\r?\n")
HERE, LINE = re.compile(HEADER), re.compile(rb"(?:^|(?<=\n))" + HEADER)
LONGEST = 6_500           # bytes of a header line


def read_arc(window: Window, problems: list[Problem], make_record, limit: int) -> Iterator:
    """The records of an ARC file, as make_record(type, url, headers, payload, offset) makes them.

    A record whose length is wrong costs itself only: reading goes on at the next line that looks
    like a header.
    """
    while window.have(1):
        window.have(LONGEST)             # some writers leave the line end behind a record out
        line = HERE.match(window.data, window.at) or window.skip_to(LINE, LONGEST)
        if not line:
            return
        offset, length = window.offset(), int(line[5])
        url, mime = line[1].decode("utf-8", "replace"), line[4].decode("latin-1")
        window.at = line.end()
        if length > limit:
            problems.append(Problem(offset, f"record over {limit} bytes"))
            continue
        if not window.have(length):
            problems.append(Problem(offset, "the file ends inside this record"))
            continue
        block = window.data[window.at:window.at + length]
        window.at += length
        if url.startswith("filedesc:"):
            continue
        headers = Headers(f"Content-Type: {mime}")
        record = make_record("response", url.replace(" ", "%20"), headers, block, offset)
        try:
            if block.startswith((b"HTTP/", b"ICY ")):
                record.status, record.http_headers, record.payload = split_response(block, limit)
            yield record
        except (BadBody, zlib.error) as error:
            problems.append(Problem(offset, str(error)))
