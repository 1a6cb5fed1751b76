"""What ails a database: jobs that nobody takes, dead rows, long transactions, clocks."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.apps import apps
from django.db import Error, transaction
from django.utils import timezone

from aftercommit.models import State
from aftercommit.options.fair import BEHIND, head_of
from aftercommit.options.queues import QUEUE_PREFIX
from aftercommit.store.clock import ago
from aftercommit.store.held_back import PARKED_IN
from aftercommit.store.measuring import Measuring
from aftercommit.store.rules import Rules
from aftercommit.values import QUEUE, Group

FRONT = 500  # jobs of a group that are looked at
MOST_PARKED = 5_000  # jobs, for each reason
MOST_UNSERVED = 20  # queues
DEAD_ROWS = """
SELECT pg_class.relname, n_dead_tup, n_live_tup, GREATEST(last_vacuum, last_autovacuum),
    NOT COALESCE(reloptions, '{}') && ARRAY[
        'autovacuum_enabled=false', 'autovacuum_enabled=off', 'autovacuum_enabled=0'
    ]
FROM pg_stat_user_tables JOIN pg_class ON pg_class.oid = relid
WHERE pg_table_is_visible(relid) AND pg_class.relname = ANY (%s)
ORDER BY 1
"""
# A session that has read, and holds no snapshot between its statements, holds nothing back.
OLD_SESSIONS = """
SELECT concat_ws(' ', 'session', pid, 'of', usename, NULLIF(application_name, ''), state),
    clock_timestamp() - xact_start
FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker'
  AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
  AND COALESCE(datname, current_database()) = current_database()
  AND xact_start < clock_timestamp() - %s
UNION ALL
SELECT 'prepared transaction ' || gid, clock_timestamp() - prepared
FROM pg_prepared_xacts
WHERE database = current_database() AND prepared < clock_timestamp() - %s
ORDER BY 2 DESC
"""
OLD_TRANSACTIONS = """
SELECT CONCAT('session ', trx_mysql_thread_id), TIMESTAMPDIFF(MICROSECOND, trx_started, NOW(6))
FROM information_schema.innodb_trx
WHERE trx_mysql_thread_id <> CONNECTION_ID()
  AND TIMESTAMPDIFF(MICROSECOND, trx_started, NOW(6)) > %s
