"""Jobs."""

from typing import Any, ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from aftercommit.ids import new_job_id
from aftercommit.models.portable import Count, JSONOrText, Name, PartialIndex, Tags, UniqueWhenSet
from aftercommit.models.readable import Identity, Moment
from aftercommit.stored import read_arguments, read_errors, read_json


class State(models.TextChoices):
    """The five states of a job; see docs/explanation/life-of-a-job."""

    READY = "ready", _("Ready")
    RUNNING = "running", _("Running")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    CANCELLED = "cancelled", _("Cancelled")


class Blocked(models.IntegerChoices):
    """Where a job stands among those of its key; NULL for all other jobs.

    Not "why it is blocked" alone: a job that was let through, and one that keeps its key, must
    be found by the key as well.
    """

    PASSED = 0, _("Let through")  # claimable again, with a slot of the limit in prospect
    LIMIT = 1, _("Waits for a slot")  # not claimable
    HOLDS = 2, _("Holds its key")  # of an ordered task: has started, and may not have ended
    RATE = 3, _("Waits for its rate")  # not claimable; ``line`` is its rate key
    FAIR = 4, _("Waits for its turn")  # not claimable; ``line`` is its fair key
    JOBS = 5, _("Waits for other jobs")  # not claimable; see Dependency


WAITS: dict[int, str] = {
    Blocked.LIMIT: "limit",
    Blocked.RATE: "rate",
    Blocked.FAIR: "turn",
    Blocked.JOBS: "jobs",
}
LIVE = (State.READY, State.RUNNING)
UNSUCCESSFUL = (State.FAILED, State.CANCELLED)
FINISHED = (State.SUCCEEDED, *UNSUCCESSFUL)


