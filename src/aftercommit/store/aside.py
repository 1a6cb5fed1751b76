"""Jobs of paused tasks: set aside while they would be in the way of others, and brought back."""

from collections.abc import Collection, Sequence
from enum import Enum
from functools import partial
from uuid import UUID

from django.db.models import Case, Q, Value, When

from aftercommit.models import Blocked, Dependency, State
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.rules import Rules, pause_of
from aftercommit.stored import without_version
from aftercommit.values import TASK

FRONT = 500  # jobs of a group that are looked at together; more ids are no lookup for MariaDB
# Many may set jobs aside at once, but none after the pause has ended: then nobody would bring
# them back. Without a wait: whoever resumes may be in a transaction that stays open.
PAUSED = """
SELECT name FROM aftercommit_rule
WHERE kind = 'task' AND paused_since IS NOT NULL AND name IN ({names}) {share}
"""


class Front(Enum):
    """What a claim would meet first."""

    CLEAR = "no job of a paused task, or a few that are locked"
    MOVED = "there were such jobs, and perhaps there are more"
    BUSY = "only jobs that others are setting aside now"


class Aside(Rules):
    """Takes jobs out of the index of claims, and puts them back.

    A job that is set aside is ready, not ``claimable``, and has a row of ``Dependency``: it waits
    for the pause of its task as it would wait for another job.
    """

    share_sql = ""  # after a SELECT: lock the rows in shared mode, and leave out locked ones

    def set_aside(
        self, queue: str, groups: Sequence[tuple[str, int]], tasks: Collection[str]
    ) -> Front:
        """Set jobs of paused ``tasks`` aside that are among the first of one of these groups.

        Looks at a bounded number of jobs of each group. Returns what a claim would meet.
        """
        found: list[UUID] = []
        full = False
        for backend, priority in groups:
            rows = self._claimable().filter(backend=backend, queue=queue, priority=priority)
            due = rows.filter(run_after__lte=DatabaseNow()).order_by("run_after", "id")
            front = due.values_list("id", "task_path")[:FRONT]
            chosen = [job_id for job_id, path in front if path in tasks]
            full = full or len(chosen) == FRONT
            found += chosen
        moved = [
            self._after_deadlock(partial(self._set_aside, found[first : first + FRONT], tasks))
            for first in range(0, len(found), FRONT)
        ]
        if any(moved):
            return Front.MOVED
        return Front.BUSY if full and None not in moved else Front.CLEAR

    def _set_aside(self, job_ids: Sequence[UUID], tasks: Collection[str]) -> int | None:
        """Return how many jobs were set aside; None if no task is paused any more."""
        with self._write():
            paused = self._still_paused(tasks)
            if not paused:
                return None
            in_the_way = Q(claimable=True) | Q(blocked=Blocked.FAIR)
            rows = self._jobs.filter(in_the_way, id__in=job_ids, state=State.READY)
            locked = self._locked(rows.filter(task_path__in=paused), skip=True)
            found = list(locked.values_list("id", "task_path", "blocked"))
            chosen = {job_id: path for job_id, path, _blocked in found}
            in_lines = [job_id for job_id, _path, blocked in found if blocked == Blocked.FAIR]
            self._jobs.filter(id__in=chosen).update(claimable=False, waits_for=1)
            if in_lines:
                self._jobs.filter(id__in=in_lines).update(blocked=None, line=None)
            self._dependencies.bulk_create(
                [
                    Dependency(job_id=job_id, needs_id=pause_of(without_version(path)))
                    for job_id, path in chosen.items()
                ],
                ignore_conflicts=True,  # one that was cancelled meanwhile, and retried
            )
        return len(chosen)

    def _still_paused(self, tasks: Collection[str]) -> list[str]:
        """Return those of the tasks that are paused; a pause is of all versions of a task."""
        names = sorted({without_version(one) for one in tasks})
        marks = ", ".join(["%s"] * len(names))
        with self.connection.cursor() as cursor:
            cursor.execute(PAUSED.format(names=marks, share=self.share_sql), names)
            paused = {row[0] for row in cursor.fetchall()}
        return [one for one in tasks if without_version(one) in paused]

    def bring_back(self, task_path: str) -> bool:
        """Make some jobs claimable again that were set aside, the oldest first.

        Returns whether there may be more. When there are none the rule is deleted.
        """
        return bool(self._after_deadlock(partial(self._bring_back, task_path)))

    def _bring_back(self, task_path: str) -> int:
        waiting = self._dependencies.filter(needs_id=pause_of(task_path))
        if not waiting.exists():
            self._forget_rule(TASK, task_path)
            return 0
        with self._write():
            first = list(waiting.order_by("job_id").values_list("job_id", flat=True)[:FRONT])
            rows = self._jobs.filter(id__in=first)
            held = dict(self._locked(rows, skip=True).values_list("id", "queue"))
            gone = set(first) - set(rows.values_list("id", flat=True))
            # Whatever has become of it meanwhile: it waits for this pause no longer. One that
            # waits for a slot as well stays in its line, which lets it through in its turn. One
            # that waits for other jobs is freed by the last of those.
            places = (Blocked.LIMIT, Blocked.RATE, Blocked.FAIR, Blocked.JOBS)
            parked = Q(state=State.READY, blocked__in=places)
            self._jobs.filter(id__in=held).exclude(parked).update(
                waits_for=0,
                claimable=Case(When(state=State.READY, then=Value(True)), default=Value(False)),
            )
            freed = waiting.filter(job_id__in=[*held, *gone]).delete()[0]
            self._wake(set(held.values()))
        return freed

    def set_aside_of(self, task_path: str) -> int:
        """Return how many jobs of a task are set aside."""
        return self._dependencies.filter(needs_id=pause_of(task_path)).count()
