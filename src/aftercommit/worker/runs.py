"""A run of this process: a job that it has claimed and whose outcome is not written yet."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import Context
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from aftercommit.enqueue.outcomes import Cancel
from aftercommit.errors import ClaimLost, Stopped, TimedOut
from aftercommit.process import forks, forks_end_here
from aftercommit.values import Claim, RunResult
from aftercommit.worker.frames import clear_frames
from aftercommit.worker.interrupts import raise_in_thread, wake

if TYPE_CHECKING:
    from aftercommit.worker.facts import TaskFacts
    from aftercommit.worker.notes import RunNotes
    from aftercommit.worker.running.executor import Executor

# This clock goes on while the machine is suspended; time.monotonic() on Linux does not.
CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)
INTERRUPTS = (Cancel, ClaimLost, Stopped, TimedOut)
NUDGED_FOR = 1.0  # seconds; later signals would only disturb what the body does at its end


def now() -> float:
    """Return the seconds of a clock that is never set back."""
    return time.monotonic() if CLOCK is None else time.clock_gettime(CLOCK)


class Owner(Protocol):
    """The part of a worker process to which a run belongs: it serves one database alias."""

    @property
    def executor(self) -> "Executor":
        """The executor that runs the job."""

    def in_one_thread(self, runs: Sequence["Run"]) -> AbstractContextManager[None]:
        """Count jobs that run in one call as one job, until the end of the block."""

    def ended(self, ends: Sequence[tuple["Run", RunResult]]) -> None:
        """Accept the results of runs that one thread has executed together; called there."""


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
    secrets: tuple[str, ...] = ()  # texts of its arguments that nobody is to read
    weight: float = 1  # in the capacity of the process
    company: Sequence["Run"] = ()  # of its call, if there is more than one; the first is in body
    given_up = False  # the outcome is decided; the body's result is ignored
    notes: "RunNotes | None" = None  # what it has noted
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
        # Bytes of arguments and earlier errors, which are ASCII, and of a result that waits to be
        # written. No property, because each claim adds up those of all runs.
        self.size = len(claim.payload) + len(claim.errors)
        if facts.batch is not None:
            self.weight = facts.batch.weight
        self._fresh_for = fresh_for
        self.held_since = held_since
        self.renewed_at = renewed_at  # when the lease was last known to be good
        # Reentrant: an interrupt may come when the body's thread has just taken it.
        self._lock = threading.RLock()

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
            try:
                self._enter(timeout)
                if self.cancel_requested and not self.company:
                    raise Cancel
                return function(*args, **(kwargs or {}))
            finally:
                if forks.count != before:
                    os._exit(0)  # as forks_end_here() does, without its cost for each run
                while self._thread_id is not None:
                    try:
                        self._leave()
                    except INTERRUPTS:  # too late: the body is over
                        continue
        except BaseException as error:
            clear_frames(error)  # before the transaction is rolled back: it may be used
            raise

    async def async_body(self, call: Callable[[], Any], *, timeout: timedelta | None) -> Any:
        """Await the user's coroutine; an interrupt raises the exception that it was given."""
        self._coroutine = asyncio.current_task()
        self._set_deadline(timeout)
        try:
            if self.cancel_requested and not self.company:
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

        A call into C that does not return is not interrupted in each thread: see
        ``interrupts``. After a ``Cancel``, which a body may swallow, there can be another one
        for another reason.
        """
        # With a limit: an exception may hit the body's thread while it holds the lock.
        if not self._may_follow(why) or not self._lock.acquire(timeout=1):
            return
        try:
            self._interrupt(why)
        finally:
            self._lock.release()

    def nudge(self) -> None:
        """Let a body that was interrupted leave its wait.

        The signal is lost if it comes just before a wait begins, so more than one is sent.
        """
        at = self.interrupted_at
        if at is not None and now() - at < NUDGED_FOR and self._thread_id is not None:
            wake(self._thread_id)

    def ask_to_stop(self) -> None:
        """Raise ``Cancel`` in the body, or as soon as it begins; others in its call go on."""
        self.cancel_requested = True  # first: a body that begins meanwhile looks at it
        if not self.company:
            self.interrupt(Cancel)

    def lose(self) -> None:
        """Raise ``ClaimLost`` in the body: the claim has ended, or those of all in its call."""
        self.lost = True
        if self._is_over_for_all:
            for run in self.company or (self,):
                run.interrupt(ClaimLost)

    @property
    def _is_over_for_all(self) -> bool:
        return all(run.lost for run in self.company) if self.company else self.lost

    def checkpoint(self) -> None:
        """Raise in the body that calls this what it is to end with, each time it is called."""
        why: type[BaseException]
        if self._is_over_for_all:
            why = ClaimLost
        elif self.cancel_requested and not self.company:
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
                raise_in_thread(self._thread_id, None)
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
            raise_in_thread(self._thread_id, why)

    def _cancel(self) -> None:
        # Else the body has ended in the meantime, or has heard of it at a checkpoint.
        if self._coroutine is not None and not self._raised:
            self._coroutine.cancel()

    def end(self, result: RunResult, *, took: float | None) -> None:
        """Pass the result to the owner, once; ``took``: seconds of the body, if it began."""
        end_together([(self, result)], took=took)

    def was_interrupted(self) -> bool:
        """Return whether the body was interrupted, or has ended itself at a checkpoint."""
        return self.interrupted_at is not None

    @property
    def duration(self) -> timedelta | None:
        """How long the body ran; None if it did not begin, or is not over."""
        return None if self.took is None else timedelta(seconds=self.took)

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
                raise_in_thread(threading.get_ident(), None)

    def _set_deadline(self, timeout: timedelta | None) -> None:
        self.has_begun = True
        self.deadline = None if timeout is None else now() + timeout.total_seconds()


def end_together(ends: Sequence[tuple[Run, RunResult]], *, took: float | None) -> None:
    """Pass the results of runs to their owner, which is the same, each once.

    ``took``: seconds of the body of each, if it began.
    """
    fresh = [one for one in ends if not one[0].is_over]
    for run, _result in fresh:
        run.is_over = True
        run.took = took
    if fresh:
        fresh[0][0].owner.ended(fresh)
