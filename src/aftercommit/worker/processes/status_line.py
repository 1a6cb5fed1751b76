"""A line that says how fast jobs are done, and how many wait: on a terminal, or in the log.

It asks the database, so it has a thread of its own: if that hangs, nothing else does.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import Error, connections

from aftercommit.store import store_for
from aftercommit.worker.processes.supervisor import Progress
from aftercommit.worker.runs import now

logger = logging.getLogger("aftercommit")

REFRESH_EVERY = timedelta(seconds=1)
LOG_EVERY = timedelta(seconds=10)  # and only if something was done
RATE_OVER = timedelta(seconds=5)
TO_JOIN = timedelta(milliseconds=200)  # no longer: it may wait for a database that is away


@contextmanager
def status_line(
    aliases: list[str], progress: Callable[[], Progress], stdout: Any, *, hint: str
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
        with _repeated(_logged(Line(aliases), progress), every=LOG_EVERY):
            yield
        return
    with Live(console=Console(), auto_refresh=False, transient=True) as live:
        stdout.write(hint)
        line = Line(aliases)

        def show() -> None:
            found = progress()
            line.note(found)
            live.update(line.text(found), refresh=True)

        with _repeated(show, every=REFRESH_EVERY):
            yield


def _logged(line: "Line", progress: Callable[[], Progress]) -> Callable[[], None]:
    logged = 0

    def show() -> None:
        nonlocal logged
        found = progress()
        line.note(found)
        if found.done != logged:
            logged = found.done
            logger.info(line.text(found))

    return show


@contextmanager
def _repeated(step: Callable[[], None], *, every: timedelta) -> Iterator[None]:
    """Repeat a step in a thread while the block runs; do not wait for one that hangs."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every.total_seconds()):
            try:
                step()
            except Exception:
                logger.debug("The status line could not be shown", exc_info=True)
        connections.close_all()

    thread = threading.Thread(target=repeat, name="aftercommit-status-line", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(TO_JOIN.total_seconds())


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
        return f"{ready:,}", str(timedelta(seconds=int(oldest.total_seconds())))
