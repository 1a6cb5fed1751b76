"""The guard: reports what leaves the process while a transaction is open.

An app of its own, ``INSTALLED_APPS += ["aftercommit.guard"]``: it needs Django and nothing else,
neither the queue of aftercommit nor its tables.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aftercommit.guard.allowing import allow_dispatch
    from aftercommit.guard.findings import Finding, GuardWarning
    from aftercommit.guard.setup import install, uninstall
    from aftercommit.guard.signals import race_found

__all__ = [
    "Finding",
    "GuardWarning",
    "allow_dispatch",
    "install",
    "race_found",
    "uninstall",
]

# Looked up on first use, so that the app can be named in INSTALLED_APPS before Django is set up.
_WORDS = {
    "Finding": "aftercommit.guard.findings",
    "GuardWarning": "aftercommit.guard.findings",
    "allow_dispatch": "aftercommit.guard.allowing",
    "install": "aftercommit.guard.setup",
    "race_found": "aftercommit.guard.signals",
    "uninstall": "aftercommit.guard.setup",
}


def __getattr__(name: str) -> Any:
    if name not in _WORDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    word = getattr(import_module(_WORDS[name]), name)
    globals()[name] = word
    return word
