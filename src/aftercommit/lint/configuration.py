"""Settings of the linter: from ``[tool.aftercommit.lint]`` and the command line."""

import tomllib
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from aftercommit.race_rules import RULES, Severity

# What tests send, and in which transactions, says nothing about the project.
TESTS = ("tests", "test", "test_*.py", "*_test.py", "*_tests.py", "tests.py", "conftest.py")


class ConfigurationError(Exception):
    """The linter was asked for something that it does not know."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What to look for, and where.

    ``exclude``: patterns of files and folders that are not read; tests by default. A file
    that is named itself is always read.
    ``dispatchers``, ``transactions``: dotted names, ``*`` for any part, that this project
    uses to hand work to a broker or to open a transaction.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    severity: Severity = Severity.WARNING
    exclude: tuple[str, ...] = TESTS
    settings: str = ""
    baseline: str = ""
    dispatchers: tuple[str, ...] = ()
    transactions: tuple[str, ...] = ()
    atomic_requests: bool | None = None  # None: as the settings say

    def wants(self, rule: str, severity: Severity) -> bool:
        """Say whether findings of a rule are asked for."""
        severe = severity.at_least(self.severity)
        wanted = rule.startswith(self.select) if self.select else severe
        return wanted and not (self.ignore and rule.startswith(self.ignore))


def from_pyproject(start: Path) -> Configuration:
    """Return what the nearest pyproject.toml above a path says; the defaults without one.

    Raises ``ConfigurationError`` for names and values that the linter does not know.
    """
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            return _checked(_table(file), str(file))
    return Configuration()


def _table(file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not TOML: {error}") from error
    table = content.get("tool", {}).get("aftercommit", {}).get("lint", {})
    return {name.replace("-", "_"): value for name, value in table.items()}


def _checked(table: dict[str, Any], where: str) -> Configuration:
    defaults = Configuration()
    known = {field.name: getattr(defaults, field.name) for field in fields(Configuration)}
    changes: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError(f"{where}: [tool.aftercommit.lint] has no {name!r}.{hint}")
        changes[name] = _as(name, value, known[name], where)
    found = replace(defaults, **changes)
    check_rules((*found.select, *found.ignore), where)
    return found


def _as(name: str, value: Any, default: Any, where: str) -> Any:
    if isinstance(default, Severity):
        return severity_named(value, where)
    if isinstance(default, tuple):
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return tuple(value)
        raise ConfigurationError(f"{where}: {name} must be a list of strings, not {value!r}.")
    wanted = bool if default is None else str
    if not isinstance(value, wanted):
        raise ConfigurationError(f"{where}: {name} must be a {wanted.__name__}, not {value!r}.")
    return value


def severity_named(value: Any, where: str) -> Severity:
    """Return a severity by its name. Raises ``ConfigurationError`` for another name."""
    try:
        return Severity(value)
    except ValueError:
        names = ", ".join(Severity)
        raise ConfigurationError(f"{where}: severity is one of {names}, not {value!r}.") from None


def check_rules(codes: tuple[str, ...], where: str) -> None:
    """Raise ``ConfigurationError`` if a code, or beginning of codes, names no rule."""
    for code in codes:
        if not code or not any(rule.startswith(code) for rule in RULES):
            near = get_close_matches(code, RULES, 1)
            hint = f" Did you mean {near[0]}?" if near else f" The rules are {', '.join(RULES)}."
            raise ConfigurationError(f"{where}: there is no rule {code!r}.{hint}")
