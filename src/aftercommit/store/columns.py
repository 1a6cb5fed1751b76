"""Converts a ``NewJob`` to the values of a row, and a row of a claim to a ``Claim``."""

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from aftercommit.models.job import Blocked
from aftercommit.values import FIRST_MOMENT, LAST_MOMENT, Claim, NewJob

INSERTED = (
    "id",
    "task_path",
    "payload",
    "backend",
    "queue",
    "priority",
    "run_after",
    "max_attempts",
    "meta",
    "unique_key",
    "unique_until_started",
    "unique_lock",
    "limit_key",
)

# What few jobs have, with what all others have: an INSERT names those that one of its jobs needs.
SELDOM: dict[str, Any] = {
    "tags": None,
    "headers": None,
    "rate_key": None,
    "fair_key": None,
    "line": None,
    "blocked": None,
    "claimable": True,
    "waits_for": 0,
    "needed": None,
}

CLAIMED = (  # in the order of the fields of Claim
    "id",
    "token",
    "attempts",
    "crashes",
    "conflicts",
    "max_attempts",
    "task_path",
    "payload",
    "errors",
    "backend",
    "queue",
    "priority",
    "tags",
    "headers",
    *(MOMENTS := ("run_after", "enqueued_at", "started_at", "claimed_at")),
)
# The counters grow up to these: one that is full must not make the claim of others an error.
LARGEST_TOKEN, LARGEST_COUNT = 2**63 - 1, 2**31 - 1
MOMENTS_FROM = CLAIMED.index(MOMENTS[0])


def row_from(job: NewJob) -> list[Any]:
    """Return the values of the columns ``INSERTED``, in that order."""
    return [
        job.id,
        job.task_path,
        job.payload,
        job.backend,
        job.queue,
        job.priority,
        job.run_after,  # None: now, by the database's clock
        job.max_attempts,
        json.dumps(job.meta) if job.meta else "{}",
        job.unique_key,
        job.unique_until_started,
        unique_lock(job.unique_key),
        job.limit_key,
    ]


def columns_of(jobs: Sequence[NewJob]) -> tuple[str, ...]:
    """Return the columns ``INSERTED``, and those of ``SELDOM`` that one of these jobs needs."""
    if not (rows := [_seldom(job) for job in jobs if _has_seldom(job)]):
        return INSERTED
    needed = (name for name, usual in SELDOM.items() if any(row[name] != usual for row in rows))
    return (*INSERTED, *needed)


def values_from(job: NewJob, columns: Sequence[str]) -> dict[str, Any]:
    """Return the values of these columns, which ``columns_of`` has returned."""
    row = dict(zip(INSERTED, row_from(job), strict=True))
    if len(columns) > len(INSERTED):
        seldom = _seldom(job)
        row |= {name: seldom[name] for name in columns[len(INSERTED) :]}
    return row


def _has_seldom(job: NewJob) -> bool:
    plain = job.tags is None and job.rate_key is None and job.fair_key is None
    return not plain or job.waits or job.needed or job.headers is not None


def _seldom(job: NewJob) -> dict[str, Any]:
    """Return the values of ``SELDOM``; a fair job that is due waits in line at once."""
    in_line = job.fair_key is not None and job.run_after is None and not job.waits
    blocked = Blocked.FAIR.value if in_line else Blocked.JOBS.value if job.waits else None
    return {
        "tags": job.tags,
        "headers": job.headers,
        "rate_key": job.rate_key,
        "fair_key": job.fair_key,
        "line": job.fair_key if in_line else None,
        "blocked": blocked,
        "claimable": blocked is None,
        "waits_for": int(blocked is not None),
        "needed": job.needed or None,
    }


def unique_lock(key: str | None) -> str | None:
    """Return the value of the column ``unique_lock`` for a key: its SHA-256, in hexadecimal."""
    return None if key is None else hashlib.sha256(key.encode()).hexdigest()


def claim_from(row: Sequence[Any], *, worker_id: UUID, lease_id: UUID) -> Claim:
    """Build a claim from the columns ``CLAIMED``, in that order, in the types of any driver."""
    moments = map(moment_from, row[MOMENTS_FROM:])
    of_row = (id_from(row[0]), *row[1:MOMENTS_FROM], *moments)
    return Claim._make((*of_row, worker_id, lease_id, None))


def id_from(value: UUID | str) -> UUID:
    """Return an id as a UUID; only PostgreSQL's driver returns one, the others return text."""
    return value if isinstance(value, UUID) else UUID(value)


def moment_from(value: datetime | str) -> datetime:
    """Return an aware moment; SQLite returns text in UTC, MySQL a naive datetime in UTC.

    What is no moment is read as the first or last one: see ``models.readable``.
    """
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (AttributeError, ValueError):
        return FIRST_MOMENT
    return min(max(moment, FIRST_MOMENT), LAST_MOMENT)
