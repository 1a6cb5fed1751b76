"""The numbers of a group: how many of its jobs have ended, and how long the others may take."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.utils import timezone

from aftercommit.store import store_for
from aftercommit.values import NO_TIME

if TYPE_CHECKING:
    from aftercommit.models import Group
    from aftercommit.store.base import Store

ENDED = ("succeeded", "failed", "cancelled")


class GroupNumbers:
    """A group as it was when it was read.

    The numbers are those of its jobs, without the one that runs when all of them have ended.
    """

    def __init__(self, row: "Group", *, using: str) -> None:
        self._using = using
        self._take(row)

    # ---- what it is -------------------------------------------------------------

    @property
    def id(self) -> str:
        """The id of the group."""
        return str(self._row.id)

    @property
    def name(self) -> str:
        """The name, or an empty text; several groups may have the same."""
        return self._row.name

    @property
    def description(self) -> str:
        """What ``group(description=...)`` has said."""
        return self._row.description

    @property
    def meta(self) -> dict[str, Any]:
        """The JSON object that is stored with the group."""
        meta: dict[str, Any] = self._row.meta
        return meta

    @property
    def created_at(self) -> datetime:
        """When it was enqueued, by the database's clock."""
        moment: datetime = self._row.created_at
        return moment

    @property
    def using(self) -> str:
        """The database alias of its jobs."""
        return self._using

    # ---- how far it is ----------------------------------------------------------

    @property
    def total(self) -> int:
        """How many jobs there are, with those whose rows are deleted."""
        return self._counts.left + self._counts.done

    @property
    def left(self) -> int:
        """How many jobs have not ended."""
        return self._counts.left

    @property
    def running(self) -> int:
        """How many of these a worker has claimed."""
        return self._counts.running

    @property
    def done(self) -> int:
        """How many jobs have ended, in whatever state."""
        return self._counts.done

    @property
    def succeeded(self) -> int:
        """How many jobs have succeeded."""
        return self._counts.succeeded

    @property
    def failed(self) -> int:
        """How many jobs have failed for good."""
        return self._counts.failed

    @property
    def cancelled(self) -> int:
        """How many jobs were cancelled."""
        return self._counts.cancelled

    @property
    def progress(self) -> float:
        """Which part of the jobs has ended: 0.0 to 1.0."""
        return self.done / self.total if self.total else 1.0

    @property
    def is_finished(self) -> bool:
        """Whether all jobs have ended, and the last one of the group as well."""
        return not self._counts.left and not self._last_is_live

    @property
    def has_completed(self) -> bool:
        """Whether there are jobs, and all have ended: what Django Async calls so."""
        return self.is_finished and (self.total > 0 or self._last_id is not None)

    @property
    def is_cancelled(self) -> bool:
        """Whether ``cancel()`` was called."""
        return self._row.cancelled_at is not None

    @property
    def estimate(self) -> timedelta | None:
        """How long the jobs that are left will take, at the speed so far; None: not known yet.

        From the start of the first run to the end of the latest one, for each job that has ended
        between; so it follows from how many run at once. Without rows of ended jobs, because
        they go with their success, it is reckoned from the time at which the group was made.
        """
        counts = self._counts
        if not counts.left:
            return NO_TIME
        if not counts.done:
            return None
        if counts.timed and counts.first_claimed_at and counts.last_finished_at:
            span, number = counts.last_finished_at - counts.first_claimed_at, counts.timed
        else:
            span, number = timezone.now() - self.created_at, counts.done
        return max(span, NO_TIME) * counts.left / number

    # ---- inside -----------------------------------------------------------------

    @property
    def _last_id(self) -> UUID | None:
        found: UUID | None = self._row.final_id
        return found

    @property
    def _store(self) -> "Store":
        return store_for(self._using)

    def _take(self, row: "Group") -> None:
        self._row = row
        self._counts = self._store.group_counts(row.id)
        last = None if row.final_id is None else self._store.job(row.final_id)
        self._last_is_live = last is not None and last.state not in ENDED
