"""Whether the queues of django-rq wait for the commit: the settings say it, or the version."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

WAITING = 4  # from this major version on they wait if the settings say nothing else
PINS = ("requirements*.txt", "requirements/*.txt", "pyproject.toml", "setup.cfg", "Pipfile")
LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock")
NAME = r"(?<![\w.-])django[-_.]rq"
PINNED = (
    re.compile(NAME + r"(?:\[[^\]]*\])?\s*((?:[=~<>!]=?=?\s*\d[\w.*]*\s*,?\s*)+)", re.I),
    re.compile(NAME + r'"?\s*=\s*(?:\{[^}\n]*version\s*=\s*)?"([^"\n]+)"', re.I),  # Poetry
)
LOCKED = (
    re.compile(rf'name = "{NAME}"\s*version = "([^"]+)"', re.I),
    re.compile(NAME + r'":\s*\{[^}]*"version":\s*"([^"]+)"', re.I),  # Pipenv
)
ONE = re.compile(r"([=~<>!^]*)\s*v?(\d+)(?:\.(\d+))?")


def waits(settings: list[dict[str, Any]], root: str) -> bool | None:
    """Return whether they wait, None if neither settings nor versions say so.

    ``settings``: what each module of settings sets. ``root``: the folder of all files; the
    files with versions may stand up to two folders above.
    """
    said = {mode for values in settings for mode in _modes(values)}
    if not said:
        by_default = _by_version(Path(root))
        return by_default if settings else by_default and None  # settings elsewhere may say more
    return {frozenset({"on_db_commit"}): True, frozenset({"auto"}): False}.get(frozenset(said))


def mode_of(options: dict[str, Any]) -> str | None:
    """Return the mode that ``RQ``, or the options of ``get_queue()``, name; None without."""
    if options.get("COMMIT_MODE"):
        return str(options["COMMIT_MODE"])
    if "AUTOCOMMIT" in options:
        return "auto" if options["AUTOCOMMIT"] is True else "request_finished"
    return None


def _modes(values: dict[str, Any]) -> Iterator[str]:
    options = values.get("RQ")
    mode = mode_of(options) if isinstance(options, dict) else None
    yield from [mode] if mode else []


def _by_version(root: Path) -> bool | None:
    root = root.resolve()
    for folder in (root, *root.parents[:2]):
        for patterns, known in ((LOCKS, LOCKED), (PINS, PINNED)):
            found = {_is_waiting(one) for one in _versions(folder, patterns, known)} - {None}
            if found:
                return found.pop() if len(found) == 1 else None
        if (folder / ".git").exists():
            break
    return None


def _versions(
    folder: Path, patterns: Iterable[str], known: Iterable[re.Pattern[str]]
) -> Iterator[str]:
    for file in sorted(one for pattern in patterns for one in folder.glob(pattern)):
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        text = re.sub(r"(?m)^\s*#.*", "", text)
        yield from (one for pattern in known for one in pattern.findall(text))


def _is_waiting(version: str) -> bool | None:
    """Return whether ``>=3,<4``, ``^4.1`` or ``4.2.0`` means a version that waits."""
    for operator, major, minor in ONE.findall(version):
        is_new = int(major) >= WAITING
        if operator in {"<", "<="}:
            if not is_new or (operator, int(major), int(minor or 0)) == ("<", WAITING, 0):
                return False
        elif operator != "!=" and (is_new or operator not in {">", ">="}):
            return is_new
    return None
