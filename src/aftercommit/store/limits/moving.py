"""Moves jobs between the places of their line, under the lock of the key."""

from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

from django.db.models import BooleanField, ExpressionWrapper, Q

from aftercommit.models import Blocked, State
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.limits.lines import Line, Verdict, Waiting, decide
from aftercommit.store.limits.reading import IDS_TOGETHER, Lines, in_parts

DUE = ExpressionWrapper(Q(claimable=True, run_after__lte=DatabaseNow()), BooleanField())


class Moving(Lines):
    """Decides about keys that are locked, and writes what was decided about waiting jobs.

    The rows were read without a lock, and not everybody who writes them asks for the key: what
    a decision has relied on is compared again under the row's lock. Rows that others have
    locked are skipped.
    """

    def _decide(
        self, lines: Mapping[str, Line], candidates: Iterable[Waiting]
    ) -> dict[str, Verdict]:
        of_key: dict[str, list[Waiting]] = {key: [] for key in lines}
        for one in candidates:
            of_key[one.limit_key].append(one)
        # Who does not know the task cannot say for how many there is room.
        rooms = {key: line.room for key, line in lines.items() if line.known and line.room}
        parked = self._first_parked(rooms)
        return {
            key: decide(line, of_key[key], parked.get(key, [])) for key, line in lines.items()
        }

    def _settle(
        self, lines: Mapping[str, Line], verdicts: Mapping[str, Verdict], taken: Collection[UUID]
    ) -> tuple[int, int]:
        """Write what becomes of the jobs that wait; return how many were parked, and passed.

        ``taken``: those of the jobs that may run that were claimed.
        """
        self._keep_places(lines, verdicts, taken)
        parked = {one: key for key, verdict in verdicts.items() for one in verdict.parked}
        passing = {
            one.job_id: (key, one.queue)
            for key, verdict in verdicts.items()
            for one in verdict.let_through
        }
        set_aside = self._move(parked, to=Blocked.LIMIT) if parked else set()
        if not passing:
            return len(set_aside), 0
        passed = self._move(
            {one: key for one, (key, _queue) in passing.items()}, to=Blocked.PASSED, parked=True
        )
        self._wake({passing[one][1] for one in passed})
        return len(set_aside), len(passed)

    def _keep_places(
        self, lines: Mapping[str, Line], verdicts: Mapping[str, Verdict], taken: Collection[UUID]
    ) -> None:
        """See to it that nobody passes the first one of an ordered key that was not claimed now.

        It is marked as let through. If its row is locked, nobody behind it is parked: only of
        those that are parked one could pass before it is looked at again.
        """
        first = {
            one: key
            for key, verdict in verdicts.items()
            if lines[key].limit.ordered
            for one in verdict.may_run
            if one not in taken and one not in lines[key].passed
        }
        kept = self._move(first, to=Blocked.PASSED) if first else set()
        for one in first.keys() - kept:
            verdicts[first[one]].parked.clear()

    def _move(
        self, jobs: Mapping[UUID, str], *, to: Blocked, parked: bool = False
    ) -> Collection[UUID]:
        """Move jobs of these keys, which are due or ``parked``; return those that were moved."""
        free = self._free_rows(jobs, parked=parked)
        claimable = to != Blocked.LIMIT
        for some in in_parts(free, IDS_TOGETHER):
            # waits_for as well, by which the database may set "claimable": see migrations._flags.
            self._jobs.filter(id__in=some, state=State.READY).update(
                claimable=claimable, waits_for=int(not claimable), blocked=to
            )
        return free

    def _free_rows(self, jobs: Mapping[UUID, str], *, parked: bool = False) -> list[UUID]:
        """Lock the rows of jobs that have these keys still, and are due or ``parked``."""
        found: list[tuple[UUID, str, int | None, bool]] = []
        for some in in_parts(list(jobs), IDS_TOGETHER):
            rows = self._locked(self._jobs.filter(id__in=some, state=State.READY), skip=True)
            found += rows.values_list("id", "limit_key", "blocked", DUE)
        return [
            job_id
            for job_id, key, blocked, due in found
            if key == jobs[job_id] and (blocked == Blocked.LIMIT if parked else due)
        ]
