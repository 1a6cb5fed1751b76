"""The baseline: findings that a project has accepted, so that only new ones are reported.

A finding is known by its file, its rule, and the line of code it stands on, not by the number of
that line: code above it may change. Two equal lines count twice.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath

from aftercommit.lint.configuration import ConfigurationError
from aftercommit.lint.findings import Finding

VERSION = 1


def write(findings: Iterable[Finding], file: Path) -> int:
    """Write a baseline; return how many findings it holds."""
    entries = [
        {"path": relative(found.path, file), "rule": found.rule, "code": code}
        for found, code in _with_code(findings)
    ]
    content = {"version": VERSION, "findings": entries}
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return len(entries)


def unknown_to(findings: Iterable[Finding], file: Path) -> tuple[Finding, ...]:
    """Return the findings that are not in a baseline.

    Raises ``ConfigurationError`` if the file is not there, or is no baseline.
    """
    known = _read(file)
    new = []
    for found, code in _with_code(findings):
        key = relative(found.path, file), found.rule, code
        if known[key] > 0:
            known[key] -= 1
        else:
            new.append(found)
    return tuple(new)


def _read(file: Path) -> Counter[tuple[str, str, str]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise ConfigurationError(f"{file}: a baseline of version {content['version']!r}.")
        return Counter((one["path"], one["rule"], one["code"]) for one in content["findings"])
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no baseline {file}. Write one with --write-baseline {file}"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{file} is no baseline: {error!r}") from error


def _with_code(findings: Iterable[Finding]) -> Iterable[tuple[Finding, str]]:
    lines: dict[str, list[str]] = {}
    for found in findings:
        if found.path not in lines:
            text = Path(found.path).read_text(encoding="utf-8", errors="replace")
            lines[found.path] = text.splitlines()
        code = "".join(lines[found.path][found.line - 1 : found.line])
        yield found, fingerprint(code)


def fingerprint(code: str) -> str:
    """Return what a line of code is known by, however it is indented."""
    return hashlib.sha256(" ".join(code.split()).encode()).hexdigest()[:16]


def relative(path: str, file: Path) -> str:
    """Return a path as it is seen from the baseline: equal on every machine."""
    place, base = Path(path).resolve(), file.resolve().parent
    known = place.relative_to(base) if place.is_relative_to(base) else place
    return PurePath(known).as_posix()