class Job(models.Model):
    """A task with its arguments, waiting, running or ended.

    Written only by the store: each change is one statement whose WHERE holds the whole
    condition. Do not call ``save()`` on a job.

    No index, and no condition of an index, names a column that changes when a run succeeds
    (``state``, ``result``, ``finished_at``). So on PostgreSQL that UPDATE is a HOT update: it
    writes no index, and its dead row is removed without VACUUM.
    """

    State = State

    id = Identity(primary_key=True, default=new_job_id, editable=False)
    state = models.CharField(max_length=9, choices=State, default=State.READY)
    # Whether a worker may claim it once it is due. True for ready jobs that wait for nothing
    # else; the claim takes it away.
    claimable = models.BooleanField(db_default=True)
    unsuccessful = models.BooleanField(db_default=False)  # failed or cancelled
    queue = Name(max_length=100, default="default")
    priority = models.SmallIntegerField(default=0)
    run_after = Moment()
    backend = Name(max_length=100, default="default")
    task_path = Name(max_length=255)
    payload = models.TextField()  # JSON: {"args": [...], "kwargs": {...}}
    meta = JSONOrText(default=dict, blank=True)
    headers = models.TextField(null=True)  # noqa: DJ001 - JSON object, for traces; NULL: none
    tags = Tags(null=True)

    token = models.BigIntegerField(default=0)  # the fence: +1 at each claim, never lowered
    attempts = Count(default=0)  # runs, without those that were released
    crashes = Count(default=0)  # runs whose worker died
    conflicts = Count(default=0)  # runs the database broke off
    max_attempts = Count(default=5)
    worker_id = Identity(null=True)  # of the present or the last good run
    # Of jobs that a worker of version 0.1 has claimed. The others have a row of Lease.
    lease_until = Moment(null=True)
    cancel_requested = models.BooleanField(default=False)
    awaited = models.BooleanField(null=True)  # somebody wants to be notified of its end
    needed = models.BooleanField(null=True)  # other jobs wait for its end, or a group counts it
    waits_for = Count(db_default=0)  # what must end before it, see Dependency

    unique_key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - NULLs are distinct
    unique_until_started = models.BooleanField(default=False)
    # SHA-256 of the key while it is held: MySQL would compare keys without case.
    unique_lock = models.CharField(max_length=64, null=True)  # noqa: DJ001
    limit_key = models.CharField(max_length=255, null=True)  # noqa: DJ001
    slot = Count(null=True)
    blocked = models.SmallIntegerField(null=True)  # see Blocked; not "choices": it is no label
    rate_key = models.CharField(max_length=64, null=True)  # noqa: DJ001
    fair_key = models.CharField(max_length=64, null=True)  # noqa: DJ001
    line = models.CharField(max_length=64, null=True)  # noqa: DJ001 - the key it waits in line for

    enqueued_at = Moment()
    started_at = Moment(null=True)  # first run
    claimed_at = Moment(null=True)  # present or last run
    finished_at = Moment(null=True)

    result = models.TextField(null=True)  # noqa: DJ001 - JSON; NULL: none yet
    errors = models.TextField(default="[]")  # JSON: one entry for each failed run

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        permissions: ClassVar = [
            ("retry_job", "Can retry jobs"),
            ("cancel_job", "Can cancel jobs"),
            # Of the dashboard; see docs/how-to/dashboard.
            ("view_job_arguments", "Can view arguments and results of jobs"),
            ("enqueue_job", "Can enqueue copies of jobs"),
        ]
        indexes: ClassVar = [
            PartialIndex(
                fields=["backend", "queue", "-priority", "run_after", "id"],
                condition=Q(claimable=True),
                leading=("claimable",),
                name="aftercommit_job_claimable",
            ),
            PartialIndex(
                fields=["run_after", "id"],
                condition=Q(claimable=True, crashes__gt=0),
                leading=("crashes",),  # which a claim does not change
                name="aftercommit_job_crashed",
            ),
            PartialIndex(
                fields=["id"],
                condition=Q(unsuccessful=True),
                leading=("unsuccessful",),
                name="aftercommit_job_unsuccessful",
            ),
            # The lines of the limit keys. The walk names a priority, so that none is descending.
            PartialIndex(
                fields=["blocked", "limit_key", "priority", "run_after", "id"],
                condition=Q(blocked__isnull=False),
                name="aftercommit_job_limited",
            ),
            PartialIndex(
                fields=["line", "priority", "run_after", "id"],
                condition=Q(line__isnull=False),
                name="aftercommit_job_line",
            ),
            PartialIndex(  # empty without workers of version 0.1
                fields=["lease_until"],
                condition=Q(lease_until__isnull=False),
                name="aftercommit_job_lease",
            ),
        ]
        constraints: ClassVar = [
            UniqueWhenSet(
                fields=["unique_lock"],
                condition=Q(unique_lock__isnull=False),
                name="aftercommit_job_unique",
            ),
            UniqueWhenSet(
                fields=["limit_key", "slot"],
                condition=Q(slot__isnull=False),
                name="aftercommit_job_slot",
            ),
            # One expression, and the frequent case first: each CHECK costs an INSERT time.
            models.CheckConstraint(
                condition=Q(
                    state="ready",
                    finished_at__isnull=True,
                    lease_until__isnull=True,
                    slot__isnull=True,
                )
                | Q(state="running", finished_at__isnull=True, worker_id__isnull=False)
                | Q(
                    state__in=FINISHED,
                    finished_at__isnull=False,
                    lease_until__isnull=True,
                    slot__isnull=True,
                    unique_lock__isnull=True,
                ),
                name="aftercommit_job_consistent",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task_path} {self.id}"

    @classmethod
    def check(cls, **kwargs: Any) -> Any:
        """Leave out that MySQL ignores conditions: our indexes do without them there."""
        ours = {"models.W036", "models.W037"}
        return [found for found in super().check(**kwargs) if found.id not in ours]

    @property
    def waits_because(self) -> str | None:
        """What keeps a ready job from being claimed when it is due.

        ``limit``, ``rate``, ``turn``: it is parked, or in line; ``jobs``: others must end first;
        ``pause``: its task is paused.
        """
        if self.state != State.READY or self.claimable:
            return None
        waits = "pause" if self.waits_for else None
        return waits if self.blocked is None else WAITS.get(self.blocked, waits)

    @property
    def args(self) -> list[Any]:
        """The positional arguments; raises ``Unreadable`` if they are not what was enqueued."""
        return read_arguments(self.payload)[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments; raises ``Unreadable`` as ``args`` does."""
        return read_arguments(self.payload)[1]

    @property
    def return_value(self) -> Any:
        """What the task returned; None until it has succeeded.

        Raises ``Unreadable`` if it is no JSON.
        """
        return None if self.result is None else read_json(self.result, "return value")

    @property
    def error_list(self) -> list[dict[str, str]]:
        """The failed runs, oldest first, each with class path, traceback and worker."""
        return read_errors(self.errors)
