"""A thread that repeats one step until it is stopped, whatever the step raises."""

import logging
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from django.db import Error, connections

from aftercommit.process import Bell
from aftercommit.safe_log import log_error
from aftercommit.worker.own_threads import unobserved
from aftercommit.worker.runs import now
from aftercommit.worker.upkeep.trouble import Trouble

FIRST_WAIT = timedelta(milliseconds=50)
LONGEST_WAIT = timedelta(seconds=2)


class LoopThread:
    """Calls ``step``, waits for the time that it returns or for ``ring``, and calls it again.

    After a database error ``on_trouble`` is called. If it lasts, it is logged, and so is any
    other exception: each reason once, and when it is over. Either way the connections are
    closed, because one of them may be broken, and the step is repeated after a wait with jitter
    that grows from failure to failure.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], timedelta],
        *,
        on_trouble: Callable[[Exception], None] | None = None,
        on_success: Callable[[], None] | None = None,
        at_end: Callable[[], None] | None = None,
        longest_wait: timedelta = LONGEST_WAIT,
    ) -> None:
        self._step = step
        self._on_trouble = on_trouble
        self._on_success = on_success
        self._at_end = at_end
        self._longest_wait = longest_wait
        self._failures = 0
        self.trouble = Trouble(name)
        self._bell = Bell()
        self._began: float | None = None  # the present step
        self._succeeded = now()  # the last one that did
        self._failure = ""  # the class of the error that the last step ended with
        self._stopping = False
        self._starting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"aftercommit-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def begin(self) -> None:
        """Start the thread, if nobody has yet, and call the next step now.

        Without a further thread, which the system may refuse, nothing is done.
        """
        with self._starting, suppress(RuntimeError):
            if self._thread.ident is None and not self._stopping:
                self._thread.start()
        self.ring()

    def ring(self) -> None:
        """Call the next step now."""
        self._bell.ring()

    def stop(self) -> None:
        """End after the present step."""
        self._stopping = True
        self._bell.ring()

    def join(self, limit: timedelta) -> bool:
        """Wait for the end of the thread; False if it has not ended in time."""
        if self._thread.ident is not None:  # else nobody has started it
            self._thread.join(limit.total_seconds())
        return not self._thread.is_alive()

    @property
    def busy_for(self) -> timedelta:
        """How long the present step has been going on; nothing between two steps."""
        began = self._began
        return timedelta(0) if began is None else timedelta(seconds=now() - began)

    @property
    def failing_for(self) -> timedelta:
        """How long ago the last step succeeded, if the steps since have failed."""
        return timedelta(seconds=now() - self._succeeded) if self._failure else timedelta(0)

    @property
    def failure(self) -> str:
        """The class of the error that the last step ended with; empty if it has succeeded."""
        return self._failure

    def _run(self) -> None:
        with unobserved():
            self._go_round()

    def _go_round(self) -> None:
        while not self._stopping:
            self._bell.wait(self._one_round())
        try:
            if self._at_end is not None:
                self._at_end()
        except BaseException as error:
            log_error("%s: the last step failed", self._thread.name, error=error)
        finally:
            connections.close_all()

    def _one_round(self) -> timedelta:
        self._began = now()
        try:
            return self._try()
        finally:
            self._began = None

    def _try(self) -> timedelta:
        try:
            wait = self._step()
        except Error as error:
            log_error(
                "%s: the database did not answer",
                self._thread.name,
                error=error,
                level=logging.DEBUG,
            )
            if self._on_trouble is not None:
                self._on_trouble(error)
            return self._wait_out(error)
        except BaseException as error:  # a SystemExit would end this thread silently
            return self._wait_out(error)
        self._failures, self._failure, self._succeeded = 0, "", now()
        self.trouble.over()
        if self._on_success is not None:
            self._on_success()
        return wait

    def _wait_out(self, error: BaseException) -> timedelta:
        self.trouble.failed(error)
        self._failure = type(error).__name__
        connections.close_all()
        self._failures += 1
        longest = min(FIRST_WAIT * float(2 ** min(self._failures, 10)), self._longest_wait)
        return longest * random.uniform(0.5, 1)  # noqa: S311
