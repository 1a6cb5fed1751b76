"""One run of the body under one schedule: runs its tasks when the plan says so."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django.db import OperationalError

from aftercommit.errors import ConfigurationError
from aftercommit.reproduce.dispatches import Dispatch, Ran, call_text, error_text, places
from aftercommit.reproduce.own_thread import FREED, OwnThread
from aftercommit.reproduce.schedules import Plan, Schedule

BODY, WORKER = "body", "worker"
MOST_REPEATS = 5  # runs of a task that dispatches itself again, such as a recurring job
MOST_RUNS = 1000  # in one play
# What the body does carries it, also through async_to_sync() and sync_to_async(); a worker's
# thread does not.
_playing: ContextVar[object] = ContextVar("aftercommit_reproduce_playing", default=None)
# Names of the tasks that led to what a worker's thread does.
_lineage: ContextVar[tuple[str, ...]] = ContextVar("aftercommit_reproduce_lineage", default=())


class ProcessDied(BaseException):
    """The process ends here; no code of the project handles it."""


class CommitFailed(OperationalError):
    """The database refused a COMMIT, as it does after a conflict or a lost connection."""


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the drawing."""

    lane: str
    text: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """A job that a queue in a database has run."""

    id: str
    name: str
    call: str
    error: str | None


Drain = Callable[[], Sequence[Stored]]  # runs the jobs that are due and visible


