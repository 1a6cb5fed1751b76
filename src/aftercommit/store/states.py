"""How many jobs are in each state: exactly where that is cheap, else by an estimate.

No index names the state, so that the end of a run writes none. Ready, failed and cancelled jobs
have indexes by other columns, and these are counted up to a limit. What is beyond it, and how
many have succeeded in a large table, is estimated from a sample.
"""

from collections import Counter
from typing import NamedTuple

from django.db.models import Count

from aftercommit.models import UNSUCCESSFUL, State
from aftercommit.store.criteria import STATES
from aftercommit.store.estimates import ESTIMATES, Estimate
from aftercommit.store.held_back import HeldBack
from aftercommit.store.measuring import Measuring

BY_STATE = "SELECT state, COUNT(*) FROM ({jobs}) AS counted GROUP BY state"


class Tally(NamedTuple):
    """How many jobs are in a state."""

    jobs: int
    is_estimate: bool = False


class States(Measuring, HeldBack):
    """Counts jobs by their state."""

    def states(self, *, most: int) -> dict[str, Tally]:
        """Return how many jobs are in each state; no count reads more than ``most`` rows."""
        if self._estimate.size() <= most:
            found = self._by_state()
            return {one: Tally(found[one]) for one in STATES}
        seen, beyond = self._seen(most)
        guessed = self._estimate.states()
        return {
            one: Tally(max(guessed[one], seen[one]), is_estimate=True)
            if one in beyond
            else Tally(seen[one])
            for one in STATES
        }

    def _by_state(self) -> Counter[str]:
        rows = self._jobs.values_list("state").annotate(number=Count("id")).order_by("state")
        return Counter(dict(rows))

    def _seen(self, most: int) -> tuple[Counter[str], set[str]]:
        """Return what indexes have, and the states of which there are more, or may be."""
        held = self.held_back("queue", most=most)
        ready = [*self.may_be_claimed(most=most), *(sum(some.values()) for some in held)]
        seen = self._unsuccessful(most)
        beyond = {str(State.SUCCEEDED)}
        if seen.total() == most:
            beyond.update(UNSUCCESSFUL)
        if max(ready) >= most:
            beyond.add(State.READY)
        seen[State.READY] = sum(ready)
        seen[State.RUNNING] = self._running().count()
        return seen, beyond

    def _unsuccessful(self, most: int) -> Counter[str]:
        """Count failed and cancelled jobs in the database: to read them would take far longer."""
        some = self._jobs.filter(unsuccessful=True).order_by("id").values("state")[:most]
        sql, given = some.query.get_compiler(using=self.alias).as_sql()
        return Counter(dict(self._read(BY_STATE.format(jobs=sql), given)))

    @property
    def _estimate(self) -> Estimate:
        return ESTIMATES[self.connection.vendor](self.connection)
