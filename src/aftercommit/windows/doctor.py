"""What ``manage.py aftercommit doctor`` says about one database."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.db import Error

from aftercommit.printable import one_line, without_passwords
from aftercommit.relay.neglected import SEEN_WITHIN, neglected
from aftercommit.relay.outbox import relaying
from aftercommit.store import store_for
from aftercommit.store.base import Store
from aftercommit.store.rehearsal import rehearse

LATE = timedelta(minutes=5)  # a job that is due waits no longer if there is a worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence about a database."""

    text: str
    is_problem: bool = False


def examine(using: str) -> Iterator[Finding]:
    """Yield what there is to say about the database of an alias."""
    store = store_for(using)
    try:
        rehearse(store)
        yield Finding(text=f"{using}: a job can be enqueued, claimed, renewed and finished.")
        yield from _waiting(store)
        yield from _messages(using)
    except Error as error:
        why = one_line(without_passwords(f"{type(error).__name__}: {error}".strip()))
        yield Finding(text=f"{using}: a worker cannot do its work: {why}", is_problem=True)


def _waiting(store: Store) -> Iterator[Finding]:
    workers = store.workers.count_seen(within=SEEN_WITHIN)
    ready, age = store.counts()["ready"], store.oldest_due_age()
    waits = "no job is due"
    if age is not None:
        waits = f"the oldest that is due waits for {timedelta(seconds=int(age.total_seconds()))}"
    yield Finding(
        text=f"{store.alias}: {workers} worker processes; {ready} jobs are ready, {waits}.",
        is_problem=not workers and age is not None and age > LATE,
    )


def _messages(using: str) -> Iterator[Finding]:
    here = [backend for backend in relaying() if backend.using == using]
    for one in dict.fromkeys(one for backend in here for one in neglected(backend)):
        yield Finding(text=f"{using}: {one}", is_problem=True)
