"""System checks: they report mistakes in the settings when the project starts.

``E`` stops every command, ``W`` warns. Only database aliases with jobs are checked. Checks
that query the server are run when Django checks that database: at ``migrate`` and at
``check --database default``.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register

from aftercommit.errors import MissingBackport

Check = Callable[..., list[CheckMessage]]

try:
    from aftercommit.enqueue.configured import our_backends
    from aftercommit.windows.checks.databases import check_databases
    from aftercommit.windows.checks.project import check_project
    from aftercommit.windows.checks.reads import check_reads
    from aftercommit.windows.checks.relay import check_relay
    from aftercommit.windows.checks.schedules import check_schedules
    from aftercommit.windows.checks.servers import check_servers
    from aftercommit.windows.checks.tasks import (
        check_queued_names,
        check_queued_secrets,
        check_queued_versions,
    )
    from aftercommit.windows.checks.workers import check_workers
except MissingBackport:
    WITH_DJANGO_TASKS = False
else:
    WITH_DJANGO_TASKS = True

TAG = "aftercommit"
CHECKS = {
    "aftercommit.E001": "Django is older than 6.0 and the django-tasks backport is missing",
    "aftercommit.E002": "the jobs are in a database of a kind that has no store",
    "aftercommit.E003": "the database server is older than the oldest supported version",
    "aftercommit.E004": "transactions are isolated more strictly than READ COMMITTED",
    "aftercommit.E005": "SQLite's transactions do not take the write lock when they begin",
    "aftercommit.E006": "USE_TZ is False",
    "aftercommit.E007": "the database alias stores moments in a time zone other than UTC",
    "aftercommit.E008": "PostgreSQL is reached through psycopg2",
    "aftercommit.E009": "OPTIONS['using'] names a database alias that does not exist",
    "aftercommit.E010": "an option names a module or an exception that cannot be imported",
    "aftercommit.E011": "'aftercommit' is not in INSTALLED_APPS",
    "aftercommit.E012": "the database router keeps our tables out of the jobs' database",
    "aftercommit.E013": "AUTOCOMMIT is False for the database of the jobs",
    "aftercommit.E014": "backends of one database limit a queue to different numbers",
    "aftercommit.E015": "an option of a backend, its QUEUES or its alias make no sense",
    "aftercommit.E016": "there are secret_keys, and cryptography is not installed",
    "aftercommit.E017": "a schedule in the settings names no task, or arguments it does not take",
    "aftercommit.W001": "'django_tasks' is not in INSTALLED_APPS though the backport is used",
    "aftercommit.W002": "MariaDB is older than 10.8 and ignores descending indexes",
    "aftercommit.W003": "SQLite keeps the jobs in memory, where no worker sees them",
    "aftercommit.W004": "SQLite is not in WAL mode",
    "aftercommit.W005": "the connection pool is smaller than a worker needs",
    "aftercommit.W006": "backends of one database alias differ in what its worker can have once",
    "aftercommit.W007": "the relay does not know where the messages of a library go",
    "aftercommit.W008": "tasks are sent to Celery before the commit",
    "aftercommit.W009": "backends relay one library in different ways",
    "aftercommit.W010": "PostgreSQL is behind a pooler in transaction mode, with session locks",
    "aftercommit.W011": "messages have waited for a relay for more than a minute",
    "aftercommit.W012": "the path of the SQLite database is relative",
    "aftercommit.W013": "an index of our tables is missing",
    "aftercommit.W014": "the tables are from a MariaDB that had no type UUID",
    "aftercommit.W015": "jobs wait for tasks that nothing declares",
    "aftercommit.W016": "a limit is set for a queue that the backend does not have",
    "aftercommit.W017": "jobs wait for newer versions of tasks than this code has",
    "aftercommit.W018": "queued calls of an earlier version cannot be upgraded",
    "aftercommit.W019": "jobs wait whose secrets are encrypted with a key that is missing",
    "aftercommit.W020": "a task names a replica that no router of ours lets it read from",
    "aftercommit.W021": "jobs are due where no worker was ever seen",
}


def register_checks() -> None:
    """Register the checks with Django; called when the apps are ready."""
    if not WITH_DJANGO_TASKS:
        register(check_backport, TAG)
        return
    register(check_project, TAG)
    register(_if_readable(check_databases), TAG)
    register(_if_readable(check_reads), TAG)
    register(_if_readable(check_schedules), TAG)
    register(_if_readable(check_relay), TAG, deploy=True)
    register(_if_readable(check_queued_names), TAG, deploy=True)
    register(_if_readable(check_queued_versions), TAG, deploy=True)
    register(_if_readable(check_queued_secrets), TAG, deploy=True)
    register(_if_readable(check_workers), TAG, deploy=True)
    # This tag only: by another tag they would query, too.
    register(_if_readable(check_servers), Tags.database)


@cache  # whoever registers twice, as an app that is made ready again does, registers the same
def _if_readable(check: Check) -> Check:
    """Leave a check out if TASKS cannot be read, which ``check_project`` says."""

    @wraps(check)
    def checked(**kwargs: Any) -> list[CheckMessage]:
        return [] if any(one.mistake for one in our_backends()) else check(**kwargs)

    return checked


def check_backport(**_kwargs: Any) -> list[CheckMessage]:
    """Report that ``django.tasks`` is missing; the other checks cannot be imported then."""
    return [
        Error(
            "This Django has no django.tasks, and its backport is not installed, so no task "
            "can be declared or run.",
            hint="pip install 'aftercommit[backport]' and add 'django_tasks' to "
            "INSTALLED_APPS, or use Django 6.0 or newer.",
            id="aftercommit.E001",
        )
    ]