class Play:
    """What happens in one run, and what has happened."""

    def __init__(self, plan: Plan, *, replicas: Mapping[str, Any]) -> None:
        self.plan = plan
        self.drains: Sequence[Drain] = ()
        self.events: list[Event] = []
        self.dispatches: list[Dispatch] = []
        self.ran: list[Ran] = []
        self.begun: dict[int, tuple[str, ...]] = {}  # where each transaction was opened
        self.callbacks: dict[int, int] = {}  # how many on_commit() had for each transaction
        self.is_dead = False
        self._is_over = False
        self._open: dict[str, int] = {}
        self._pending: deque[Dispatch] = deque()
        self._held: list[tuple[str, Dispatch]] = []  # by the alias that has to commit
        self._kept: dict[str, Dispatch] = {}
        self._keeping = ""
        self._blocked: list[tuple[OwnThread, Callable[[OwnThread], None]]] = []
        self._stored = False
        self._replicas = replicas
        self._body = object()
        _playing.set(self._body)
        self._threads = 0
        self._left_out = ""  # the first call that was one too many

    # What the libraries tell.

    def dispatch(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        run: Callable[[], Any] | None,
        id: str | None = None,
        held: str | None = None,
        kept: bool = False,
    ) -> None:
        """Take a task; run it now if the schedule says so. See ``libraries.Taker``."""
        if self.is_dead and self._in_body():  # the worker lives on
            return
        found = Dispatch(
            name=name,
            call=call_text(name, args, kwargs or {}),
            id=id or (self._keeping if kept else "") or str(uuid4()),
            run=run,
            where=places(),
            transaction=max(self._open.values(), default=None) if self._in_body() else None,
            after=len(self.begun),
            lineage=_lineage.get(),
        )
        self.dispatches.append(found)
        stored = kept or run is None
        text = f"store {found.call}" if stored else f"dispatch {found.call}"
        self._note(text, where=next(iter(found.where), ""))
        if stored:
            self._stored = True
            self._kept[found.id] = found
        elif held in self._open and self._in_body():
            self._held.append((str(held), found))
        else:
            self._pending.append(found)
        if self._in_body() and (self.plan.schedule is Schedule.EARLY or not self._open):
            self._work()

    def keep(self, id: str) -> None:
        """Note the id of a message that the relay keeps just now; see ``libraries.Taker``."""
        self._keeping = id

    def publish(self, id: str) -> None:
        """Take a task whose message the relay publishes now."""
        if id in self._kept:
            self._note(f"publish {self._kept[id].call}")
            self._pending.append(self._kept[id])

    # What the connections of the body tell.

    def begins(self, alias: str) -> None:
        """Count a transaction that begins. Raises ``ProcessDied`` if the body ends here."""
        number = len(self.begun) + 1
        if number == self.plan.stop_before:
            self._die()
        self.begun[number] = where = places()
        self._open[alias] = number
        self._note("BEGIN", where=next(iter(where), ""))

    def commits(self, alias: str) -> None:
        """Let a transaction commit. Raises ``CommitFailed`` if it must not."""
        if self.plan.schedule is Schedule.ROLLBACK and self._open.get(alias) == self.plan.at:
            self._note("COMMIT fails")
            raise CommitFailed("simulated: the database refused the COMMIT")

    def committed(self, alias: str, *, callbacks: int) -> None:
        """Note a commit, whose callbacks follow. Raises ``ProcessDied`` if the process ends."""
        number = self._open.pop(alias, None)
        if number is None:
            return
        self.callbacks[number] = callbacks
        self._note("COMMIT")
        self._pending += [one for held, one in self._held if held == alias]
        self._held = [one for one in self._held if one[0] != alias]
        if self.plan.schedule is Schedule.CRASH and number == self.plan.at:
            self._note("the process dies")
            self._die()

    def ended(self, alias: str) -> None:
        """Run what has waited: autocommit is on again, after callbacks or after a rollback."""
        if self._open.pop(alias, None) is not None:
            self._note("ROLLBACK")
            self._held = [one for one in self._held if one[0] != alias]
        if not self._open and not self.is_dead:
            self._blocked = [one for one in self._blocked if not self._has_ended(*one)]
            self._work()

    def finish(self) -> None:
        """Run what is left after the body's end, and what its locks have held up."""
        self._open.clear()
        self._is_over = True
        for thread, report in self._blocked:
            thread.wait_for_the_end()
            report(thread)
        self._work()
        if self._left_out:
            raise ConfigurationError(
                f"More than {MOST_RUNS:,} runs were dispatched by the code under test and its "
                f"tasks; {self._left_out} was to be the next.\n"
                "Tasks may dispatch each other without end.\n"
                "Fix: let the test dispatch fewer, or replace a task that goes on by itself."
            )

    # The worker.

    def _work(self) -> None:
        """Run what is pending."""
        times = 2 if self.plan.schedule is Schedule.TWICE else 1
        looked = False
        while self._pending or self._stored:
            if self._pending:
                self._run(self._pending.popleft(), times)
                continue
            self._stored, looked = False, True
            for drain in self.drains:
                for _each in range(times):
                    self._start(drain, self._drained)
        self._stored = looked and bool(self._open)  # what is stored may not be visible yet

    def _run(self, dispatch: Dispatch, times: int) -> None:
        if dispatch.lineage.count(dispatch.name) >= MOST_REPEATS:
            self._note(f"not run again: {dispatch.call}, which dispatches itself", lane=WORKER)
            return

        if self._threads + times > MOST_RUNS:
            self._left_out = self._left_out or dispatch.call
            return

        def call() -> None:
            _lineage.set((*dispatch.lineage, dispatch.name))
            assert dispatch.run is not None  # noqa: S101
            dispatch.run()

        def report(thread: OwnThread) -> None:
            error = None if thread.error is None else error_text(thread.error)
            self._ran(dispatch.name, dispatch.call, error, dispatch.transaction)

        for _each in range(times):
            self._start(call, report)

    def _start(self, call: Callable[[], Any], report: Callable[[OwnThread], None]) -> None:
        self._threads += 1
        thread = OwnThread(call, replicas=self._replicas, number=self._threads)
        thread.start()
        if thread.wait():
            report(thread)
        elif self._is_over:
            thread.wait_for_the_end()
            report(thread)
        elif self._open or not self._has_ended(thread, report):
            self._note("waits for a lock of the code", lane=WORKER)
            self._blocked.append((thread, report))

    def _has_ended(self, thread: OwnThread, report: Callable[[OwnThread], None]) -> bool:
        """Tell whether a run ends now that no transaction is open; report it then.

        If it does not, the code has another lock: of its session, say.
        """
        if not thread.wait(FREED):
            return False
        report(thread)
        return True

    def _drained(self, thread: OwnThread) -> None:
        if thread.error is not None:
            raise thread.error
        by_id = {one.id: one for one in self.dispatches}
        for stored in thread.value:
            known = by_id.get(stored.id)
            transaction = known.transaction if known else None
            self._ran(stored.name, stored.call, stored.error, transaction)

    def _ran(self, name: str, call: str, error: str | None, transaction: int | None) -> None:
        self.ran.append(Ran(name=name, call=call, error=error, transaction=transaction))
        self._note(f"run {call}: {error or 'ok'}", lane=WORKER)

    def _in_body(self) -> bool:
        return _playing.get() is self._body

    def _note(self, text: str, *, where: str = "", lane: str | None = None) -> None:
        lane = lane or (BODY if self._in_body() else WORKER)
        self.events.append(Event(lane, text, where))

    def _die(self) -> None:
        self.is_dead = True
        raise ProcessDied
