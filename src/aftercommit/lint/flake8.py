"""The linter as a plugin of flake8, switched on by ``enable-extensions = AC``.

flake8 shows a plugin one file at a time, and a transaction is usually in another one. So the
first file of a project has all of it read, each process once; what has not changed since the
last run comes from the cache.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from aftercommit.lint import baseline
from aftercommit.lint.analysis import lint
from aftercommit.lint.cache import default_cache
from aftercommit.lint.configuration import Configuration, from_pyproject
from aftercommit.lint.findings import Finding
from aftercommit.race_rules import RULES
from aftercommit.version import VERSION

Row = tuple[int, int, str, type]


class Plugin:
    """Findings of one file."""

    name = "aftercommit"
    version = VERSION
    off_by_default = True  # who installs a queue has not asked for a linter

    def __init__(self, tree: ast.AST, filename: str) -> None:
        self._file = Path(filename)

    def run(self) -> Iterator[Row]:
        """Yield line, column, text and class of each finding."""
        if self._file.is_file():
            file = self._file.resolve()
            root = _root(file)
            for found in _by_file(root).get(str(file), ()):
                yield _row(found)


def _row(found: Finding) -> Row:
    text = f"{found.rule} {found.message} {RULES[found.rule].fix}"
    return found.line, found.column, text, Plugin


def _root(file: Path) -> Path:
    """Return the folder of the project: the one of its pyproject.toml, or where flake8 runs."""
    marked = [one for one in file.parents if (one / "pyproject.toml").is_file()]
    return marked[0] if marked else Path.cwd()


@cache
def _by_file(root: Path) -> dict[str, Sequence[Finding]]:
    configuration = from_pyproject(root)
    found: dict[str, list[Finding]] = defaultdict(list)
    for one in _new(root, configuration):
        found[one.path].append(one)
    return dict(found)


def _new(root: Path, configuration: Configuration) -> Sequence[Finding]:
    report = lint([root], configuration, cache=default_cache())
    if not configuration.baseline:
        return report.findings
    return baseline.unknown_to(report.findings, root / configuration.baseline)
