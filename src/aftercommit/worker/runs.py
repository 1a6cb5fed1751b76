"""The runs of this process: jobs that it has claimed and whose outcome is not written yet."""

import asyncio
import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import Context
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from aftercommit.enqueue.outcomes import Cancel
from aftercommit.errors import ClaimLost, TimedOut
from aftercommit.process import forks, forks_end_here
from aftercommit.values import Claim, RunResult
from aftercommit.worker.frames import clear_frames

if TYPE_CHECKING:
    from aftercommit.worker.facts import TaskFacts
    from aftercommit.worker.leases import Leases
    from aftercommit.worker.running.executor import Executor

# This clock goes on while the machine is suspended; time.monotonic() on Linux does not.
CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def now() -> float:
    """Return the seconds of a clock that is never set back."""
    return time.monotonic() if CLOCK is None else time.clock_gettime(CLOCK)


class Owner(Protocol):
    """The part of a worker process to which a run belongs: it serves one database alias."""

    @property
    def executor(self) -> "Executor":
        """The executor that runs the job."""

    def in_one_thread(self, number: int) -> AbstractContextManager[None]:
        """Count jobs that run together in one thread as one job, during the block."""

    def ended(self, run: "Run", result: RunResult) -> None:
        """Accept the result of a run; called in the thread that ran it."""


class Run:
    """One claimed job in this process, and the means to interrupt it."""

    # Defaults are class attributes, which costs less: thousands of runs are made at once.
    took: float | None = None  # seconds, once the body is over
    has_begun = False  # the body was called
    is_over = False  # ``end`` was called
    deadline: float | None = None  # set when the body begins
    interrupted_at: float | None = None
    lost = False  # the claim has ended, so another worker may run the job
    cancel_requested = False
    in_company = False  # other runs are in the same call: what ends it would end them as well
    kept = 0  # characters of a result that waits to be written
    given_up = False  # the outcome is decided; the body's result is ignored
    context: Context | None = None  # of task_started and the body; None: it has not begun
    _thread_id: int | None = None  # of the body, while it runs
    _coroutine: asyncio.Task[Any] | None = None
    _why: type[BaseException] | None = None
    _raised = False  # the body has raised it itself, at a checkpoint

    def __init__(
        self,
        claim: Claim,
        facts: "TaskFacts",
        owner: Owner,
        *,
        fresh_for: float,
        held_since: float,
        renewed_at: float,
    ) -> None:
        self.claim = claim
        self.facts = facts
        self.owner = owner
        self._fresh_for = fresh_for
        self.held_since = held_since
        self.renewed_at = renewed_at  # when the lease was last known to be good
        self._lock = threading.Lock()

    def body(
        self,
        function: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        timeout: timedelta | None,
    ) -> Any:
        """Call the user's function; ``interrupt()`` has an effect only during this call."""
        before = forks.count
        try:
            self._enter(timeout)
            try:
                if self.cancel_requested and not self.in_company:
                    raise Cancel
                return function(*args, **(kwargs or {}))
            finally:
                if forks.count != before:
                    os._exit(0)  # as forks_end_here() does, without its cost for each run
                self._leave()
        except BaseException as error:
            clear_frames(error)  # before the transaction is rolled back: it may be used
            raise

    async def async_body(self, call: Callable[[], Any], *, timeout: timedelta | None) -> Any:
        """Await the user's coroutine; an interrupt raises the exception that it was given."""
        self._coroutine = asyncio.current_task()
        self._set_deadline(timeout)
        try:
            if self.cancel_requested:
                raise Cancel
            with forks_end_here():
                return await call()
        except asyncio.CancelledError:
            if self._why is None:
                raise
            raise self._why from None
        finally:
            self._coroutine = None

    def interrupt(self, why: type[BaseException]) -> None:
        """Raise ``why`` inside the body, once; do nothing if the body is not running.

        Python raises it in the body's thread between two bytecodes: a call into C that
        does not return is not interrupted. After a ``Cancel``, which a body may swallow,
        there can be another one for another reason.
        """
        # With a limit: an exception may hit the body's thread while it holds the lock.
        if not self._may_follow(why) or not self._lock.acquire(timeout=1):
            return
        try:
            self._interrupt(why)
        finally:
            self._lock.release()

    def ask_to_stop(self) -> None:
        """Raise ``Cancel`` in the body, or as soon as it begins; others in its call go on."""
        self.cancel_requested = True  # first: a body that begins meanwhile looks at it
        if not self.in_company:
            self.interrupt(Cancel)

    def checkpoint(self) -> None:
        """Raise in the body that calls this what it is to end with, each time it is called."""
        why: type[BaseException]
        if self.lost:
            why = ClaimLost
        elif self.cancel_requested:
            why = Cancel
        elif self.deadline is not None and now() >= self.deadline:
            why = TimedOut
        else:
            return
        with self._lock:
            # The body hears of it now: an interrupt would only disturb its last steps.
            self._why, self._raised = why, True
            self.interrupted_at = self.interrupted_at or now()
            if self._thread_id == threading.get_ident():
                _raise_in_thread(self._thread_id, None)
        raise why

    def _may_follow(self, why: type[BaseException]) -> bool:
        return self._why is None or (self._why is Cancel and why is not Cancel)

    def _interrupt(self, why: type[BaseException]) -> None:
        if not self.in_body or not self._may_follow(why):
            return
        self._why, self._raised = why, False
        self.interrupted_at = now()
        if self._coroutine is not None:
            self._coroutine.get_loop().call_soon_threadsafe(self._cancel)
        elif self._thread_id is not None:
            _raise_in_thread(self._thread_id, why)

    def _cancel(self) -> None:
        # Else the body has ended in the meantime, or has heard of it at a checkpoint.
        if self._coroutine is not None and not self._raised:
            self._coroutine.cancel()

    def end(self, result: RunResult, *, took: float | None) -> None:
        """Pass the result to the owner, once; ``took``: seconds of the body, if it began."""
        if not self.is_over:
            self.is_over = True
            self.took = took
            self.owner.ended(self, result)

    @property
    def duration(self) -> timedelta | None:
        """How long the body ran; None if it did not begin, or is not over."""
        return None if self.took is None else timedelta(seconds=self.took)

    @property
    def size(self) -> int:
        """How many bytes its arguments, earlier errors and result take; they are ASCII."""
        return len(self.claim.payload) + len(self.claim.errors) + self.kept

    @property
    def stale(self) -> bool:
        """Whether the last renewal is so long ago that the body must not begin any more."""
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
                # An interrupt that is not raised yet must not hit the worker's own code.
                _raise_in_thread(threading.get_ident(), None)

    def _set_deadline(self, timeout: timedelta | None) -> None:
        self.has_begun = True
        self.deadline = None if timeout is None else now() + timeout.total_seconds()


