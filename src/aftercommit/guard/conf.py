"""``settings.AFTERCOMMIT_GUARD`` becomes a frozen, checked value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.signals import setting_changed

from aftercommit.errors import ConfigurationError
from aftercommit.guard.adapters.names import ADAPTERS, CANNOT_WAIT, OPTIONAL
from aftercommit.under_test import is_test_run

NAME = "AFTERCOMMIT_GUARD"
RAISE, WARN, LOG, DEFER, OFF = MODES = ("raise", "warn", "log", "defer", "off")
NOTHING_DONE = "The guard watches nothing in this process."


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardOptions:
    """What the guard does when it finds something.

    ``mode`` is "raise", "warn", "log", "defer" or "off". None: "raise" in tests, "warn" with
    DEBUG, "log" elsewhere. ``adapters`` names a mode for single adapters.
    """

    mode: str | None = None
    adapters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    strict: bool = False  # also BEGIN by hand, and autocommit off
    eager: bool = True  # also what a library runs at once in its test mode
    ignore: Sequence[str] = ()  # beginnings of paths whose dispatches are right
    baseline: Path | None = None  # findings that are accepted
    store: bool = False  # in the guard's own table
    sentry: bool = False  # as events

    def mode_of(self, adapter: str) -> str:
        """Return the mode for one adapter."""
        own = self.adapters.get(adapter)
        if own is not None:
            return own
        mode = self.mode or _usual()
        if adapter in OPTIONAL:
            return OFF
        return LOG if mode == DEFER and adapter in CANNOT_WAIT else mode


def _usual() -> str:
    if is_test_run():
        return RAISE
    return WARN if settings.DEBUG else LOG


@lru_cache(maxsize=1)
def configured() -> GuardOptions:
    """Return the options of the settings. Raises ``ConfigurationError``."""
    given = getattr(settings, NAME, {})
    if not isinstance(given, Mapping):
        raise _error("", "a dict", given)
    return options_from(given)


def options_from(given: Mapping[str, Any]) -> GuardOptions:
    """Return checked options. Raises ``ConfigurationError`` with what is wrong."""
    known = [one.name for one in fields(GuardOptions)]
    for name in given:
        if name not in known:
            raise ConfigurationError(
                f"{NAME}: unknown option {name!r}.{_hint(name, known)}\n{NOTHING_DONE}\n"
                f"Fix: it takes {', '.join(known)}."
            )
    _check_kinds(given)
    _check_windows(given)
    baseline = given.get("baseline")
    return GuardOptions(
        mode=given.get("mode"),
        adapters=MappingProxyType(_adapters(given.get("adapters", {}))),
        strict=given.get("strict", False),
        eager=given.get("eager", True),
        ignore=tuple(given.get("ignore", ())),
        baseline=None if baseline is None else Path(baseline),
        store=given.get("store", False),
        sentry=given.get("sentry", False),
    )


def _check_kinds(given: Mapping[str, Any]) -> None:
    mode = given.get("mode")
    if mode is not None and mode not in MODES:
        raise _error("mode", _one_of(MODES), mode)
    for name in ("strict", "eager", "store", "sentry"):
        if not isinstance(given.get(name, False), bool):
            raise _error(name, "True or False", given[name])
    ignore = given.get("ignore", ())
    if not isinstance(ignore, (list, tuple)) or not all(isinstance(one, str) for one in ignore):
        raise _error("ignore", "a list of paths", ignore)
    baseline = given.get("baseline")
    if baseline is not None and not isinstance(baseline, (str, Path)):
        raise _error("baseline", "a path", baseline)


def _check_windows(given: Mapping[str, Any]) -> None:
    if given.get("sentry") and find_spec("sentry_sdk") is None:
        raise ConfigurationError(
            f"{NAME}['sentry']: sentry_sdk is not installed.\n{NOTHING_DONE}\n"
            "Fix: pip install 'aftercommit[sentry]', or remove the option."
        )
    if given.get("store") and not apps.is_installed("aftercommit.guard"):
        raise ConfigurationError(
            f"{NAME}['store']: the guard has no table without its app.\n{NOTHING_DONE}\n"
            "Fix: add 'aftercommit.guard' to INSTALLED_APPS, and run manage.py migrate."
        )


def _adapters(given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise _error("adapters", "a dict of adapters and modes", given)
    for adapter, mode in given.items():
        if adapter not in ADAPTERS:
            raise ConfigurationError(
                f"{NAME}['adapters']: unknown adapter {adapter!r}.{_hint(adapter, ADAPTERS)}\n"
                f"{NOTHING_DONE}\nFix: known are {', '.join(ADAPTERS)}."
            )
        if mode not in MODES:
            raise _error("adapters", _one_of(MODES), mode, adapter)
        if mode == DEFER and adapter in CANNOT_WAIT:
            raise ConfigurationError(
                f"{NAME}['adapters'][{adapter!r}]: {DEFER!r} is not possible: the caller needs "
                f"the answer at once.\n{NOTHING_DONE}\n"
                f"Fix: one of {', '.join(one for one in MODES if one != DEFER)}."
            )
    return dict(given)


def _error(option: str, expected: str, got: object, key: str = "") -> ConfigurationError:
    where = NAME + (f"[{option!r}]" if option else "") + (f"[{key!r}]" if key else "")
    return ConfigurationError(
        f"{where}: expected {expected}, got {got!r:.100}.\n{NOTHING_DONE}\n"
        "Fix: correct the setting."
    )


def _one_of(names: Sequence[str]) -> str:
    return "one of " + ", ".join(repr(one) for one in names)


def _hint(name: object, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _forget(setting: str, **_: Any) -> None:
    if setting == NAME:
        configured.cache_clear()


setting_changed.connect(_forget, dispatch_uid="aftercommit.guard.conf")
