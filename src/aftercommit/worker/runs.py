"""What this process holds at the moment: claimed jobs on their way through it."""

import asyncio
import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from aftercommit.process import forks, forks_end_here
from aftercommit.values import Claim, RunResult

if TYPE_CHECKING:
    from aftercommit.worker.facts import TaskFacts
    from aftercommit.worker.running.executor import Executor

# Goes on while the machine is suspended, unlike time.monotonic() on Linux.
CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def now() -> float:
    """Return the seconds of a clock that only goes forward."""
    return time.monotonic() if CLOCK is None else time.clock_gettime(CLOCK)


class Owner(Protocol):
    """The part of a worker process to which a run belongs: it serves one database alias."""

    @property
    def executor(self) -> "Executor":
        """What runs the job."""

    def ended(self, run: "Run", result: RunResult) -> None:
        """Take the result of a body that is over; called by the thread that ran it."""


class Run:
    """One claimed job in this process, and the way to break it off."""

    # Attributes of the class until they change: thousands of runs are made at once.
    took: float | None = None  # seconds, once the body is over
    has_begun = False  # the body was called
    is_over = False  # its owner has been given the result
    deadline: float | None = None  # set when the body begins
    interrupted_at: float | None = None
    lost = False  # the claim belongs to someone else by now
    cancel_requested = False
    given_up = False  # its outcome is decided, whatever the body still does
    _thread_id: int | None = None  # of the body, while it runs
    _coroutine: asyncio.Task[Any] | None = None
    _why: type[BaseException] | None = None

    def __init__(
        self,
        claim: Claim,
        facts: "TaskFacts",
        owner: Owner,
        *,
        fresh_for: float,
        held_since: float,
    ) -> None:
        self.claim = claim
        self.facts = facts
        self.owner = owner
        self._fresh_for = fresh_for
        # renewed: when the lease was known to be good
        self.held_since = self.renewed_at = held_since
        self._lock = threading.Lock()

    def body(
        self,
        function: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: timedelta | None,
    ) -> Any:
        """Call the user's function; ``interrupt()`` reaches it only inside."""
        before = forks.count
        self._enter(timeout)
        try:
            return function(*args, **(kwargs or {}))
        finally:
            if forks.count != before:
                os._exit(0)  # as forks_end_here() does, which costs more than the rest of this
            self._leave()

    async def async_body(self, call: Callable[[], Any], *, timeout: timedelta | None) -> Any:
        """Await the user's coroutine; an interrupt raises its own exception here."""
        self._coroutine = asyncio.current_task()
        self._set_deadline(timeout)
        try:
            with forks_end_here():
                return await call()
        except asyncio.CancelledError:
            if self._why is None:
                raise
            raise self._why from None
        finally:
            self._coroutine = None

    def interrupt(self, why: type[BaseException]) -> None:
        """Raise ``why`` inside the body, once; nothing happens when it is over.

        A thread notices between two bytecodes: a call into C that does not return is
        not reached.
        """
        # With a limit: the body's thread may be interrupted while it holds the lock.
        if self.interrupted_at is not None or not self._lock.acquire(timeout=1):
            return
        try:
            self._interrupt(why)
        finally:
            self._lock.release()

    def _interrupt(self, why: type[BaseException]) -> None:
        if not self.in_body:
            return
        self._why = why
        self.interrupted_at = now()
        if self._coroutine is not None:
            self._coroutine.get_loop().call_soon_threadsafe(self._cancel)
        elif self._thread_id is not None:
            _raise_in_thread(self._thread_id, why)

    def _cancel(self) -> None:
        if self._coroutine is not None:  # else the body has ended since
            self._coroutine.cancel()

    def end(self, result: RunResult, *, took: float | None) -> None:
        """Hand the result to the owner, once; ``took``: seconds that the body ran, if it did."""
        if not self.is_over:
            self.is_over = True
            self.took = took
            self.owner.ended(self, result)

    @property
    def duration(self) -> timedelta | None:
        """How long the body ran; None if it did not begin, or is not over."""
        return None if self.took is None else timedelta(seconds=self.took)

    @property
    def stale(self) -> bool:
        """Whether the lease was last renewed so long ago that no effect should begin."""
        return now() - self.renewed_at > self._fresh_for

    @property
    def in_body(self) -> bool:
        """Whether the user's code is running."""
        return self._thread_id is not None or self._coroutine is not None

    def _enter(self, timeout: timedelta | None) -> None:
        self._set_deadline(timeout)
        with self._lock:
            self._thread_id = threading.get_ident()

    def _leave(self) -> None:
        with self._lock:
            self._thread_id = None
            if self.interrupted_at is not None:
                # Not yet delivered: it must not hit our own code.
                _raise_in_thread(threading.get_ident(), None)

    def _set_deadline(self, timeout: timedelta | None) -> None:
        self.has_begun = True
        self.deadline = None if timeout is None else now() + timeout.total_seconds()


class Runs:
    """The runs whose outcome is not in the table yet."""

    def __init__(self, *, lease: timedelta) -> None:
        self._fresh_for = lease.total_seconds() * 2 / 3
        self._lock = threading.Lock()
        self._runs: dict[int, Run] = {}  # by the number of the job's id: hashed faster than it

    def add(self, claim: Claim, facts: "TaskFacts", owner: Owner) -> Run:
        """Begin to hold a claim."""
        return self.add_all([(claim, facts)], owner)[0]

    def add_all(self, claims: Iterable[tuple[Claim, "TaskFacts"]], owner: Owner) -> list[Run]:
        """Begin to hold claims that were taken at once."""
        since = now()
        runs = [
            Run(claim, facts, owner, fresh_for=self._fresh_for, held_since=since)
            for claim, facts in claims
        ]
        with self._lock:
            for run in runs:
                self._runs[run.claim.job_id.int] = run
        return runs

    def remove(self, claim: Claim) -> None:
        """Hold it no longer; a later claim on the same job stays."""
        number = claim.job_id.int
        with self._lock:
            run = self._runs.get(number)
            if run is not None and run.claim.token == claim.token:
                del self._runs[number]

    def all(self) -> list[Run]:
        """Return what is held now."""
        with self._lock:
            return list(self._runs.values())

    def __len__(self) -> int:
        return len(self._runs)


def _raise_in_thread(thread_id: int, exception: type[BaseException] | None) -> None:
    argument = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), argument)
