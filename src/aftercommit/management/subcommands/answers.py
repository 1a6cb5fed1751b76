"""Checks that ask a database which may never answer: each in a thread, waited for with an end."""

import threading
from collections.abc import Callable
from datetime import timedelta

from django.db import Error, connections

from aftercommit.worker.runs import now

TO_ANSWER = timedelta(seconds=10)  # for a database that is checked at the start
LOOK_EVERY = timedelta(milliseconds=100)


class Check(threading.Thread):
    """A check in a thread of its own, since some ask a database that may never answer."""

    def __init__(self, check: Callable[[], object]) -> None:
        super().__init__(name="aftercommit-check", daemon=True)
        self._check = check
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Check; keep what is raised for whoever waits."""
        try:
            self._check()
        except BaseException as error:
            self.error = error
        finally:
            connections.close_all()


class Answers:
    """Waits for the checks of one command, all together for ``TO_ANSWER``."""

    def __init__(self, complain: Callable[[str], object]) -> None:
        self._complain = complain
        self._waits_until = 0.0  # for databases that do not answer

    def wait_for(
        self, checks: list[Check], *, enough: Callable[[], bool] = lambda: False
    ) -> None:
        """Raise what they raise; wait for no answer that does not come."""
        self._waits_until = self._waits_until or now() + TO_ANSWER.total_seconds()
        for one in checks:
            while one.is_alive() and now() < self._waits_until and not enough():
                one.join(LOOK_EVERY.total_seconds())
            if one.error is not None and not isinstance(one.error, Error):
                raise one.error
            if one.error is not None or (one.is_alive() and not enough()):
                why = (
                    f"for {TO_ANSWER.seconds} s"
                    if one.error is None
                    else type(one.error).__name__
                )
                self._complain(f"A database does not answer ({why}): not all is checked.")
