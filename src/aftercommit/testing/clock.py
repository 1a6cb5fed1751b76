"""``travel()``: the clock of the database and Django's ``timezone.now()``, moved for a block."""

import datetime as python
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

from django.db import connections
from django.utils import timezone

from aftercommit.errors import ConfigurationError
from aftercommit.store import store_for
from aftercommit.store.moved_clock import MovedClock
from aftercommit.testing.schedules import know_schedules
from aftercommit.testing.transactions import usable_aliases
from aftercommit.under_test import refuse_without_test_run


@contextmanager
def travel(to: timedelta | datetime) -> Iterator[None]:
    """Move the clock in the block: by a span, or to an aware moment. It goes on from there.

    What is due is decided by the database's clock, so that one is moved, for the statements of
    this thread's connections only: ``run_after``, backoff, rates and schedules. With it moves
    ``django.utils.timezone.now()``, in all threads, as the code under test computes
    ``run_after`` from it; ``datetime.now()`` and ``time.time()`` do not. Blocks may be nested:
    a span counts from the moved clock.

    Schedules that the code declares are made known before the clock moves, as a worker would
    have done. Raises ``ConfigurationError`` for a naive moment, or if no test run is on.
    """
    refuse_without_test_run("travel()")
    aliases = usable_aliases()
    know_schedules(aliases)
    with moved_by(_span(to, aliases)):
        yield


@contextmanager
def moved_by(span: timedelta) -> Iterator[None]:
    """Move the clocks in the block by a span."""
    with ExitStack() as stack:
        for alias in usable_aliases():
            wrapper = MovedClock(span)
            connections[alias].execute_wrappers.append(wrapper)
            stack.callback(connections[alias].execute_wrappers.remove, wrapper)
        # The name that now() looks up: also those who have imported now() itself see it moved.
        stack.enter_context(patch.object(timezone, "datetime", _moved_class(span)))
        yield


def _moved_class(span: timedelta) -> Any:
    usual = vars(timezone)["datetime"]  # perhaps one of another block, or of freezegun

    class Moved(datetime):
        """What ``timezone.now()`` asks."""

        @classmethod
        def now(cls, tz: python.tzinfo | None = None) -> Any:
            return usual.now(tz=tz) + span

    return Moved


def _span(to: timedelta | datetime, aliases: list[str]) -> timedelta:
    if isinstance(to, timedelta):
        return to
    if not isinstance(to, datetime) or to.tzinfo is None:
        raise ConfigurationError(
            f"travel(): expected a timedelta or an aware datetime, got {to!r}. The clock was not "
            "moved."
        )
    return to - (store_for(aliases[0]).clock() if aliases else timezone.now())
