"""Says why a thread of the worker cannot do its work: once, not at every try."""

import logging

from django.db import Error

from aftercommit.printable import one_line, without_passwords
from aftercommit.safe_log import log_error, log_line
from aftercommit.transient_errors import is_away

TRIES = 3  # in a row; an error that is over before that is not worth a line
TRIES_IF_AWAY = 10  # that the database does not answer is logged by itself
LONGEST_REASON = 300  # characters


class Trouble:
    """The error that a repeated step ends with, from its first failure until it succeeds."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._failures = 0
        self.reason: str | None = None  # as it was logged

    def failed(self, error: BaseException) -> None:
        """Note a failure; log it if it lasts and its reason was not logged yet."""
        self._failures += 1
        reason = _reason_of(error)
        by_database = issubclass(type(error), Error)
        if reason == self.reason or (by_database and self._failures < _tries(error)):
            return
        self.reason = reason
        if by_database:
            log_line(
                logging.ERROR,
                "%s cannot do its work: %s. It tries again without end; this is said once",
                self._what,
                reason,
            )
        else:
            log_error("%s: a step failed and is repeated", self._what, error=error)

    def over(self) -> None:
        """Note a success; log it if a failure was logged."""
        if self.reason is not None:
            log_line(
                logging.WARNING,
                "%s works again, after %s failures",
                self._what,
                self._failures,
            )
        self._failures, self.reason = 0, None


def _tries(error: BaseException) -> int:
    return TRIES_IF_AWAY if is_away(error) else TRIES


def _reason_of(error: BaseException) -> str:
    """Return the class, and what the database says if it cannot name an address or a user."""
    name = type(error).__name__
    if is_away(error):
        return name
    try:
        text = without_passwords(str(error)).strip().partition("\n")[0]
    except BaseException:  # of a __str__() of the project; it may be SystemExit
        return name
    return one_line(f"{name}: {text[:LONGEST_REASON]}")
