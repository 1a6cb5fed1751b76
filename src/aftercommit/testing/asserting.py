"""``assert_enqueued()``, ``refute_enqueued()`` and ``capture_jobs()``."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, overload

from django.db import connections

from aftercommit.models import Job
from aftercommit.testing.jobs import (
    EnqueuedCall,
    enqueued_calls,
    ids_of_jobs,
    listed,
    names_meant,
)
from aftercommit.testing.transactions import usable_aliases
from aftercommit.values import NO_TIME
from aftercommit.wording import counted

ANY: Any = object()  # not asked for
TOLERANCE = timedelta(seconds=5)  # of a span, between the call and the row
MOST_LISTED = 20


def assert_enqueued(
    task: Any = ANY,
    *,
    args: Sequence[Any] = ANY,
    kwargs: Mapping[str, Any] = ANY,
    queue: str = ANY,
    run_after: datetime | timedelta | None = ANY,
    count: int | None = None,
) -> list[Job]:
    """Assert that jobs were enqueued; return them, in the order in which they were.

    Whatever has become of them since: a job that has run counts as well, as long as its row is
    there. ``task``: a task, its name, a function for ``schedule()``, or a task of Celery,
    Dramatiq or another library whose messages are relayed. ``args`` and ``kwargs``: all
    positional and all keyword arguments, as they were given; ``mock.ANY`` stands for any value.
    ``run_after``: an aware moment, a span from the call on (give or take 5 seconds), or None for
    at once. What is not passed is not looked at. ``count``: exactly so many; None: at least one.

    Raises ``AssertionError``, which lists what was enqueued instead.
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    wanted = _Wanted(task, args, kwargs, queue, run_after)
    calls = enqueued_calls()
    found = [one.job for one in calls if wanted.matches(one)]
    if found if count is None else len(found) == count:
        return found
    expected = "a job" if count is None else counted(count, "job")
    raise AssertionError(_failure(f"Expected {expected}{wanted}", len(found), wanted, calls))


def refute_enqueued(
    task: Any = ANY,
    *,
    args: Sequence[Any] = ANY,
    kwargs: Mapping[str, Any] = ANY,
    queue: str = ANY,
    run_after: datetime | timedelta | None = ANY,
) -> None:
    """Assert that no such job was enqueued; see ``assert_enqueued``. Without a task: none at all.

    Raises ``AssertionError``, which lists them.
    """
    __tracebackhide__ = True
    wanted = _Wanted(task, args, kwargs, queue, run_after)
    found = [one for one in enqueued_calls() if wanted.matches(one)]
    if found:
        lines = listed(found, most=MOST_LISTED)
        raise AssertionError(f"Expected no job{wanted}, found {len(found):,}:\n{lines}")


class CapturedJobs(Sequence[Job]):
    """The jobs that were enqueued in a block: as they are now in it, and at its end after it."""

    def __init__(self) -> None:
        self._before = ids_of_jobs()
        self._kept: list[Job] | None = None

    def _keep(self) -> None:
        self._kept = self._now()

    def _now(self) -> list[Job]:
        if self._kept is not None:
            return self._kept
        return [one.job for one in enqueued_calls() if one.job.id not in self._before]

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> list[Job]: ...
    def __getitem__(self, index: int | slice) -> Job | list[Job]:
        return self._now()[index]

    def __len__(self) -> int:
        return len(self._now())

    def __repr__(self) -> str:
        return f"<CapturedJobs: {[str(job) for job in self._now()]}>"


@contextmanager
def capture_jobs() -> Iterator[CapturedJobs]:
    """Collect the jobs that are enqueued in the block, in their order.

    Also those that were enqueued and have run, and messages for brokers; not those whose row has
    gone. After the block they are as they were at its end.
    """
    captured = CapturedJobs()
    try:
        yield captured
    finally:
        captured._keep()


class _Wanted:
    """What a test asks for."""

    def __init__(
        self,
        task: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        queue: str,
        run_after: datetime | timedelta | None,
    ) -> None:
        self._names = None if task is ANY else names_meant(task)
        self._task, self._args, self._kwargs = task, args, kwargs
        self._queue, self._run_after = queue, run_after
        if isinstance(run_after, datetime) and run_after.tzinfo is None:
            raise TypeError(f"run_after: expected an aware moment, got {run_after!r}.")

    def __str__(self) -> str:
        parts = [
            (" of ", self._task if isinstance(self._task, str) else self._label),
            (" with args=", _as_list(self._args)),
            (" with kwargs=", self._kwargs),
            (" in queue ", self._queue),
            (" with run_after=", self._run_after),
        ]
        given = [(word, value) for word, value in parts if value is not ANY]
        texts = [
            f"{word}{value}" if word == " of " else f"{word}{value!r}" for word, value in given
        ]
        return "".join(texts)

    @property
    def _label(self) -> Any:
        return ANY if self._names is None else min(self._names, key=len)

    def is_of_task(self, call: EnqueuedCall) -> bool:
        """Return whether a job is of the task that is asked for."""
        return self._names is None or call.name in self._names

    def matches(self, call: EnqueuedCall) -> bool:
        """Return whether a job is what is asked for."""
        return (
            self.is_of_task(call)
            and self._has_arguments(call)
            and self._queue in (ANY, call.job.queue)
            and self._is_due(call)
        )

    def _has_arguments(self, call: EnqueuedCall) -> bool:
        if self._args is ANY and self._kwargs is ANY:
            return True
        if call.arguments is None:
            return False
        args, kwargs = call.arguments
        same_args = self._args is ANY or _as_list(self._args) == args
        return same_args and (self._kwargs is ANY or _as_list(self._kwargs) == kwargs)

    def _is_due(self, call: EnqueuedCall) -> bool:
        if self._run_after is ANY:
            return True
        if isinstance(self._run_after, datetime):
            return bool(call.run_after == self._run_after)
        span = call.run_after - call.job.enqueued_at
        return bool(abs(span - (self._run_after or NO_TIME)) <= TOLERANCE)


def _as_list(value: Any) -> Any:
    """Return a value as it is read from JSON: tuples become lists."""
    if isinstance(value, tuple | list):
        return [_as_list(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _as_list(one) for key, one in value.items()}
    return value


def _failure(expected: str, number: int, wanted: _Wanted, calls: Sequence[EnqueuedCall]) -> str:
    lines = [f"{expected}, found {number or 'none'}."]
    alike = [one for one in calls if wanted.is_of_task(one)]
    others = [one for one in calls if not wanted.is_of_task(one)]
    if alike:
        lines += ["Enqueued:", listed(alike, most=MOST_LISTED)]
    if others:
        lines += ["Of other tasks:", listed(others, most=MOST_LISTED)]
    if not calls:
        lines.append("Nothing was enqueued.")
    lines += _waiting_callbacks()
    return "\n".join(lines)


def _waiting_callbacks() -> Iterator[str]:
    for alias in usable_aliases():
        if number := len(connections[alias].run_on_commit):
            yield (
                f"{counted(number, 'callback')} of on_commit() wait on {alias!r}, and a TestCase "
                "never commits: call the code in self.captureOnCommitCallbacks(execute=True)."
            )
