"""Jobs and messages that wait, and for whom."""

from collections.abc import Iterator
from datetime import timedelta

from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.missing_keys import missing_keys
from aftercommit.enqueue.undeclared import newer, undeclared
from aftercommit.enqueue.versions import versions_of
from aftercommit.printable import one_line
from aftercommit.relay.neglected import SEEN_WITHIN, neglected
from aftercommit.relay.outbox import relaying
from aftercommit.store.base import Store
from aftercommit.values import TASK
from aftercommit.windows.doctor.finding import Ailment, Finding
from aftercommit.wording import counted, spoken

LATE = timedelta(minutes=5)  # a job that is due waits no longer if there is a worker
MOST_NAMED = 10
MOST_COUNTED = 10_000


def waiting(store: Store) -> Iterator[Finding]:
    """Say how many workers there are, and in which queues jobs wait in vain.

    Which queues a worker serves is not in the database, but it shows: none of the jobs that
    have been due for long is running.
    """
    workers = store.workers.count_seen(within=SEEN_WITHIN)
    ready, age = store.states(most=MOST_COUNTED)["ready"], store.oldest_due_age()
    waits = "no job is due" if age is None else f"the oldest that is due waits for {_span(age)}"
    yield Finding(
        store.alias,
        "workers",
        f"{counted(workers, 'worker process', 'worker processes')}; "
        f"{'about ' * ready.is_estimate}{counted(ready.jobs, 'job')} ready, {waits}.",
    )
    names = [one.name for one in store.pauses() if one.kind == TASK]
    paused = [one for name in names for one in versions_of(name)]
    unknown = _unknown(store)
    but_tasks = {*paused, *unknown}
    late = {one.queue: one for one in store.unserved(after=LATE, but_tasks=but_tasks)}
    if not workers:  # otherwise these may wait for as long as their limits and rates say
        for one in store.parked(after=LATE, but_tasks=but_tasks):
            late[one.queue] = max(one, late.get(one.queue, one))
    for one in late.values():
        yield Finding(
            store.alias,
            "no-worker",
            f"Jobs of the queue {one_line(one.queue)} have been due for up to "
            f"{_span(one.age)}, and no worker runs any of them.",
            "Run 'manage.py aftercommit worker' for this queue, or more workers."
            if workers
            else "Run 'manage.py aftercommit worker'.",
            ailment=Ailment.NOBODY,
        )


def messages(store: Store) -> Iterator[Finding]:
    """Say which messages nobody publishes."""
    here = [backend for backend in relaying() if backend.using == store.alias]
    for one in dict.fromkeys(one for backend in here for one in neglected(backend)):
        yield Finding(store.alias, "no-relay", one.what, one.fix, ailment=Ailment.NOBODY)


def unknown_tasks(store: Store) -> Iterator[Finding]:
    """Say which tasks of waiting jobs nothing declares."""
    unknown = _unknown(store)
    if versions := newer(unknown):
        yield Finding(
            store.alias,
            "newer-versions",
            f"Jobs wait for newer code: {', '.join(list(versions.values())[:MOST_NAMED])}.",
            "Deploy the workers with the code that has this version.",
            ailment=Ailment.NOBODY,
        )
    unknown = [one for one in unknown if one not in versions]
    if unknown:
        names = ", ".join(map(repr, unknown[:MOST_NAMED]))
        more = f" and {len(unknown) - MOST_NAMED} more" * (len(unknown) > MOST_NAMED)
        yield Finding(
            store.alias,
            "unknown-tasks",
            f"Jobs wait for tasks that nothing here declares: {names}{more}.",
            "If a function was moved or renamed, give its task the old path in aliases=(...). "
            "Otherwise cancel the jobs.",
            ailment=Ailment.NOBODY,
        )


def secrets(store: Store) -> Iterator[Finding]:
    """Say which keys of secret arguments are missing."""
    if missing := missing_keys(store):
        yield Finding(
            store.alias,
            "secret-keys",
            f"Waiting jobs have secrets whose keys are missing: {', '.join(missing)}. They would "
            "fail.",
            "Put the keys back into OPTIONS['secret_keys'], behind the first one.",
            ailment=Ailment.WORK,
        )


def _unknown(store: Store) -> list[str]:
    here = [one for one in our_backends() if one.using == store.alias]
    modules = [module for one in here for module in one.config.task_modules]
    return undeclared(store.queued_names(), modules)


def _span(span: timedelta) -> str:
    return spoken(timedelta(seconds=int(span.total_seconds())))
