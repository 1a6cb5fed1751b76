"""The tables of a database that is migrated in this process: before, after, and in between."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connections
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from aftercommit.ids import new_job_id

ALIAS = "site"
BEFORE, NOW = "0002_received", "0019_workers"
FINISHED = ("succeeded", "failed", "cancelled")
STATES = ("ready", "running", "succeeded", "failed", "cancelled")
RIGHT = {  # what the flags of a job in each state are to be: claimable, unsuccessful
    "ready": (True, False),
    "running": (False, False),
    "succeeded": (False, False),
    "failed": (False, True),
    "cancelled": (False, True),
}


class Stopped(Exception):
    """The migration ends here, as if the machine had lost its power."""


class Tables:
    """The tables in a database beside those of the tests."""

    def __init__(self, settings: dict[str, Any], *, alias: str = ALIAS) -> None:
        self._settings = settings
        self._alias = alias
        self.close()
        both = {"default": settings, alias: settings}
        connections.settings[alias] = connections.configure_settings(both)[alias]

    def close(self) -> None:
        """Close the connection; the next use makes a new one, by the present settings."""
        if self._alias in connections.settings:
            connections[self._alias].close()
            del connections[self._alias]

    def beside(self, *, alias: str = "beside", **options: Any) -> "Tables":
        """Return the same tables on another connection."""
        given = {**self._settings, "OPTIONS": {**self._settings["OPTIONS"], **options}}
        return Tables(given, alias=alias)

    @property
    def connection(self) -> Any:
        """The connection that migrates."""
        return connections[self._alias]

    def use(self) -> None:
        """Make them as version 0.1 does, with a job in each state."""
        self.migrate(BEFORE)
        self.age()
        for state in STATES:
            self.add_job(state)

    def migrate(self, target: str = NOW) -> None:
        """Apply what is missing."""
        MigrationExecutor(self.connection).migrate([("aftercommit", target)])

    def age(self) -> None:
        """Say that they were made yesterday."""
        recorded = MigrationRecorder(self.connection).migration_qs
        recorded.update(applied=datetime.now(UTC) - timedelta(days=1))

    def run(self, sql: str, given: list[Any] | None = None) -> list[Any]:
        """Execute a statement; return its rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, given)
            return list(cursor.fetchall()) if cursor.description else []

    def add_job(self, state: str, *, queue: str = "default") -> str:
        """Insert a job, as version 0.1 might have."""
        at = self.moment(2026)
        row = {
            "id": self.raw(new_job_id()),
            "state": state,
            "queue": queue,
            "priority": 0,
            "run_after": self.moment(2099),  # no worker is to run it
            "backend": "default",
            "task_path": "shop.tasks.plain",
            "payload": json.dumps({"args": [], "kwargs": {}}),
            "meta": "{}",
            "token": 1,
            "attempts": 1,
            "crashes": 0,
            "conflicts": 0,
            "max_attempts": 5,
            "cancel_requested": False,
            "unique_until_started": False,
            "enqueued_at": at,
            "errors": "[]",
            "worker_id": self.raw(new_job_id()) if state == "running" else None,
            "lease_until": at if state == "running" else None,
            "finished_at": at if state in FINISHED else None,
        }
        marks = ", ".join(["%s"] * len(row))
        self.run(
            f"INSERT INTO aftercommit_job ({', '.join(row)}) VALUES ({marks})",
            list(row.values()),
        )
        return str(row["id"])

    def moment(self, year: int) -> Any:
        """Return the beginning of a year as this database takes it."""
        given = datetime(year, 1, 1, tzinfo=UTC)
        adapt = self.connection.ops.adapt_datetimefield_value
        return adapt(given.replace(tzinfo=None) if self.vendor == "mysql" else given)

    def raw(self, value: Any) -> Any:
        """Return an id as this database stores it."""
        return str(value) if self.connection.features.has_native_uuid_field else value.hex

    @property
    def vendor(self) -> str:
        """The database in Django's words."""
        return str(self.connection.vendor)

    def flags(self) -> dict[str, tuple[bool, bool]]:
        """Return the flags of one job of each state."""
        rows = self.run("SELECT state, claimable, unsuccessful FROM aftercommit_job")
        return {state: (bool(claimable), bool(bad)) for state, claimable, bad in rows}

    def shape(self) -> dict[str, Any]:
        """Return all that the server says of the tables."""
        inspect = self.connection.introspection
        with self.connection.cursor() as cursor:
            names = sorted(
                one.name
                for one in inspect.get_table_list(cursor)
                if one.name.startswith(("aftercommit", "new__"))
            )
            return (
                {
                    name: (
                        sorted(
                            inspect.get_table_description(cursor, name), key=lambda one: one.name
                        ),
                        dict(sorted(inspect.get_constraints(cursor, name).items())),
                    )
                    for name in names
                }
                | {"triggers": sorted(self.run(TRIGGERS[self.vendor]))}
                | self._invalid()
            )

    def _invalid(self) -> dict[str, Any]:
        if self.vendor != "postgresql":
            return {}
        return {
            "indexes": self.run(
                "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
            ),
            "checks": self.run("SELECT conname FROM pg_constraint WHERE NOT convalidated"),
            "storage": self.run(
                "SELECT relname, reloptions FROM pg_class WHERE relname LIKE 'aftercommit%' "
                "AND reloptions IS NOT NULL ORDER BY relname"
            ),
        }

    @contextmanager
    def stopped_before(self, chosen: Callable[[str], bool]) -> Iterator[list[str]]:
        """Stop before the first statement that is ``chosen``; return what was executed."""
        seen: list[str] = []

        def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            if chosen(sql):
                raise Stopped(sql)
            seen.append(sql)
            return execute(sql, params, many, context)

        with self.connection.execute_wrapper(watch):
            yield seen


TRIGGERS = {
    "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    "mysql": """
        SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()
    """,
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
}
