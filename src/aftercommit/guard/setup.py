"""Switches the guard on and off in this process."""

from contextlib import suppress
from typing import Any

from aftercommit.errors import ConfigurationError
from aftercommit.guard import adapters, baseline, dispatches, transaction_faults, transactions
from aftercommit.guard.conf import OFF, GuardOptions, configured, options_from
from aftercommit.guard.patches import restore
from aftercommit.guard.signals import race_found
from aftercommit.guard.storing import Storing
from aftercommit.guard.watching import Guard

STORE, SENTRY = "aftercommit.guard.storing", "aftercommit.guard.sentry"  # dispatch_uid

_guard: Guard | None = None


def install(**options: Any) -> Guard:
    """Watch from now on; return the guard.

    Options are those of the setting AFTERCOMMIT_GUARD; without any, the setting decides. Called
    again, the options of the last call are in force. Raises ``ConfigurationError``.
    """
    return install_options(options_from(options) if options else configured())


def install_from_settings() -> None:
    """Watch as the setting says, if it is right: a system check says what is wrong with it."""
    with suppress(ConfigurationError):
        options = configured()
        if options.mode != OFF or any(mode != OFF for mode in options.adapters.values()):
            install_options(options)


def uninstall() -> None:
    """Watch no more, and take the patches of libraries away."""
    global _guard  # noqa: PLW0603 - there is one in a process
    if _guard is not None:
        dispatches.stop_intercepting(_guard)
        _guard = None
    _windows(GuardOptions())
    transaction_faults.notice(None)
    adapters.stop_noticing()
    restore()


def install_options(options: GuardOptions) -> Guard:
    """Watch with these options from now on. Raises ``ConfigurationError`` for a bad baseline."""
    global _guard  # noqa: PLW0603
    if options.baseline is not None:
        baseline.read.cache_clear()
        baseline.read(options.baseline)  # what is wrong with it is said now
    if _guard is not None:
        dispatches.stop_intercepting(_guard)
    _guard = Guard(options)
    _windows(options)
    transactions.track()
    transaction_faults.notice(_guard)
    adapters.notice()
    dispatches.intercept(_guard)
    return _guard


def _windows(options: GuardOptions) -> None:
    """Store findings and send them to Sentry, or not."""
    race_found.disconnect(dispatch_uid=STORE)
    race_found.disconnect(dispatch_uid=SENTRY)
    transactions.listeners.left = None
    if options.store:
        storing = Storing()
        transactions.listeners.left = storing.write_when_due
        race_found.connect(storing.note, weak=False, dispatch_uid=STORE)
    if options.sentry:
        from aftercommit.guard.sentry import report  # noqa: PLC0415 - it is optional

        race_found.connect(report, dispatch_uid=SENTRY)
