"""A live line on a terminal: how fast jobs are done, and how many wait."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import Error

from aftercommit.options.conf import WorkerConfig
from aftercommit.store import store_for
from aftercommit.worker.runs import now
from aftercommit.worker.supervisor import Progress

logger = logging.getLogger("aftercommit")

REFRESH_EVERY = 1.0  # seconds
LOG_EVERY = 10.0  # seconds, and only if something was done
RATE_OVER = 5.0  # seconds

Show = Callable[[Progress], None]


@contextmanager
def progress_for(aliases: list[str], config: WorkerConfig, stdout: Any) -> Iterator[Show]:
    """Give what shows progress: a live line on a terminal (with rich), log lines elsewhere."""
    try:
        from rich.console import Console  # noqa: PLC0415 - an optional extra
        from rich.live import Live  # noqa: PLC0415 - an optional extra
    except ImportError:
        yield _log_of(aliases)
        return
    if not stdout.isatty():
        yield _log_of(aliases)
        return
    with Live(console=Console(), auto_refresh=False, transient=True) as live:
        line = Line(aliases, every=REFRESH_EVERY)

        def show(progress: Progress) -> None:
            if (text := line.text(progress)) is not None:
                live.update(text, refresh=True)

        stdout.write(
            f"{config.processes} processes, {config.threads} threads each. Ctrl-C stops."
        )
        yield show


def _log_of(aliases: list[str]) -> Show:
    line = Line(aliases, every=LOG_EVERY)
    logged = 0

    def show(progress: Progress) -> None:
        nonlocal logged
        if progress.done != logged and (text := line.text(progress)) is not None:
            logged = progress.done
            logger.info(text)

    return show


class Line:
    """The words of the line, renewed now and then."""

    def __init__(self, aliases: list[str], *, every: float) -> None:
        self._every = every
        self._stores = [store_for(alias) for alias in aliases]
        self._seen = deque([(now(), 0)])  # (moment, jobs done until then)
        self._next = now() + every

    def text(self, progress: Progress) -> str | None:
        """Return the line, or None if the last one still holds."""
        at = now()
        if at < self._next:
            return None
        self._next = at + self._every
        self._seen.append((at, progress.done))
        while at - self._seen[0][0] > max(RATE_OVER, 1.5 * self._every):
            self._seen.popleft()
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
            for store in self._stores:
                store.connection.close()
            return "?", "?"
        oldest = max(ages, default=timedelta(0))
        return f"{ready:,}", str(timedelta(seconds=int(oldest.total_seconds())))
