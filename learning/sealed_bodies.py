"""A handout holds the right body of a bug hunt packed: it runs, and `diff` finds nothing to read.

Whoever unpacks it has learned something else; the seal is against the idle glance.
"""

import base64
import re
import zlib

from learning.function_bodies import cut, find_function, lines_of

SEALED = re.compile(r'^# (\S+) packs this body:[^\n]*\n.*?^exec\(__import__\("zlib"\)[^\n]*'
                    r'b85decode\("([^"]*)"\)[^\n]*\n', re.M | re.S)


def seal(source: str, exercise: dict) -> str:
    """`source` with the function of one bug hunt packed: signature and docstring stay readable."""
    node = find_function(source, exercise["function"])
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
    lines, (head, _, after) = lines_of(source), cut(source, exercise["function"])
    packed = base64.b85encode(zlib.compress("".join(lines[first:node.end_lineno]).encode()))
    return "".join([
        *lines[:first], f"# {exercise['id']} packs this body: a hunt is no comparison of files\n",
        *head[first:], 'exec(__import__("zlib").decompress(__import__("base64").b85decode('
        f'"{packed.decode()}")))\n', *after])


def unseal(source: str) -> str:
    """`source` with every packed body readable again; what does not unpack stays as it is."""
    def open_one(found):
        try:
            return zlib.decompress(base64.b85decode(found[2])).decode()
        except (ValueError, zlib.error):
            return found[0]
    return SEALED.sub(open_one, source.replace("\r\n", "\n") if "packs this body" in source
                      else source)
