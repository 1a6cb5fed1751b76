"""Checks that ask a database which may never answer: each in a thread, waited for with an end."""

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

from django.db import Error, connections

from aftercommit.store.readiness import Refusal, Unready, away, refusal_of
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


class Question(Check):
    """Asks a database whether it is ready."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._found: Refusal | None = None
        super().__init__(self._ask)

    def _ask(self) -> None:
        self._found = refusal_of(self._alias)

    def answer(self) -> Refusal | None:
        """Return why it is not, also if there is no answer yet. Raises what asking raised."""
        if self.error is not None:
            raise self.error
        return away(self._alias) if self.is_alive() else self._found


class Answers:
    """Waits for the checks of one command, all together for ``TO_ANSWER``."""

    def __init__(self, complain: Callable[[str], object]) -> None:
        self._complain = complain
        self._waits_until = 0.0  # for databases that do not answer

    def _wait(self, checks: Sequence[Check], *, enough: Callable[[], bool]) -> None:
        self._waits_until = self._waits_until or now() + TO_ANSWER.total_seconds()
        for one in checks:
            while one.is_alive() and now() < self._waits_until and not enough():
                one.join(LOOK_EVERY.total_seconds())

    def wait_for(
        self, checks: list[Check], *, enough: Callable[[], bool] = lambda: False
    ) -> None:
        """Raise what they raise; wait for no answer that does not come."""
        self._wait(checks, enough=enough)
        for one in checks:
            if one.error is not None and not isinstance(one.error, Error):
                raise one.error
            if one.error is not None or (one.is_alive() and not enough()):
                why = (
                    f"for {TO_ANSWER.seconds} s"
                    if one.error is None
                    else type(one.error).__name__
                )
                self._complain(f"A database does not answer ({why}): not all is checked.")

    def refusals(self, aliases: list[str]) -> dict[str, Refusal | None]:
        """Return why each database is not ready; one that does not answer in time is away."""
        asked = {alias: Question(alias) for alias in aliases}
        self._wait([*asked.values()], enough=lambda: False)
        return {alias: one.answer() for alias, one in asked.items()}

    def refused(
        self, aliases: list[str], *, waits: bool, enough: Callable[[], bool] = lambda: False
    ) -> int:
        """Say which databases are not ready, and why; return the exit status, 0 to begin.

        ``waits``: work may begin although a database is away, and waits for it.
        """
        asked = [Question(alias) for alias in aliases]
        self._wait(asked, enough=enough)
        if enough():
            return 0
        found = [refusal for one in asked if (refusal := one.answer()) is not None]
        for one in found:
            self._complain(one.sentence)
        left = [one.why for one in found if not (waits and one.why is Unready.AWAY)]
        if found and not left:
            self._complain("This worker waits for it.")
        return min((why.value for why in left), default=0)
