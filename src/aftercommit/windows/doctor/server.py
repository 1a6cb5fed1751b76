"""Whether the database looks after our tables, and lets us work as we must."""

from collections.abc import Iterator
from datetime import timedelta

from django.db import connections

from aftercommit.printable import one_line
from aftercommit.store.base import Store
from aftercommit.windows.checks.servers import answers_of
from aftercommit.windows.checks.tables import tables_of
from aftercommit.windows.doctor.finding import Ailment, Finding
from aftercommit.wording import spoken

MANY_DEAD, DEAD_SHARE = 50_000, 0.2  # rows, and of the live ones: VACUUM comes long before
MUCH_UNDO = 1_000_000  # transactions
MUCH_FREE = 100 * 1024 * 1024  # bytes, and more than half of the file
LONG = timedelta(minutes=15)
MOST_TRANSACTIONS = 5


def settings_and_tables(store: Store) -> Iterator[Finding]:
    """Say what the system checks say that ask the server."""
    database = connections[store.alias]
    for one in (*answers_of(database), *tables_of(database)):
        name = str(one.id).rpartition(".")[2]
        ailment = Ailment.WORK if one.is_serious() else Ailment.DATABASE
        yield Finding(store.alias, name, one.msg, one.hint or "", ailment=ailment)


def dead_rows(store: Store) -> Iterator[Finding]:
    """Say where the database does not get rid of rows that nobody needs."""
    yield from _of_postgresql(store)
    if (undo := store.undo_length()) > MUCH_UNDO:
        yield _sick(
            store,
            "dead-rows",
            f"InnoDB has not purged {undo:,} transactions, and statements become slow.",
            "End the transactions that hold them back, see below.",
        )
    free, size = store.free_bytes()
    if free > MUCH_FREE and free > size / 2:
        yield _sick(
            store,
            "dead-rows",
            f"{free / size:.0%} of the file of SQLite is free ({free >> 20:,} MiB).",
            "Stop the workers, and VACUUM.",
        )


def _of_postgresql(store: Store) -> Iterator[Finding]:
    if not store.vacuums_itself():
        yield _sick(
            store,
            "vacuum",
            "PostgreSQL's autovacuum is off, and nothing removes the dead row of each change.",
            "Set autovacuum = on in postgresql.conf, or VACUUM our tables every few minutes.",
        )
    for one in store.dead_rows():
        last = "never" if one.vacuumed_at is None else f"{one.vacuumed_at:%Y-%m-%d %H:%M} UTC"
        if not one.is_vacuumed:
            yield _sick(
                store,
                "vacuum",
                f"PostgreSQL does not vacuum {one.table} by itself (last time: {last}).",
                f"ALTER TABLE {one.table} RESET (autovacuum_enabled).",
            )
        if one.dead > MANY_DEAD + DEAD_SHARE * one.live:
            yield _sick(
                store,
                "dead-rows",
                f"{one.table} has {one.dead:,} dead rows beside {one.live:,} (last vacuum: "
                f"{last}), and statements become slow.",
                f"End what holds them back, see below. Then VACUUM {one.table}, and let "
                "autovacuum work more often.",
            )


def transactions(store: Store) -> Iterator[Finding]:
    """Say who has a transaction open for so long that old versions of rows pile up."""
    found = store.old_transactions(older_than=LONG)
    for one in found[:MOST_TRANSACTIONS]:
        yield _sick(
            store,
            "long-transaction",
            f"A transaction has been open for {spoken(one.age)}: {one_line(one.who)}. Rows that "
            "were changed since cannot be removed, and claims become slower.",
            "Commit it, or end its session. Keep long work out of transactions.",
        )
    if len(found) > MOST_TRANSACTIONS:
        more = len(found) - MOST_TRANSACTIONS
        yield _sick(store, "long-transaction", f"There are {more} more of them.", "")


def _sick(store: Store, check: str, text: str, cure: str) -> Finding:
    return Finding(store.alias, check, text, cure, ailment=Ailment.DATABASE)
