"""The baseline: findings that a project has accepted, in the same form as the linter's.

A finding is known by its file, its rule and its line of code, not by the number of that line. How
often it happens does not matter: the same line may be run many times.
"""

import json
import linecache
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from aftercommit.errors import ConfigurationError
from aftercommit.guard.findings import Finding
from aftercommit.lint.baseline import VERSION, fingerprint, relative

Key = tuple[str, str, str]  # path, rule, fingerprint of the line


def write(findings: Iterable[Finding], file: Path) -> int:
    """Write a baseline; return how many places it holds."""
    return write_places(((one.place.path, one.place.line, one.rule) for one in findings), file)


def write_places(places: Iterable[tuple[str, int, str]], file: Path) -> int:
    """Write a baseline of files, lines and rules; return how many places it holds."""
    keys = sorted({_key(path, line, rule, file) for path, line, rule in places})
    entries = [{"path": path, "rule": rule, "code": code} for path, rule, code in keys]
    content = {"version": VERSION, "findings": entries}
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return len(entries)


@lru_cache(maxsize=8)
def read(file: Path) -> frozenset[Key]:
    """Return what a baseline accepts. Raises ``ConfigurationError`` if it is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return frozenset((one["path"], one["rule"], one["code"]) for one in content["findings"])
    except OSError as error:
        raise ConfigurationError(
            f"AFTERCOMMIT_GUARD['baseline']: {file} cannot be read ({error.strerror}).\n"
            "The guard watches nothing in this process.\n"
            "Fix: write it, pytest --aftercommit-guard log --aftercommit-guard-baseline=FILE."
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"AFTERCOMMIT_GUARD['baseline']: {file} is no baseline: {error!r}.\n"
            "The guard watches nothing in this process.\nFix: write it again."
        ) from error


def accepts(file: Path, found: Finding) -> bool:
    """Return whether a finding is in a baseline."""
    return key_of(found, file) in read(file)


def key_of(found: Finding, file: Path) -> Key:
    """Return how a baseline knows a finding."""
    return _key(found.place.path, found.place.line, found.rule, file)


def _key(path: str, line: int, rule: str, file: Path) -> Key:
    return relative(path, file), rule, fingerprint(linecache.getline(path, line))
