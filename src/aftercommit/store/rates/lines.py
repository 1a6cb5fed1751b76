"""The line of each rate key: jobs that wait aside until they may start.

They are ready, not ``claimable``, and ``line`` is their rate key. Who is let through leaves the
line and is claimable as any other job; the claim then decides again, and takes the token. So two
workers that let too many through do no harm.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from aftercommit.gcra import NO_TIME, Rate
from aftercommit.models import Blocked, State
from aftercommit.options.rate import RATE_LINE
from aftercommit.store.columns import id_from
from aftercommit.store.limits.reading import LINES_TOGETHER, in_parts
from aftercommit.store.rates.keys import KeyNow, RateKeys

MOST_KEYS = 100  # that are locked at once
MOST_OF_KEY = 500  # jobs of one key that are let through at once
PRIORITIES = 1000  # more than the highest priority
# By the highest priority first: no column of the index is descending, see PartialIndex.
FIRST_IN_LINE = """
SELECT * FROM (
    SELECT line, id, queue, state, blocked, priority, {due} AS due
    FROM aftercommit_job {index}
    WHERE line = %s AND priority = (
        SELECT MAX(priority) FROM aftercommit_job {index} WHERE line = %s AND priority < %s
    )
    ORDER BY run_after, id LIMIT {limit}
) AS line{number}
"""
# Jumps from line to line.
RATE_LINES = """
WITH RECURSIVE found (line, number) AS (
    SELECT MIN(line), 1 FROM aftercommit_job {index} WHERE line > %s
    UNION ALL
    SELECT (
        SELECT MIN(job.line) FROM aftercommit_job AS job {index} WHERE job.line > found.line
    ), number + 1
    FROM found WHERE line IS NOT NULL AND number < {most}
)
SELECT line, (
    SELECT task_path FROM aftercommit_job AS job {index} WHERE job.line = found.line LIMIT 1
)
FROM found WHERE line IS NOT NULL
"""
LockKeys = Any  # see limits.claims


class InLine(NamedTuple):
    """A job that waits for its rate."""

    job_id: UUID
    queue: str
    place: tuple[Any, ...]  # smaller is first


class RateLines(RateKeys):
    """Lets jobs through that may start, or are to be decided about anew."""

    lines_of_rates_index = ""
    rate_lines_sql = RATE_LINES
    due_column = "run_after"

    @abstractmethod
    def _rows(self, sql: str, given: Sequence[Any]) -> list[Any]:
        """Return the rows of a statement with ``%s`` placeholders."""

    @abstractmethod
    def _with_keys(self) -> AbstractContextManager[LockKeys]:
        """Begin a short transaction; yield what locks keys until its end, and never waits."""

    def rate_lines(self, *, after: str = "", most: int) -> list[tuple[str, str]]:
        """Return the first rate keys behind ``after`` with a line, and the path of their task."""
        sql = self.rate_lines_sql.format(index=self.lines_of_rates_index, most=most)
        return [(key, path) for key, path in self._rows(sql, [after or RATE_LINE])]

    def let_start(
        self, rates: Mapping[str, Rate | None]
    ) -> tuple[int, dict[str, timedelta | None]]:
        """Let the first jobs in the lines of these keys through, as many as may start now.

        Of a key without a rate: all. Returns how many, and when to look at each key again; None:
        its line is empty. A key that is missing in the answer, or one of its jobs, was locked
        by somebody else.
        """
        passed, waits = 0, dict[str, timedelta | None]()
        keys = sorted(rates)
        for start in range(0, len(keys), MOST_KEYS):
            some = {key: rates[key] for key in keys[start : start + MOST_KEYS]}
            number, more = self._after_deadlock(partial(self._let_start, some))
            passed += number
            waits |= more
        return passed, waits

    def _let_start(
        self, rates: Mapping[str, Rate | None]
    ) -> tuple[int, dict[str, timedelta | None]]:
        with self._with_keys() as lock:
            held = lock(rates)
            if not held:
                return 0, {}
            with_rate = {key: rate for key in held if (rate := rates[key]) is not None}
            keys = self._keys_now(with_rate)
            numbers = {key: keys[key].allowed if key in keys else MOST_OF_KEY for key in held}
            # One at least, to see whether anybody waits.
            wanted = {key: min(max(one, 1), MOST_OF_KEY) for key, one in numbers.items()}
            lines = self._first_in_line(wanted)
            passing = {key: lines[key][: numbers[key]] for key in lines}
            passed = self._let_through([one for line in passing.values() for one in line])
            return len(passed), {
                key: self._next_look(keys.get(key), passing[key]) if key in lines else None
                for key in held
                if passed.issuperset(one.job_id for one in passing.get(key, ()))
            }

    def _next_look(self, key: KeyNow | None, passing: Sequence[InLine]) -> timedelta:
        # As if they had started: if they have not, nobody has had time for them.
        return NO_TIME if key is None else key.wait(starting=len(passing))

    def _first_in_line(self, numbers: Mapping[str, int]) -> dict[str, list[InLine]]:
        """Return the first jobs of these lines, so many of each."""
        found: dict[str, list[InLine]] = {}
        gone: list[UUID] = []
        below = dict.fromkeys(numbers, PRIORITIES)
        while below:
            rows = self._rows_in_line({key: numbers[key] for key in below}, below)
            read: dict[str, int] = {}
            for key, given_id, queue, state, blocked, priority, due in rows:
                job_id = id_from(given_id)
                read[key] = priority
                if state == State.READY and blocked == Blocked.RATE:
                    place = (-priority, due, job_id)
                    found.setdefault(key, []).append(InLine(job_id, queue, place))
                else:  # a program that does not know lines has changed it
                    gone.append(job_id)
            below = {
                key: priority
                for key, priority in read.items()
                if len(found.get(key, ())) < numbers[key]
            }
        if gone:
            self._take_out_of_line(gone)
        return {key: line[: numbers[key]] for key, line in found.items()}

    def _rows_in_line(self, numbers: Mapping[str, int], below: Mapping[str, int]) -> list[Any]:
        """Return the first jobs of the highest priority ``below`` one, so many of each key."""
        rows: list[Any] = []
        for keys in in_parts(list(numbers), LINES_TOGETHER):
            sql = " UNION ALL ".join(
                FIRST_IN_LINE.format(
                    index=self.lines_of_rates_index,
                    due=self.due_column,
                    limit=numbers[key],
                    number=number,
                )
                for number, key in enumerate(keys)
            )
            rows += self._rows(sql, [one for key in keys for one in (key, key, below[key])])
        return rows

    def _take_out_of_line(self, job_ids: Sequence[UUID]) -> None:
        rows = self._jobs.filter(id__in=job_ids).exclude(state=State.READY, blocked=Blocked.RATE)
        free = list(self._locked(rows, skip=True).values_list("id", flat=True))
        self._jobs.filter(id__in=free).update(line=None)

    def _let_through(self, jobs: Sequence[InLine]) -> set[UUID]:
        """Make these jobs claimable but for those whose rows others have locked; return them."""
        if not jobs:
            return set()
        queues = {one.job_id: one.queue for one in jobs}
        waiting = self._jobs.filter(id__in=queues, state=State.READY, blocked=Blocked.RATE)
        free = set(self._locked(waiting, skip=True).values_list("id", flat=True))
        # waits_for as well, by which the database may set "claimable": see migrations._flags.
        self._jobs.filter(id__in=free).update(
            claimable=True, waits_for=0, blocked=None, line=None
        )
        self._wake({queues[one] for one in free})
        return free

    def _park(self, job_ids: Sequence[UUID], key: str) -> None:
        """Put locked jobs into the line of their key."""
        self._jobs.filter(id__in=job_ids, state=State.READY).update(
            claimable=False, waits_for=1, blocked=Blocked.RATE, line=key
        )
