"""The exceptions by which a task chooses the outcome of its run."""

from datetime import timedelta

from aftercommit.options.backoff import wait_of


class Retry(Exception):
    """Run again after ``delay``; counts as a failed attempt.

    ``delay`` defaults to the task's backoff; zero or less means at once. When no attempt
    is left, the job fails. Raises ``TypeError`` for a delay that is not a timedelta.
    """

    def __init__(self, delay: timedelta | None = None) -> None:
        self.delay = None if delay is None else wait_of(delay, what="Retry(delay)")
        super().__init__(delay)

    def __str__(self) -> str:
        when = "after its backoff" if self.delay is None else f"in {self.delay}"
        return f"The task asked for a retry {when}."


class Snooze(Exception):
    """Run again after ``delay``; it is not a failure and does not count as an attempt.

    Zero or less means at once. Raises ``TypeError`` for a delay that is not a timedelta.
    """

    def __init__(self, delay: timedelta) -> None:
        self.delay = wait_of(delay, what="Snooze(delay)")
        super().__init__(delay)

    def __str__(self) -> str:
        return f"The task asked to sleep for {self.delay}."


class Cancel(Exception):
    """End the job as cancelled; ``reason`` is stored with it."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)


class Discard(Exception):
    """End the job as failed at once, even if attempts are left; ``reason`` is stored."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
