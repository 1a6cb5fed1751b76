"""The calls of a group: they are checked together, and become jobs together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from uuid import UUID

from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.calls import Call, Need
from aftercommit.enqueue.configured import our_backend
from aftercommit.enqueue.graphs import graph_of
from aftercommit.enqueue.results import JobResult
from aftercommit.errors import ConfigurationError
from aftercommit.values import CANCEL

A_GROUP = "A group"


class Enqueued(NamedTuple):
    """What has become of the calls of a group."""

    results: list[JobResult]  # of each call
    members: list[UUID]  # the jobs that were inserted for them
    last: JobResult | None = None


NOTHING = Enqueued([], [])


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCalls:
    """Calls whose jobs are in one database, and perhaps one that waits for all others."""

    calls: Sequence[Call]
    using: str
    then: Call | None = None
    on_failure: str = CANCEL

    def enqueue(self) -> Enqueued:
        """Enqueue them, and all that they need, in the caller's transaction.

        A call of a unique task whose key another job has is no member: that job belongs to
        whoever has enqueued it. The last job waits for it as well.
        """
        last = self._last()
        roots = [*self.calls] if last is None else [*self.calls, last]
        if not roots:
            return NOTHING
        graph = graph_of(roots)
        members = set(self.calls)
        jobs = [
            replace(job, needed=True) if call in members else job
            for call, job in zip(graph.calls, graph.jobs, strict=True)
        ]
        ids = {call: job.id for call, job in zip(graph.calls, jobs, strict=True)}
        backend: DatabaseBackend = roots[0].task.get_backend()
        results = backend.insert_graph(graph._replace(jobs=jobs), roots)
        own = results[: len(self.calls)]
        inserted = [
            ids[call]
            for call, result in zip(self.calls, own, strict=True)
            if result.id == str(ids[call])
        ]
        return Enqueued(own, inserted, None if last is None else results[-1])

    def _last(self) -> Call | None:
        """Return a call like ``then`` that waits for all others."""
        if self.then is None:
            return None
        made = Call(self.then.task, self.then.args, self.then.kwargs)
        made.needs = [*self.then.needs, *(Need(one, self.on_failure) for one in self.calls)]
        return made


def check_calls(
    calls: Iterable[Any], *, using: str | None = None, then: Any = None, on_failure: str = CANCEL
) -> GroupCalls:
    """Return calls of tasks, all on one database: that of ``using``, or any."""
    given = tuple(calls)
    found = dict.fromkeys(map(_using_of, given if then is None else (*given, then)))
    if using is not None:
        found[using] = None
    if len(found) > 1:
        raise ConfigurationError(
            f"A group has jobs on several databases: {', '.join(found)}.\n"
            "No transaction holds them together. Nothing was enqueued.\n"
            "Fix: make a group for each database."
        )
    alias = next(iter(found), "") or our_backend("default", needed_by=A_GROUP).using
    given = tuple(dict.fromkeys(given))  # one call is one job
    return GroupCalls(calls=given, using=alias, then=then, on_failure=on_failure)


def _using_of(call: Any) -> str:
    if not isinstance(call, Call):
        raise ConfigurationError(
            f"A group has calls, such as task.bind(...); got {call!r}. Nothing was enqueued."
        )
    return our_backend(call.task.backend, needed_by=A_GROUP).using
