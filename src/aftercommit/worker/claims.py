"""Claims jobs for one database alias as long as the process has room for them."""

from collections.abc import Callable
from datetime import timedelta

from aftercommit.worker.assembly import Rooms
from aftercommit.worker.claiming.payloads import PayloadBudget
from aftercommit.worker.config import Served
from aftercommit.worker.process_wide import ProcessWide
from aftercommit.worker.runs import Owner, Run, now

UNTIL_RUNG = timedelta(seconds=5)
AT_ONCE = timedelta(0)
SETTLING = timedelta(milliseconds=100)  # until the next claim, while a worker looks dead


class Claims:
    """The way from a claim to the threads; ``step`` is repeated by a thread of its own.

    ``ring`` ends the wait for the next step, from any thread. ``release_unstarted`` takes
    the runs that come too late to be run here.
    """

    def __init__(
        self,
        served: Served,
        rooms: Rooms,
        process: ProcessWide,
        *,
        ring: Callable[[], None],
        release_unstarted: Callable[[list[Run]], None],
    ) -> None:
        # ``finished.count`` when a claim last found no job while nothing was running
        self.quiet_since = -1
        self._asking = False  # a claim is being made
        self._served = served
        self._rooms = rooms
        self._process = process
        self._ring = ring
        self._release_unstarted = release_unstarted
        self._payloads = PayloadBudget(process.threads)
        rooms.fetcher.bounds.of_process(threads=process.threads, runs=rooms.runs.all)
        rooms.fetcher.lines.is_told = lambda: rooms.presence.tells
        self._waits_for_bytes = False  # no claim before some results are written
        self._open = True

    def stop(self) -> None:
        """Claim no more jobs."""
        self._open = False

    def recorded(self, queue: str) -> None:
        """Note that the result of a run is written: its bytes and its place are free."""
        rated = self._rooms.fetcher.closed.rates
        if self._waits_for_bytes or queue in self._rooms.rules.queue_limits or queue in rated:
            self._ring()

    def step(self, owner: Owner) -> timedelta:
        """Claim once for ``owner``; return when to claim again."""
        rescuer = self._rooms.rescuer
        if not self._rooms.presence.announced:
            # Without presence, the death of this worker is noticed only when its leases end.
            return SETTLING
        at_rest = self.at_rest
        began = self._process.finished.count
        self._asking = True
        try:
            claims = self._claim(owner)
        finally:
            self._asking = False
        if claims is None:
            return UNTIL_RUNG
        if claims or self._rooms.fetcher.aside.has_more:
            return AT_ONCE
        if at_rest and self._rooms.rates.empty and rescuer.settled:
            self.quiet_since = began
        return self._rooms.fetcher.closed.next_look(
            otherwise=self._poll_interval if rescuer.settled else SETTLING
        )

    @property
    def at_rest(self) -> bool:
        """Whether nothing is claimed, running or waiting to be written."""
        rooms = self._rooms
        busy = self._asking or rooms.runs or not rooms.finisher.empty
        return not busy and rooms.passage.empty and rooms.rates.empty

    @property
    def _poll_interval(self) -> timedelta:
        return self._served.options.polls_every(woken=self._rooms.presence.tells)

    def _claim(self, owner: Owner) -> int | None:
        """Claim and submit as many jobs as there is capacity for; None if there is none."""
        process = self._process
        # A job with crashes may kill this process, and prefetched jobs would die with it.
        prefetch = 0 if self._served.crashed else process.prefetch.jobs
        free = 0
        if self._open:
            free = process.capacity.free(prefetch=prefetch, otherwise=self._ring)
            free = min(free, self._fitting(), process.per_process.left)
        allowed = process.quota.take(free)
        if not allowed:
            return None
        taken = 0
        asked_at = now()
        try:
            claims = self._rooms.fetcher.fetch(limit=allowed)
            taken = len(claims)
        finally:
            process.quota.give(allowed - taken)
        process.capacity.occupy(taken)
        process.per_process.claimed(taken)
        self._payloads.claimed([len(claim.payload) for claim, _facts in claims])
        runs = self._rooms.runs.add_all(claims, owner, asked_at=asked_at)
        if self._open:
            process.pool.submit(runs)
        else:
            self._release_unstarted(runs)
        return taken

    def _fitting(self) -> int:
        """Return how many jobs may be claimed by their size."""
        self._waits_for_bytes = True  # first: a result may be written meanwhile
        fitting = self._payloads.jobs([run.size for run in self._rooms.runs.all()])
        self._waits_for_bytes = not fitting
        return fitting