ORDER BY 2 DESC
"""
UNDO = {
    True: "SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'",  # MariaDB
    False: "SELECT name, count FROM information_schema.innodb_metrics"
    " WHERE name = 'trx_rseg_history_len'",
}


class Unserved(NamedTuple):
    """A queue from which nobody takes the jobs that are due."""

    queue: str
    age: timedelta  # of the oldest


class DeadRows(NamedTuple):
    """What PostgreSQL knows of one of our tables."""

    table: str
    dead: int
    live: int
    vacuumed_at: datetime | None
    is_vacuumed: bool  # by itself, as far as it depends on the table


class OldTransaction(NamedTuple):
    """A transaction for which the database keeps old versions of rows."""

    who: str
    age: timedelta


class Health(Measuring, Rules):
    """Looks for it. What the user may not see, or the database does not have, is not there."""

    def unserved(self, *, after: timedelta, but_tasks: Collection[str] = ()) -> list[Unserved]:
        """Return the queues with jobs that have been due for long, and none that is running.

        Of many queues the ``MOST_UNSERVED`` whose jobs have been due for longest.
        Paused queues are left out, those of messages, and those whose first jobs are all of
        ``but_tasks``.
        """
        late = [one for one in self.heads() if one.age is not None and one.age > after]
        if not late:
            return []
        served = {*self.running_by("queue"), *self._paused_queues()}
        found: dict[str, timedelta] = {}
        late.sort(key=lambda one: one.run_after)
        for group, age in [(one.group, one.age) for one in late]:
            name = group.queue
            if len(found) == MOST_UNSERVED:
                break
            if name in served or name.startswith(QUEUE_PREFIX) or age is None:
                continue
            if self._has_others(group, after, but_tasks):
                found[name] = max(age, found.get(name, age))
        return [Unserved(*one) for one in sorted(found.items())]

    def parked(self, *, after: timedelta, but_tasks: Collection[str] = ()) -> list[Unserved]:
        """Return the queues with jobs that wait for a limit or a rate, and have done so for long.

        A worker lets them through; without one nobody does. Of many jobs some are looked at.
        """
        left_out, now = self._paused_queues(), self._clock()
        found: dict[str, timedelta] = {}
        for place in PARKED_IN:
            some = self._jobs.filter(blocked=place, state=State.READY)
            front = some.order_by("blocked", "limit_key").only("queue", "task_path", "run_after")
            for one in front[:MOST_PARKED]:
                age = now - one.run_after
                if age > after and one.queue not in left_out and one.task_path not in but_tasks:
                    found[one.queue] = max(age, found.get(one.queue, age))
        return [Unserved(*one) for one in sorted(found.items())]

    def _paused_queues(self) -> set[str]:
        return {one.name for one in self.pauses() if one.kind == QUEUE}

    def _has_others(self, group: Group, after: timedelta, but_tasks: Collection[str]) -> bool:
        if not but_tasks:
            return True
        late = self._claimable().filter(**group._asdict(), run_after__lte=ago(after))
        head = head_of(group.backend, group.queue)
        in_lines = self._jobs.filter(line__gt=head, line__lt=head + BEHIND)
        return any(
            path not in but_tasks
            for front in (late.order_by("run_after", "id"), in_lines.order_by("line"))
            for path in front.values_list("task_path", flat=True)[:FRONT]
        )

    def clock_ahead(self) -> timedelta:
        """Return by how much this process's clock is before the database's, surely."""
        before, now, after = timezone.now(), self._clock(), timezone.now()
        if before <= now <= after:
            return timedelta(0)
        return before - now if before > now else after - now

    def dead_rows(self) -> list[DeadRows]:
        """Return what PostgreSQL knows of our tables; nothing elsewhere."""
        if self.connection.vendor != "postgresql":
            return []
        names = [
            model._meta.db_table for model in apps.get_app_config("aftercommit").get_models()
        ]
        return [DeadRows._make(row) for row in self._read(DEAD_ROWS, [names])]

    def vacuums_itself(self) -> bool:
        """Return whether autovacuum is on in the whole server; True where there is none."""
        if self.connection.vendor != "postgresql":
            return True
        return bool(self._read("SELECT current_setting('autovacuum')::bool", [])[0][0])

    def undo_length(self) -> int:
        """Return how many transactions InnoDB has not purged; 0 elsewhere."""
        if self.connection.vendor != "mysql":
            return 0
        rows = self._asked(UNDO[bool(self.connection.mysql_is_mariadb)], [])  # type: ignore[attr-defined]
        return max((int(number) for _name, number in rows), default=0)

    def free_bytes(self) -> tuple[int, int]:
        """Return how much of SQLite's file is free, and its size; zeros elsewhere."""
        if self.connection.vendor != "sqlite":
            return 0, 0
        free, pages, size = (
            self._read(f"PRAGMA {name}", [])[0][0]
            for name in ("freelist_count", "page_count", "page_size")
        )
        return free * size, pages * size

    def old_transactions(self, *, older_than: timedelta) -> list[OldTransaction]:
        """Return those of others, the oldest first; SQLite cannot say."""
        if self.connection.vendor == "postgresql":
            rows = self._read(OLD_SESSIONS, [older_than, older_than])
            return [OldTransaction._make(row) for row in rows]
        if self.connection.vendor == "mysql":
            limit = older_than // timedelta(microseconds=1)
            rows = self._asked(OLD_TRANSACTIONS, [limit])
            return [OldTransaction(who, timedelta(microseconds=age)) for who, age in rows]
        return []

    def _asked(self, sql: str, given: list[Any]) -> list[Any]:
        """Return the rows; none if this user of MySQL may not ask, without PROCESS."""
        try:
            with transaction.atomic(using=self.alias):  # an error may not break the caller's
                return self._read(sql, given)
        except Error:
            return []
