"""The public name of `gguf_file.py`: `from gguf import read_gguf, write_gguf, quantise`.

PyPI has a package of this name too, and a reader who compares with transformers has it installed:
nothing in this repository imports this file, so that both can be there.
"""

from gguf_file import parse_gguf, read_gguf, write_gguf             # noqa: F401
from quantisation import dequantise, quantise                       # noqa: F401
