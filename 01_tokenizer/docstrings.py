"""Text for a first tokenizer: the documentation inside the installed Python packages.

Chapter 1 comes before the crawl of chapter 2. Until then it reads the .py files of the standard
library and of the installed packages with `ast`, without importing any of them, and takes what
their authors wrote about each function: its signature and its docstring.
"""

import ast
import hashlib
import inspect
import sys
import sysconfig
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Iterator

Document = tuple[str, str]                # (top-level package, text)


def source_files() -> list[tuple[str, Path]]:
    """(package, path) of every .py file of the standard library and of the installed packages,
    those included that an environment borrows (Debian's, or `venv --system-site-packages`).

    In an order that is random but always the same, so that any first part is a fair sample.
    """
    roots = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")} | {
        Path(p) for p in sys.path if Path(p).name in ("site-packages", "dist-packages")}
    found = {}
    for root in roots:
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).parts
            if "site-packages" in parts or "test" in parts or "tests" in parts:
                continue
            package = "python" if root == Path(sysconfig.get_path("stdlib")) else parts[0]
            key = hashlib.sha256("/".join((package, *parts)).encode()).hexdigest()
            found[key] = (package.removesuffix(".py"), path)
    return [found[key] for key in sorted(found)]


def document(path: Path) -> str:
    """The documentation in one source file: the signature and the docstring of each definition.

    Files that do not parse give what they give to Python: nothing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return ""
    parts = []
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        # A definition without a docstring says little; a private one is nobody's reading.
        text = ast.get_docstring(node)
        name = getattr(node, "name", "")
        if not text or name.startswith("_") and not name.startswith("__"):
            continue
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(map(ast.unparse, node.bases))
            parts.append(f"class {name}({bases})" if bases else f"class {name}")
        elif name:
            parts.append(f"{name}({ast.unparse(node.args)})")
        parts.append(inspect.cleandoc(text) + "\n")
    return "\n".join(parts).encode("utf-8", "replace").decode()


def sample_documentation(limit: int, workers: int = 1) -> Iterator[Document]:
    """Documents from the installed packages until they hold `limit` characters together."""
    files = source_files()
    total = 0
    pool = ProcessPoolExecutor(workers) if workers > 1 else None
    try:
        # Chunks keep both processes busy without reading far beyond what is needed.
        for start in range(0, len(files), 64):
            chunk = files[start:start + 64]
            paths = [path for _, path in chunk]
            texts = pool.map(document, paths, chunksize=8) if pool else map(document, paths)
            for (package, _), text in zip(chunk, texts):
                if text:
                    yield package, text
                    total += len(text)
                if total >= limit:
                    return
    finally:
        if pool:
            pool.shutdown(wait=True, cancel_futures=True)
