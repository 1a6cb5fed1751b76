"""Claims jobs for one database alias as long as the process has room for them."""

from collections.abc import Callable, Set
from datetime import timedelta
from math import ceil

from aftercommit.worker.assembly import Rooms
from aftercommit.worker.claiming.payloads import PayloadBudget
from aftercommit.worker.config import Served
from aftercommit.worker.process_wide import ProcessWide
from aftercommit.worker.runs import Owner, Run, now

UNTIL_RUNG = timedelta(seconds=5)
AT_ONCE = timedelta(0)
SLOTS_USED_UP = timedelta(milliseconds=20)  # until the next claim; others may have all slots
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
        self._waits_for_slots = False  # the same: jobs in front are under limits
        self._open = True

    def stop(self) -> None:
        """Claim no more jobs."""
        self._open = False

    def recorded(self, queues: Set[str]) -> None:
        """Note that results of runs are written: their bytes and their places are free."""
        rules = self._rooms.rules
        waits = self._waits_for_bytes or self._waits_for_slots
        bounded = rules.queue_limits.keys() | rules.rates.of_queues.keys()
        if waits or queues & bounded:
            self._ring()

    def step(self, owner: Owner) -> timedelta:
        """Claim once for ``owner``; return when to claim again."""
        rescuer = self._rooms.rescuer
        if not self._rooms.presence.announced:
            # Without presence, the death of this worker is noticed only when its leases end.
            return SETTLING
        at_rest = self.at_rest
        began = self._process.finished.count
        locked_met = self._rooms.rates.locked_met
        self._asking = True
        try:
            claims = self._claim(owner)
        finally:
            self._asking = False
        if claims is None:
            return UNTIL_RUNG
        self._waits_for_slots = self._rooms.fetcher.bounds.short_of_slots  # before the next look
        if self._waits_for_slots:
            if not claims:
                return SLOTS_USED_UP
            return AT_ONCE if self._process.finished.count != began else UNTIL_RUNG
        if claims or self._rooms.fetcher.aside.has_more:
            return AT_ONCE
        rates = self._rooms.rates
        # A claim that has met a locked key has not seen all jobs, also if it was slow and the
        # next one is due by now.
        saw_all = rates.empty and rates.locked_met == locked_met
        if at_rest and saw_all and rescuer.settled:
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
        free: float = 0
        if self._open:
            free = process.capacity.free(prefetch=prefetch, otherwise=self._ring)
        allowed = process.quota.take(self._wanted(free))
        if not allowed:
            return None
        taken = 0
        asked_at = now()
        try:
            claims = self._rooms.fetcher.fetch(limit=free, most=allowed)
            taken = len(claims)
        finally:
            process.quota.give(allowed - taken)
        process.per_process.claimed(taken)
        self._rooms.statistics.claimed([claim.queue for claim, _facts in claims])
        self._payloads.claimed([len(claim.payload) for claim, _facts in claims])
        self._submit(self._rooms.runs.add_all(claims, owner, asked_at=asked_at))
        return taken

    def _wanted(self, free: float) -> int:
        """Return how many jobs to claim for so many threads: more if they are of batches."""
        batches, process = self._rooms.fetcher.batches, self._process
        wanted = min(ceil(free * batches.largest), self._fitting(), process.per_process.left)
        most = batches.most(threads=process.threads, held=len(self._rooms.runs))
        return wanted if most is None else min(wanted, most)

    def _submit(self, runs: list[Run]) -> None:
        if self._served.crashed:
            for run in runs:
                run.weight = 1  # also of a batch: it runs alone
        self._process.capacity.occupy(sum([run.weight for run in runs]))
        if self._open:
            self._process.pool.submit(runs)
        else:
            self._release_unstarted(runs)

    def _fitting(self) -> int:
        """Return how many jobs may be claimed by their size."""
        self._waits_for_bytes = True  # first: a result may be written meanwhile
        fitting = self._payloads.jobs([run.size for run in self._rooms.runs.all()])
        self._waits_for_bytes = not fitting
        return fitting
