"""Stores findings: counted in memory, and written when no transaction is open.

In the transaction that is open they would be rolled back with it, and their rows would be locked
until its end.
"""

import hashlib
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import Error, IntegrityError, router, transaction
from django.db.models import F
from django.utils import timezone

from aftercommit.guard.findings import Finding
from aftercommit.guard.frames import shown
from aftercommit.safe_log import log_error

PAUSE = timedelta(seconds=10)  # between two times that a process writes


@dataclass(slots=True)
class _Counted:
    finding: Finding
    first: datetime
    last: datetime
    count: int = 1


@dataclass(slots=True)
class Storing:
    """The findings of this process that are not written yet."""

    _waiting: dict[str, _Counted] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock)
    _written: float | None = None  # when, by the monotonic clock
    _writing: bool = False

    def note(self, finding: Finding, **_: Any) -> None:
        """Count a finding; a receiver of ``race_found``."""
        key, now = key_of(finding), timezone.now()
        with self._lock:
            known = self._waiting.get(key)
            if known is None:
                self._waiting[key] = _Counted(finding, now, now)
            else:
                known.count += 1
                known.last = now

    def write_when_due(self) -> None:
        """Write what is waiting, unless this process has just done so. Never raises."""
        now = time.monotonic()
        with self._lock:
            pause = PAUSE.total_seconds()
            early = self._written is not None and now - self._written < pause
            if not self._waiting or self._writing or early:
                return
            waiting, self._waiting = self._waiting, {}
            self._written, self._writing = now, True
        try:
            _write(waiting)
        except Error as error:
            log_error("%d findings of the guard were not stored", len(waiting), error=error)
        finally:
            self._writing = False


def key_of(finding: Finding) -> str:
    """Return what the row of a finding is known by."""
    place = finding.place
    parts = (finding.rule, finding.adapter, finding.subject, shown(place.path), str(place.line))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _write(waiting: dict[str, _Counted]) -> None:
    from aftercommit.guard.models import StoredFinding  # noqa: PLC0415 - apps are ready by now

    using = router.db_for_write(StoredFinding)
    rows = StoredFinding.objects.using(using)
    for key, counted in sorted(waiting.items()):
        change = {"count": F("count") + counted.count, "last_seen": counted.last}
        if rows.filter(key=key).update(**change):
            continue
        try:
            with transaction.atomic(using):
                rows.create(key=key, **_columns(counted))
        except IntegrityError:  # another process was first
            rows.filter(key=key).update(**change)


def _columns(counted: _Counted) -> dict[str, Any]:
    found, place = counted.finding, counted.finding.place
    return {
        "rule": found.rule,
        "adapter": found.adapter,
        "subject": found.subject,
        "path": shown(place.path)[:500],
        "line": place.line,
        "function": place.function[:300],
        "report": str(found),
        "count": counted.count,
        "first_seen": counted.first,
        "last_seen": counted.last,
    }
