"""Whether the threads of a worker process do their work; asks no database."""

from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple, Protocol

from aftercommit.values import NO_TIME

HANGS_AFTER = timedelta(seconds=15)  # one step of such a thread takes much less
FAILS_AFTER = timedelta(seconds=5)  # a connection that breaks is made anew before that


class Loop(Protocol):
    """A thread that repeats one step."""

    @property
    def busy_for(self) -> timedelta:
        """How long the present step has been going on."""

    @property
    def failing_for(self) -> timedelta:
        """How long ago the last step succeeded, if the steps since have failed."""

    @property
    def failure(self) -> str:
        """The class of the error that the last step ended with."""


class Condition(NamedTuple):
    """Why a process cannot claim jobs or write outcomes, and for how long a thread has hung."""

    problems: tuple[str, ...] = ()
    stuck_for: timedelta = NO_TIME


def condition_of(threads: Iterable[tuple[str, str, Loop]]) -> Condition:
    """Return the condition of threads: the database alias of each, what it does, and its loop."""
    problems, stuck_for = [], NO_TIME
    for using, what, loop in threads:
        busy_for, failing_for = loop.busy_for, loop.failing_for
        if busy_for >= HANGS_AFTER:
            stuck_for = max(stuck_for, busy_for)
            problems.append(
                f"the thread that {what} in database {using!r} hangs for {busy_for.seconds} s; "
                "the database does not answer, perhaps"
            )
        elif failing_for >= FAILS_AFTER:
            problems.append(
                f"the thread that {what} in database {using!r} fails for "
                f"{failing_for.seconds} s ({loop.failure})"
            )
    return Condition(tuple(problems), stuck_for)