class Runs:
    """The runs whose outcome is not in the table yet."""

    def __init__(self, leases: "Leases", *, lease: timedelta) -> None:
        self._leases = leases
        self._fresh_for = lease.total_seconds() * 2 / 3
        self._lock = threading.Lock()
        # By the job's id as an int, which is hashed faster than a UUID.
        self._runs: dict[int, Run] = {}

    def add(self, claim: Claim, facts: "TaskFacts", owner: Owner) -> Run:
        """Create the run of a claim; it stays here until ``remove``."""
        return self.add_all([(claim, facts)], owner)[0]

    def add_all(
        self,
        claims: Iterable[tuple[Claim, "TaskFacts"]],
        owner: Owner,
        *,
        asked_at: float | None = None,
    ) -> list[Run]:
        """Create the runs of claims that were made at the same time.

        ``asked_at``: when the claim was sent; the leases are known to be good from then on.
        """
        since = now()
        renewed_at = since if asked_at is None else asked_at
        runs = [
            Run(
                claim,
                facts,
                owner,
                fresh_for=self._fresh_for,
                held_since=since,
                renewed_at=renewed_at,
            )
            for claim, facts in claims
        ]
        with self._lock:
            before = [self._runs.get(run.claim.job_id.int) for run in runs]
            for run in runs:
                self._runs[run.claim.job_id.int] = run
        for old in filter(None, before):  # its claim was lost, or the job was not claimed again
            self._leases.confirmed(old.claim)
        return runs

    def remove(self, claim: Claim) -> None:
        """Remove the run of a claim that has ended, as the database has confirmed.

        The run of a later claim on the same job stays.
        """
        number = claim.job_id.int
        with self._lock:
            run = self._runs.get(number)
            if run is None or run.claim.token != claim.token:
                return
            del self._runs[number]
        self._leases.confirmed(claim)

    def all(self) -> list[Run]:
        """Return the runs as they are now."""
        with self._lock:
            return list(self._runs.values())

    def __len__(self) -> int:
        return len(self._runs)


def _raise_in_thread(thread_id: int, exception: type[BaseException] | None) -> None:
    argument = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), argument)
