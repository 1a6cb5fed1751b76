"""Ready jobs that no claim can see: of paused tasks, or waiting for limits, rates, other jobs."""

from typing import Any, NamedTuple

from aftercommit.models import Blocked, Dependency
from aftercommit.store.rules import Rules, pause_of
from aftercommit.values import TASK

PARKED_IN = (Blocked.LIMIT, Blocked.RATE, Blocked.JOBS)
# Each place is a part of an index, read up to a limit.
PARKED = """
SELECT {column}, COUNT(*) FROM (
    SELECT {column} FROM aftercommit_job
    WHERE blocked = {place} AND state = 'ready' ORDER BY blocked, limit_key LIMIT {most}
) AS parked GROUP BY {column}
"""
# What has become of a job meanwhile is not written to the table of what it waited for.
ASIDE = """
SELECT job.{column}, COUNT(*)
FROM (
    SELECT job_id FROM aftercommit_dependency WHERE needs_id IN ({pauses}) LIMIT {most}
) AS aside
JOIN aftercommit_job AS job ON job.id = aside.job_id
WHERE job.state = 'ready' AND job.waits_for > 0 AND COALESCE(job.blocked, -1) NOT IN ({parked})
GROUP BY job.{column}
"""


class HeldBackJobs(NamedTuple):
    """How many jobs are held back, by the queue or the task; each name has at least one."""

    paused: dict[str, int]  # set aside, because their task is paused
    limited: dict[str, int]  # parked, because of a limit
    rated: dict[str, int]  # parked, because of a rate
    waiting: dict[str, int]  # for other jobs


class HeldBack(Rules):
    """Counts them; without a paused task by one statement for each reason."""

    def held_back(self, column: str, *, most: int) -> HeldBackJobs:
        """Return how many there are, by ``queue`` or ``task_path``; up to ``most`` a reason."""
        limited, rated, waiting = (
            self._pairs(PARKED.format(column=column, place=place.value, most=most), [])
            for place in PARKED_IN
        )
        return HeldBackJobs(self._set_aside_by(column, most), limited, rated, waiting)

    def _set_aside_by(self, column: str, most: int) -> dict[str, int]:
        rules = self.rules()
        if rules is None:
            return {}
        paths = {one.name for one in rules.pauses if one.kind == TASK}.union(rules.resumed)
        if not paths:
            return {}
        field = Dependency._meta.get_field("needs_id")
        pauses = [field.get_db_prep_value(pause_of(one), self.connection) for one in paths]
        sql = ASIDE.format(
            column=column,
            pauses=", ".join(["%s"] * len(pauses)),
            most=most,
            parked=", ".join(str(one.value) for one in PARKED_IN),
        )
        return self._pairs(sql, pauses)

    def _pairs(self, sql: str, given: list[Any]) -> dict[str, int]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, given)
            return dict(cursor.fetchall())
