"""Mail about failed jobs: none unless the project asks for it, and then one of a kind in an hour.

Django's LOGGING mails to ADMINS what its own loggers write at ERROR, and it writes a line for
each job that has failed. A broken deploy would be a mail for each job.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256

from django.core.cache import caches
from django.utils.log import AdminEmailHandler

OURS = "aftercommit"
DJANGOS = ("django.tasks", "django_tasks")  # and the backport's
MOST_KINDS = 10_000


class OnePerKind(logging.Filter):
    """Lets one record of a kind through in a while: the same task and the same exception class.

    Records that are not about the end of a run pass. Whether one has passed is kept in this
    process and, so that it counts for all of them, in a cache of Django. A cache that does not
    answer, or is none, leaves one of a kind for each process.
    """

    def __init__(self, *, every: timedelta = timedelta(hours=1), cache: str = "default") -> None:
        super().__init__()
        self._every = every
        self._cache = cache
        self._passed: dict[str, float] = {}  # kinds, and until when no other one passes

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record passes."""
        task, kind = getattr(record, "task", None), getattr(record, "exception", None)
        if task is None or record.name != OURS:
            return True
        key = sha256(f"{task} {kind or getattr(record, 'outcome', '')}".encode()).hexdigest()
        return self._is_first(f"aftercommit.log.{key}")

    def _is_first(self, key: str) -> bool:
        now = time.monotonic()
        if self._passed.get(key, now) > now:
            return False
        if len(self._passed) >= MOST_KINDS:
            self._passed.clear()
        self._passed[key] = now + self._every.total_seconds()
        with suppress(Exception):  # of whatever kind its client raises
            return bool(caches[self._cache].add(key, 1, self._every.total_seconds()))
        return True


def spare_admins() -> None:
    """Let no mail be sent for each failed job, whatever LOGGING says; calling it twice is fine.

    A handler that mails and that the logger ``aftercommit`` reaches was asked for: it gets one of
    a kind. Django's own lines about tasks are mailed only by a handler of their very logger.
    """
    for handler in _mailing(logging.getLogger(OURS)):
        if not any(isinstance(one, OnePerKind) for one in handler.filters):
            handler.addFilter(OnePerKind())
    for name in DJANGOS:
        log = logging.getLogger(name)
        if log.propagate:
            for handler in _mailing(log.parent):
                handler.addFilter(_is_not_of_a_task)  # does nothing if it is there


def _mailing(log: logging.Logger | None) -> Iterator[logging.Handler]:
    while log is not None:
        yield from (one for one in log.handlers if isinstance(one, AdminEmailHandler))
        log = log.parent if log.propagate else None


def _is_not_of_a_task(record: logging.LogRecord) -> bool:
    return record.name not in DJANGOS
