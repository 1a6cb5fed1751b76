"""One worker process, from its first claim to its last outcome."""

import logging
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

from aftercommit.conf import WorkerConfig
from aftercommit.process import Bell
from aftercommit.worker.ahead import Ahead
from aftercommit.worker.backlog import Order
from aftercommit.worker.board import Board
from aftercommit.worker.overseer import Overseer
from aftercommit.worker.pool import Pool
from aftercommit.worker.rounds import Rounds
from aftercommit.worker.runs import Run, now
from aftercommit.worker.setup import served
from aftercommit.worker.slots import Ends, Slots, Tickets
from aftercommit.worker.station import Station

logger = logging.getLogger("aftercommit")

LOOK_EVERY = timedelta(milliseconds=250)
LOOK_OFTEN = timedelta(milliseconds=20)  # somebody waits for the end of a drain
PATIENCE = timedelta(milliseconds=250)  # of a job that waits here for a thread
LAST_WRITES = timedelta(seconds=5)  # for outcomes, when everything else has ended
REPLACE_ME = 75  # exit status; EX_TEMPFAIL of sysexits.h
TO_JOIN = timedelta(seconds=2)


class Worker:
    """Serves every database alias of its backends until it is told to stop.

    The rooms work in threads of their own; this one waits for the end. Stopping is:
    claim nothing more, give back what has not begun, let the rest finish within
    ``grace``, release what is left without spending an attempt.
    """

    def __init__(
        self, config: WorkerConfig, *, tickets: Tickets, board: Board | None = None
    ) -> None:
        self._config = config
        self._tickets = tickets
        self._bell = Bell()
        self._stopping = False
        self._hurry = False
        self._stuck: list[Run] = []  # timed out, and their threads do not notice
        self._stuck_until = 0.0  # then the others are given back, too
        self._slots = Slots(config.threads)
        self._pool = Pool(config.threads, board=board)
        self._ahead = Ahead(config.threads)
        self._ends = Ends()
        self._worker_id = uuid4()
        if board is not None:
            board.sign(self._worker_id)
        self._stations = [
            Station(
                one,
                worker_id=self._worker_id,
                slots=self._slots,
                tickets=tickets,
                pool=self._pool,
                ends=self._ends,
                ahead=self._ahead,
            )
            for one in served(config)
        ]
        if config.drain:
            self._ends.listeners += [station.ring for station in self._stations]
        self._overseer = Rounds(
            "overseer",
            Overseer([station.runs for station in self._stations], give_up=self._give_up).step,
        )

    def run(self, *, every: Callable[["Worker"], None] | None = None) -> int:
        """Work until ``stop()``, or until a drain or ``max_jobs`` is through.

        ``every`` is called a few times a second, to report progress. Returns the exit
        status: ``REPLACE_ME`` if a thread is lost to a task that does not end.
        """
        self._pool.start()
        self._overseer.start()
        for station in self._stations:
            station.start()
        while not self._stopping and not self._through:
            self._bell.wait(LOOK_OFTEN if self._config.drain else LOOK_EVERY)
            if waiting := self._pool.unstarted(held_for=PATIENCE):
                self._ahead.measure_anew()
                self._hand_back(waiting)
            self._pool.look_again()
            if every is not None:
                every(self)
        self._shut_down()
        return REPLACE_ME if self._stuck and not self._stopping else 0

    def stop(self) -> None:
        """Stop in good order; may be called from a signal handler."""
        self._stopping = True
        self._bell.ring()

    def stop_now(self) -> None:
        """Give everything back at once, whatever is running."""
        self._hurry = True
        self.stop()

    @property
    def done(self) -> int:
        """Runs recorded so far, without those that were given back."""
        return sum(station.done for station in self._stations)

    @property
    def running(self) -> int:
        """Jobs held at the moment."""
        return sum(len(station.runs) for station in self._stations)

    @property
    def _through(self) -> bool:
        if self._stuck and (not self._in_hand() or now() > self._stuck_until):
            return True  # the supervisor starts a process with all its threads
        if self._tickets.used_up and self._at_rest:
            return True
        count = self._ends.count
        return self._config.drain and all(
            station.quiet_since == count for station in self._stations
        )

    @property
    def _at_rest(self) -> bool:
        return all(station.at_rest for station in self._stations)

    def _in_hand(self) -> list[Run]:
        return [run for station in self._stations for run in station.runs.all()]

    def _give_up(self, run: Run) -> None:
        logger.error(
            "Job %s (%s) ran out of time and does not react; this process is replaced "
            "when its other jobs have ended",
            run.claim.job_id,
            run.claim.task_path,
        )
        if not self._stuck:
            self._stuck_until = now() + self._config.grace.total_seconds()
        self._stuck.append(run)
        for station in self._stations:
            if run in station.runs.all():
                station.give_up(run)
            station.stop_fetching()

    def _shut_down(self) -> None:
        for station in self._stations:
            station.stop_fetching()
        self._hand_back(self._pool.unstarted())
        self._wait(lambda: self._hurry or self._at_rest, limit=self._config.grace)
        self._release([run for run in self._in_hand() if not run.given_up])
        self._wait(lambda: self._at_rest, limit=LAST_WRITES)
        for station in self._stations:
            station.stop(TO_JOIN)
        self._overseer.stop()
        if not self._hurry and self._slots.all_free:
            self._pool.stop(TO_JOIN)

    def _hand_back(self, orders: list[Order]) -> None:
        for station in self._stations:
            station.hand_back([one.run for one in orders if one.executor is station.executor])

    def _release(self, runs: list[Run]) -> None:
        for station in self._stations:
            mine = [run for run in runs if run in station.runs.all()]
            if mine:
                station.give_back(mine)

    def _wait(self, over: Callable[[], bool], *, limit: timedelta) -> None:
        end = now() + limit.total_seconds()
        while not over() and now() < end:
            self._bell.wait(timedelta(milliseconds=20))
