"""What ``manage.py aftercommit doctor`` says about one database, each subject in a module."""

from collections.abc import Callable, Iterator

from django.db import Error

from aftercommit.printable import one_line, without_passwords
from aftercommit.store import store_for
from aftercommit.store.base import Store
from aftercommit.store.readiness import Refusal
from aftercommit.store.rehearsal import rehearse
from aftercommit.windows.doctor.brokers import passwords
from aftercommit.windows.doctor.finding import Ailment, Finding
from aftercommit.windows.doctor.graphs import graphs
from aftercommit.windows.doctor.periodic import schedules
from aftercommit.windows.doctor.served import messages, secrets, unknown_tasks, waiting
from aftercommit.windows.doctor.server import dead_rows, settings_and_tables, transactions
from aftercommit.windows.doctor.workers import clocks, versions

__all__ = ["Ailment", "Finding", "examine", "refused"]

PARTS: tuple[Callable[[Store], Iterator[Finding]], ...] = (
    waiting,
    messages,
    unknown_tasks,
    secrets,
    schedules,
    graphs,
    versions,
    clocks,
    settings_and_tables,
    dead_rows,
    transactions,
    passwords,
)


def refused(using: str, refusal: Refusal) -> Finding:
    """Return what is said of a database on which nothing can be examined."""
    what, _, cure = refusal.sentence.partition("\n")
    check = refusal.why.name.lower().replace("_", "-")
    return Finding(using, check, what, cure, ailment=Ailment.WORK)


def examine(using: str) -> Iterator[Finding]:
    """Yield what there is to say about the database of an alias."""
    store = store_for(using)
    try:
        rehearse(store)
        yield Finding(using, "work", "A job can be enqueued, claimed, renewed and finished.")
    except Error as error:
        yield _broken(using, "work", error)
        if not store.answers():
            return
    for part in PARTS:
        try:
            yield from part(store)
        except Error as error:
            yield _broken(using, part.__name__.replace("_", "-"), error)


def _broken(using: str, check: str, error: Error) -> Finding:
    why = one_line(without_passwords(f"{type(error).__name__}: {error}".strip()))
    cure = "Grant the user of DATABASES what is missing, or correct the settings."
    return Finding(
        using, check, f"A worker cannot do its work: {why}", cure, ailment=Ailment.WORK
    )
