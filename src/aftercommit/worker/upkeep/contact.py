"""Whether expired leases may be trusted: the process and the database have been steady."""

from datetime import datetime, timedelta

from aftercommit.worker.runs import now

LONGEST_STEP = timedelta(seconds=1)


class SteadyContact:
    """For how long this process has been in unbroken contact with a steady database.

    After an outage, a long lock or a jump of the clock, leases look expired although their
    workers are healthy: those workers could not renew them.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._last: tuple[datetime, float] | None = None

    def broken(self) -> None:
        """Start to measure again."""
        self._since = self._last = None

    def seen(self, *, database: datetime, began: float) -> None:
        """Note an answer of the database: its clock, and when the query was sent."""
        ended = now()
        slow = ended - began > LONGEST_STEP.total_seconds()
        if slow or (self._last is not None and self._jumped(database, ended)):
            self.broken()
        if self._since is None:
            self._since = ended
        self._last = (database, ended)

    @property
    def lasted(self) -> timedelta:
        """The span without trouble."""
        return timedelta(seconds=0 if self._since is None else now() - self._since)

    def _jumped(self, database: datetime, ended: float) -> bool:
        before, before_here = self._last or (database, ended)
        step = (database - before).total_seconds()
        return abs(step - (ended - before_here)) > LONGEST_STEP.total_seconds()
