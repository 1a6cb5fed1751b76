"""Jobs that have waited for others and are retried by hand: they wait again."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from django.db.models import Q

from aftercommit.models import LIVE, UNSUCCESSFUL, Blocked, State
from aftercommit.store.graphs.edges import parts
from aftercommit.store.graphs.freeing import Freeing
from aftercommit.values import RUN


class Again(Freeing):
    """Lets jobs wait again, if what they need may still succeed."""

    def _unmet(self, job_ids: Sequence[UUID], *, among: Q) -> set[UUID]:
        """Return those of these jobs that would end at once if all of these were retried.

        They need a job that has failed, was cancelled or is gone, and is not retried as well.
        """
        needs: defaultdict[UUID, set[UUID]] = defaultdict(set)
        for some in parts(job_ids):
            edges = self._edges.filter(job_id__in=some).exclude(on_failure=RUN)
            unmet = edges.exclude(outcome=State.SUCCEEDED)
            for job_id, needs_id in unmet.values_list("job_id", "needs_id"):
                needs[job_id].add(needs_id)
        if not needs:
            return set()
        retried = self._with_states(job_ids, UNSUCCESSFUL, among)
        needed = {one for some in needs.values() for one in some}
        good = self._with_states(sorted(needed - retried), (*LIVE, State.SUCCEEDED), Q())
        return _led_to(needed - retried - good, needs) & retried

    def _with_states(
        self, job_ids: Sequence[UUID], states: Collection[str], among: Q
    ) -> set[UUID]:
        found: set[UUID] = set()
        for some in parts(job_ids):
            rows = self._jobs.filter(among, id__in=some, state__in=states)
            found.update(rows.values_list("id", flat=True))
        return found

    def _wait_again(self, job_ids: Collection[UUID]) -> set[UUID]:
        """Let jobs wait again that were made ready by hand, for what they have waited for.

        Returns those that wait, see ``_meet_again``: until then it does not matter how that has
        ended. Results that they have got already count. A job that was freed before has no edges
        left.
        """
        edges = self._edges.filter(job_id__in=job_ids)
        waits = set(edges.values_list("job_id", flat=True).distinct())
        if waits:
            ready = self._jobs.filter(id__in=waits, state=State.READY)
            ready.update(claimable=False, waits_for=1, blocked=Blocked.JOBS)
            edges.exclude(outcome=State.SUCCEEDED).update(outcome=None, result=None)
        return waits

    def _meet_again(self, job_ids: Sequence[UUID]) -> None:
        """Free jobs that wait again, or end them, by how what they need has ended.

        If nobody comes to this, the sweep does it.
        """
        with self._write():
            edges = self._open.filter(job_id__in=job_ids)
            needs = set(edges.values_list("needs_id", flat=True))
            live = self._jobs.filter(id__in=needs, state__in=LIVE)
            self._pass_on(needs.difference(live.values_list("id", flat=True)))
            self._pass_on(self._free_complete(job_ids))


def _led_to(bad: Iterable[UUID], needs: Mapping[UUID, Collection[UUID]]) -> set[UUID]:
    """Return the jobs that need one of these, or one that needs one, and so on."""
    needed_by: defaultdict[UUID, list[UUID]] = defaultdict(list)
    for job_id, some in needs.items():
        for one in some:
            needed_by[one].append(job_id)
    found: set[UUID] = set()
    left = list(bad)
    while left:
        new = set(needed_by[left.pop()]) - found
        found |= new
        left += new
    return found
