"""A line that says how fast jobs are done, and how many wait: on a terminal, or in the log.

It asks the database, so that is done aside: if it hangs, nothing else does.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import Error, connections

from aftercommit.store import store_for
from aftercommit.wording import spoken
from aftercommit.worker.processes.aside import Aside
from aftercommit.worker.processes.channel import Channel
from aftercommit.worker.processes.progress import Progress
from aftercommit.worker.runs import now

if TYPE_CHECKING:
    from rich.live import Live

logger = logging.getLogger("aftercommit")

REFRESH_EVERY = timedelta(seconds=1)
LOG_EVERY = timedelta(seconds=10)  # and only if something was done
RATE_OVER = timedelta(seconds=5)
TO_JOIN = timedelta(milliseconds=200)  # no longer: it may wait for a database that is away


@contextmanager
def status_line(
    aliases: list[str], progress: Progress, stdout: Any, *, hint: str, may_fork: bool
) -> Iterator[None]:
    """Show the line while the block runs: live on a terminal (with rich), else in the log.

    ``hint`` is written above the live line.
    """
    try:
        from rich.console import Console  # noqa: PLC0415 - an optional extra
        from rich.live import Live  # noqa: PLC0415 - an optional extra
    except ImportError:
        Live = None  # type: ignore[assignment,misc]
    if Live is None or not stdout.isatty():
        with _aside(lambda over: _write(Line(aliases), progress, over), may_fork=may_fork):
            yield
        return

    def show(over: Channel) -> None:
        with Live(console=Console(), auto_refresh=False, transient=True) as live:
            line = Line(aliases)
            _repeat(lambda: _show(line, progress, live), over, every=REFRESH_EVERY)

    stdout.write(hint)
    with _aside(show, may_fork=may_fork):
        yield
    Console().show_cursor()  # if it had to be left alone


@contextmanager
def _aside(work: Callable[[Channel], None], *, may_fork: bool) -> Iterator[None]:
    aside = Aside(work, name="status-line", may_fork=may_fork)
    try:
        yield
    finally:
        aside.end(TO_JOIN)


def _write(line: "Line", progress: Progress, over: Channel) -> None:
    logged = 0

    def step() -> None:
        nonlocal logged
        line.note(progress)
        if progress.done != logged:
            logged = progress.done
            logger.info(line.text(progress))

    _repeat(step, over, every=LOG_EVERY)


def _show(line: "Line", progress: Progress, live: "Live") -> None:
    line.note(progress)
    live.update(line.text(progress), refresh=True)


def _repeat(step: Callable[[], None], over: Channel, *, every: timedelta) -> None:
    while not over.closed_within(every):
        try:
            step()
        except Exception:
            logger.debug("The status line could not be shown", exc_info=True)
    connections.close_all()


class Line:
    """The words of the line."""

    def __init__(self, aliases: list[str]) -> None:
        self._stores = [store_for(alias) for alias in aliases]
        self._seen = deque([(now(), 0)])  # (moment, jobs done until then)

    def note(self, progress: Progress) -> None:
        """Take in how far it is, for the rate."""
        at = now()
        self._seen.append((at, progress.done))
        while at - self._seen[1][0] >= RATE_OVER.total_seconds():
            self._seen.popleft()

    def text(self, progress: Progress) -> str:
        """Return the line; asks the databases how many jobs wait."""
        ready, oldest = self._waiting()
        return (
            f"{progress.done:,} done · {self._rate():,.0f}/s · {progress.running:,} running · "
            f"{ready} ready · oldest {oldest}"
        )

    def _rate(self) -> float:
        (first, done_first), (last, done_last) = self._seen[0], self._seen[-1]
        return (done_last - done_first) / (last - first) if last > first else 0.0

    def _waiting(self) -> tuple[str, str]:
        try:
            ready = sum(store.counts()["ready"] for store in self._stores)
            ages = [age for store in self._stores if (age := store.oldest_due_age()) is not None]
        except Error:
            connections.close_all()
            return "?", "?"
        oldest = max(ages, default=timedelta(0))
        return f"{ready:,}", spoken(timedelta(seconds=int(oldest.total_seconds())))
