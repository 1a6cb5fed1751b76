"""Files are found, read and parsed; what cannot be parsed is parsed as far as possible."""

import ast
import codecs
import io
import os
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

SKIPPED = {
    ".eggs", ".git", ".hg", ".mypy_cache", ".nox", ".tox", ".venv", "__pycache__", "build",
    "dist", "node_modules", "site-packages", "venv",
}  # fmt: skip
TOO_DEEP = (SyntaxError, ValueError, RecursionError, MemoryError)
PYTHON_2 = (
    (re.compile(r"^(\s*)print\s+(?!\()(.*?)$"), r"\1print((\2))"),
    (re.compile(r"^(\s*)print\s*$"), r"\1print()"),
    (re.compile(r"^(\s*)exec\s+(?!\()(.*)$"), r"\1exec((\2))"),
    # Python 3.14 has several classes without brackets, Python 2 a class and a small name.
    (re.compile(r"^(\s*except\s+)([^:()]+,\s*(?:\w+\.)*[A-Z]\w*)\s*:"), r"\1(\2):"),
    (re.compile(r"^(\s*except\s+[^:]+?),\s*(\w+)\s*:"), r"\1 as \2:"),
    (re.compile(r"^(\s*raise\s+[\w.]+)\s*,\s*(.*)$"), r"\1(\2)"),
    (re.compile(r"\bur(['\"])"), r"r\1"),
    (re.compile(r"\b0([0-7]+)\b(?!\.)"), r"0o\1"),
    (re.compile(r"(\d)[lL]\b"), r"\1"),
    (re.compile(r"<>"), "!="),
    (re.compile(r"`([^`]*)`"), r"repr(\1)"),
)
NOTEBOOK = re.compile(r"^(\s*)(?:[%!]|get_ipython\b.*\()")


def python_files(paths: Iterable[Path], exclude: Iterable[str] = ()) -> Iterator[Path]:
    """Yield the Python files under some paths in a steady order; a file is always taken.

    ``exclude``: patterns of paths or of parts of them: ``migrations``, ``*/legacy/*``.
    """
    patterns = tuple(exclude)
    for path in paths:
        if path.is_dir():
            yield from _walk(path, patterns)
        else:
            yield path


def _walk(top: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    for folder, folders, files in os.walk(top):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if name not in SKIPPED and not _excluded(here / name, patterns)
        )
        for name in sorted(files):
            if name.endswith(".py") and not _excluded(here / name, patterns):
                yield here / name


def _excluded(path: Path, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(path.name, one) or fnmatch(path.as_posix(), one) for one in patterns)


def decode(content: bytes) -> str:
    """Return the text of a file: by its declared encoding, or by the most forgiving one."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        text = codecs.decode(content, encoding)
    except (SyntaxError, LookupError, UnicodeDecodeError, ValueError):
        text = content.decode("utf-8", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")


def parse(text: str) -> tuple[ast.Module, bool]:
    """Return a tree, and whether parts of the file are missing from it."""
    tree = _parsed(text)
    if tree is not None:
        return tree, False
    text = text.replace("\0", " ").replace("\f", " ")
    tree = _parsed(_modern(text))
    if tree is not None:
        return tree, False
    return _in_pieces(_modern(text)), True


def _parsed(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except TOO_DEEP:
        return None


def _modern(text: str) -> str:
    """Return Python 2 or a notebook's export as Python 3, line by line."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        changed = NOTEBOOK.sub(r"\1pass  # ", line)
        for old, new in PYTHON_2:
            changed = old.sub(new, changed)
        lines[number] = changed
    return "\n".join(lines)


def _in_pieces(text: str) -> ast.Module:
    """Parse each statement of the top level by itself, and leave out those that fail."""
    body: list[ast.stmt] = []
    for first, piece in _pieces(text):
        tree = _parsed(piece)
        if tree is not None:
            ast.increment_lineno(tree, first)
            body += tree.body
    return ast.Module(body=body, type_ignores=[])


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    first, lines = 0, list[str]()
    after_decorator = False
    for number, line in enumerate(text.split("\n")):
        begins = bool(line) and not line[0].isspace() and line[0] not in "#)]}"
        goes_on = line.startswith(("else", "elif", "except", "finally")) or after_decorator
        if begins and not goes_on and lines:
            yield first, "\n".join(lines)
            first, lines = number, []
        after_decorator = line.startswith("@")
        lines.append(line)
    yield first, "\n".join(lines)
