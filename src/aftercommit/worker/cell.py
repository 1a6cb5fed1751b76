"""One child process that runs one job at a time, seen from its parent and from inside."""

import multiprocessing
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any

import django

from aftercommit.control import Cancel
from aftercommit.errors import TimedOut
from aftercommit.failure import run_error
from aftercommit.process import leave_signals_to_parent
from aftercommit.values import Cancelled, Failed, Ran, Released, Retry
from aftercommit.worker.runs import Run, now

# Forked from a small server that has loaded the project, so a child is there in
# milliseconds; never from this process, whose threads and connections must not be copied.
START_METHODS = ("forkserver", "spawn")
PRELOADED = "aftercommit.worker.preload"
HARD_LIMIT = timedelta(seconds=6)  # beyond the timeout, which the child enforces itself
LOOK_EVERY = 0.5  # seconds


class Unwanted(Exception):
    """The claim is lost, or its cancellation was requested."""


class Cell:
    """The parent's side: sends a claim, waits for the end of its run or of the child."""

    def __init__(self, using: str) -> None:
        known = multiprocessing.get_all_start_methods()
        method = next(method for method in START_METHODS if method in known)
        context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload([PRELOADED])
        self._pipe, theirs = context.Pipe()
        self._child = context.Process(
            target=_be_child, args=(theirs, using), name="aftercommit-solo"
        )
        self._child.start()
        theirs.close()

    @property
    def alive(self) -> bool:
        """Whether the child lives."""
        return bool(self._child.is_alive())

    def run(self, run: Run) -> Ran | None:
        """Return how the job ended, or None if the child died of it."""
        try:
            self._pipe.send(run.claim)
            timeout: timedelta | None = self._answer(run)
            limit = None if timeout is None else now() + (timeout + HARD_LIMIT).total_seconds()
            ran: Ran = self._answer(run, limit)
            return ran
        except TimeoutError:
            self._put_down()
            return _timed_out(run)
        except Unwanted:
            self._put_down()
            error = run_error(Cancel("while it ran"))
            return Ran(outcome=Released() if run.lost else Cancelled(error))
        except (EOFError, OSError):
            return None

    def kill(self) -> None:
        """End the child, whatever it does."""
        self._child.kill()

    def end(self) -> None:
        """End the child and forget it."""
        self._put_down()
        self._pipe.close()

    def _put_down(self) -> None:
        self._child.kill()
        self._child.join()

    def _answer(self, run: Run, limit: float | None = None) -> Any:
        while True:
            if limit is not None and now() > limit:
                raise TimeoutError
            if run.lost or run.cancel_requested:
                raise Unwanted
            ready = wait([self._pipe, self._child.sentinel], timeout=LOOK_EVERY)
            if self._pipe in ready:
                return self._pipe.recv()
            if ready:
                raise EOFError


def _timed_out(run: Run) -> Ran:
    error = run_error(TimedOut())
    last = run.claim.failed_runs + 1 >= run.claim.max_attempts
    return Ran(outcome=Failed(error) if last else Retry(error))


def _be_child(pipe: Connection, using: str) -> None:
    """Be the child: take claims from the pipe, run each, send back how it ended."""
    leave_signals_to_parent()
    django.setup()
    from aftercommit.worker.child import SoloChild, end_with_parent  # noqa: PLC0415 - needs models

    end_with_parent()
    SoloChild(pipe, using).serve()
