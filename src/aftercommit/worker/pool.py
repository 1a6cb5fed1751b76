"""The threads that run tasks, and the one event loop for async tasks."""

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import connections

from aftercommit.values import NO_TIME, Ran, Released
from aftercommit.worker.backlog import LANES, Backlog, Order, Turn
from aftercommit.worker.board import Board
from aftercommit.worker.runs import Run, now
from aftercommit.worker.session import Session

logger = logging.getLogger("aftercommit")


class Pool:
    """Runs what it is given, ``threads`` at once; sync tasks in threads, async ones in a loop."""

    def __init__(self, threads: int, *, board: Board | None = None) -> None:
        self._size = threads
        self._board = board or Board(bytearray(Board.size(threads)))
        self._backlog = Backlog(lanes=min(LANES, threads))
        self._running = 0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._threads = [
            threading.Thread(target=self._work, name=f"aftercommit-task-{number}", daemon=True)
            for number in range(threads)
        ]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_lock = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Start the threads; the event loop starts with the first async task."""
        for thread in self._threads:
            thread.start()

    def submit(self, orders: Sequence[Order]) -> None:
        """Run them, in order; ``ended`` is called from whatever thread each ends in."""
        with self._lock:
            self._backlog.add(orders)
            self._changed.notify(len(orders))

    @property
    def at_once(self) -> int:
        """How many runs, or turns of several in one transaction, are going on."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many runs no thread has begun."""
        return len(self._backlog)

    def unstarted(self, *, held_for: timedelta = NO_TIME) -> list[Order]:
        """Take back what no thread has begun, if the first has been held for so long."""
        with self._lock:
            oldest = self._backlog.oldest
            since = now() if oldest is None else oldest.run.held_since
            return self._backlog.clear() if now() - since >= held_for.total_seconds() else []

    def look_again(self) -> None:
        """Wake the threads: a shared transaction may take so long that others need not wait."""
        with self._lock:
            if self._backlog:
                self._changed.notify_all()

    def stop(self, limit: timedelta) -> None:
        """End the threads that have nothing to do; those stuck in a task are left."""
        with self._lock:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(limit.total_seconds() / len(self._threads))
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _work(self) -> None:
        session = Session()
        turn = self._next(session)
        while turn is not None:
            order = turn.orders[0]
            if is_async := self._is_async(order):
                asyncio.run_coroutine_threadsafe(self._await(order), self._event_loop())
            elif len(turn.orders) > 1:
                self._run_together(turn.orders, session)
            else:
                self._run(order, session)
            turn = self._next(session, after=None if is_async else turn)
        connections.close_all()

    def _is_async(self, order: Order) -> bool:
        try:
            return order.executor.is_async(order.run)
        except Exception:
            return False  # running it will tell why it cannot be run

    def _run(self, order: Order, session: Session) -> None:
        run, executor, ended, _together = order
        place = self._board.enter(run.claim.job_id)
        began = now()
        session.prepare()
        ran = executor.run(run)
        try:
            session.tidy()
        except Exception:  # nobody reads what this thread raises
            logger.exception("Job %s left a connection that cannot be closed", run.claim.job_id)
        self._board.leave(place)
        ended(run, ran, now() - began)

    def _run_together(self, orders: list[Order], session: Session) -> None:
        began = now()
        session.prepare()
        together: Any = orders[0].together
        ends = together.run([order.run for order in orders], self._at_work)
        with self._lock:
            self._backlog.put_back(orders[len(ends) :])
        session.tidy()
        # What one thread of all would need to be as fast as the few that may do this.
        seconds = (now() - began) / len(ends) * self._size / self._backlog.lanes
        for order, (run, ran) in zip(orders, ends, strict=False):
            order.ended(run, ran, seconds)

    @contextmanager
    def _at_work(self, runs: Sequence[Run]) -> Iterator[None]:
        """Show on the board whose work it is."""
        places = [self._board.enter(run.claim.job_id) for run in runs]
        try:
            yield
        finally:
            for place in places:
                self._board.leave(place)

    def _next(self, session: Session, *, after: Turn | None = None) -> Turn | None:
        with self._lock:
            if after is not None:
                self._running -= 1
                self._backlog.over(after)
            if (turn := self._take()) is not None:
                return turn
        session.rest()
        with self._lock:
            while (turn := self._take()) is None and not self._stopped:
                self._changed.wait()
            return turn

    def _take(self) -> Turn | None:
        if self._running >= self._size or self._stopped:
            return None
        turn = self._backlog.take()
        self._running += turn is not None
        return turn

    def _left(self) -> None:
        with self._lock:
            self._running -= 1
            self._changed.notify()

    async def _await(self, order: Order) -> None:
        run, executor, ended, _together = order
        ran = Ran(outcome=Released())
        place = self._board.enter(run.claim.job_id)
        began = now()
        try:
            ran = await executor.arun(run)
        finally:
            self._board.leave(place)
            self._left()
            ended(run, ran, now() - began)  # whatever happens: nobody reads what this raises

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        with self._loop_lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._run_loop,
                    args=[self._loop],
                    name="aftercommit-asyncio",
                    daemon=True,
                ).start()
        return self._loop

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopped:
            try:
                loop.run_forever()
            except BaseException:
                # A child task of a task raised SystemExit; the others must go on.
                logger.exception("The event loop of async tasks was left, and goes on")
        loop.close()
