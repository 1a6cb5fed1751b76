"""Group, as Django Async has it: a reference, a description, and a job at the end."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction

from aftercommit import groups
from aftercommit.enqueue.group_references import end_with, newest_group
from aftercommit.enqueue.group_results import GroupResult
from aftercommit.enqueue.results import JobResult
from aftercommit.store import default_alias, store_for
from aftercommit.values import NO_TIME

Durations = tuple[timedelta | None, timedelta | None, timedelta | None]
UNKNOWN: Durations = (None, None, None)


class Group:
    """Jobs with a reference. Each question reads the tables."""

    def __init__(self, found: GroupResult) -> None:
        self.found = found

    @classmethod
    def create(cls, reference: str, description: str = "") -> Self:
        """Make a group; raises ``ValidationError`` if one of that reference has jobs left.

        In Django Async this is ``Group.objects.create(reference=..., description=...)``.
        """
        using = default_alias()
        with transaction.atomic(using=using):
            for one in groups.find(name=reference, using=using):
                if not one.is_finished:
                    raise ValidationError(
                        f"Group reference [{reference}] still has unexecuted jobs."
                    )
            return cls(newest_group(reference, using=using, description=description, new=True))

    @classmethod
    def latest_group_by_reference(cls, reference: str) -> Self:
        """Return the latest group with a reference, or a new one if that has completed."""
        using = default_alias()
        with transaction.atomic(using=using):
            return cls(newest_group(reference, using=using))

    def __str__(self) -> str:
        return self.reference

    @property
    def id(self) -> str:
        """The id of the group."""
        return self.found.id

    @property
    def reference(self) -> str:
        """The name of the group."""
        return self.found.name

    @property
    def description(self) -> str:
        """What it is about."""
        return self.found.description

    @property
    def created(self) -> datetime:
        """When it was made."""
        return self.found.created_at

    @property
    def final(self) -> JobResult | None:
        """The job that runs when all others have ended."""
        self.found.refresh()
        return self.found.last

    @property
    def jobs(self) -> Iterator[JobResult]:
        """The results of its jobs, without the final one."""
        return iter(self.found)

    def on_completion(self, job: JobResult) -> None:
        """Let a job that has not begun run when all others of the group have ended.

        However they have ended. Raises ``GroupHasEnded`` if the job has begun, and
        ``ValidationError`` if the group has another final job.
        """
        if not end_with(self.found, UUID(job.id)):
            raise ValidationError(f"Group [{self.reference}] has a final job already.")

    def has_completed(self, exclude: Any = None) -> bool:
        """Return whether there are jobs, and all but ``exclude`` have ended."""
        self.found.refresh()
        if exclude is None:
            return self.found.has_completed
        store, group_id = store_for(self.found.using), UUID(self.found.id)
        live = store.live_members(group_id, limit=2)
        last = store.last_of(group_id)
        if last is not None and not self.found.is_finished and not self.found.left:
            live.append(last)
        return self.number() > 0 and not [one for one in live if str(one) != str(exclude.id)]

    def latest_executed_job(self) -> JobResult | None:
        """Return the job of the group that has succeeded last; None if none has."""
        return self.found.latest_success()

    def estimate_execution_duration(self) -> Durations:
        """Return how long the group takes in all, will take, and has taken; None: not known."""
        self.found.refresh()
        last = self.found.last
        last_has_ended = last is not None and self.found.is_finished
        done, total = self.found.done + int(last_has_ended), self.number()
        if not done:
            return UNKNOWN
        if self.found.has_completed:
            latest = self.latest_executed_job()
            ended = None if latest is None else latest.finished_at
            taken = NO_TIME if ended is None else ended - self.created
            return taken, NO_TIME, taken
        consumed = store_for(self.found.using).now() - self.created
        estimated = consumed / done * total
        return estimated, estimated - consumed, consumed

    def number(self) -> int:
        """Return how many jobs there are, the final one included."""
        return self.found.total + int(self.found.last is not None)

    def executed(self) -> int:
        """Return how many of them have succeeded."""
        last = self.found.last
        return self.found.succeeded + int(last is not None and last.state == "succeeded")
