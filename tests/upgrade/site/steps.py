"""What a site does with the one version or the other.

Each step is a function; the command line names one and its arguments, and what it returns
is printed.
"""

import json
import sys
import time
from uuid import UUID

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import OperationalError, connection, transaction  # noqa: E402
from lives import claim_all, leave, live, take_over, wrong  # noqa: E402, F401
from shop import messages, tasks  # noqa: E402
from shop.notes import note, there_is  # noqa: E402

import aftercommit  # noqa: E402
from aftercommit import schedule  # noqa: E402
from aftercommit.models import Job  # noqa: E402
from aftercommit.store import store_for  # noqa: E402

TASKS = {task.module_path for task in (tasks.plain, tasks.atomic, tasks.unlucky, tasks.endless)}


def enqueue(word):
    """Enqueue one job of each kind, and a message, in a transaction."""
    with transaction.atomic():
        messages.send(f"{word} message")
        return {
            "plain": tasks.plain.enqueue(f"{word} plain").id,
            "atomic": tasks.atomic.enqueue(f"{word} atomic").id,
            "function": schedule("shop.tasks.function", args=(f"{word} function",)).id,
        }


def enqueue_trouble():
    """Enqueue a job that fails and one that does not end by itself."""
    return {
        "failed": tasks.unlucky.enqueue("failed").id,
        "running": tasks.endless.enqueue("running").id,
    }


def go_on_enqueuing():
    """Enqueue one job after the other until there are enough; note each that is there."""
    number = 0
    while not there_is("enough"):
        try:
            tasks.plain.enqueue(f"new {number}")
        except OperationalError:  # SQLite: the migration has taken longer than its timeout
            continue
        note(f"enqueued new {number}")
        number += 1
        time.sleep(0.05)


# The server counts a while across transactions: an index that was built just before, as well.
READ_AND_HELD = """
SELECT seq_tup_read + coalesce(idx_tup_fetch, 0), EXISTS (
    SELECT FROM pg_locks
    WHERE pid = pg_backend_pid() AND relation = relid
        AND mode = 'AccessExclusiveLock' AND granted
)
FROM pg_stat_xact_user_tables WHERE relname = 'aftercommit_job'
"""


def migrate():
    """Migrate; return how long it took, and what happened while the table was locked."""
    begins = time.monotonic()
    found = {"under_lock": [], "read": [], "held": 0.0}
    if connection.vendor == "postgresql":
        _watch_lock(found)
    call_command("migrate", verbosity=0)
    return {**found, "seconds": time.monotonic() - begins}


def _watch_lock(found):
    since = []

    def read_and_held():
        with connection.connection.cursor() as raw:
            return raw.execute(READ_AND_HELD).fetchone() or (0, False)

    def watch(execute, sql, params, many, context):
        before = time.monotonic()
        failed = connection.connection.info.transaction_status.name == "INERROR"
        if failed or not connection.in_atomic_block:
            return execute(sql, params, many, context)
        already, _held = read_and_held()
        answer = execute(sql, params, many, context)
        read, held = read_and_held()
        if held:
            since[:] = since or [before]
            found["under_lock"].append(" ".join(str(sql).split()))
            found["read"].append(read - already)
        return answer

    def commit():
        plain()
        if since:
            found["held"] += time.monotonic() - since.pop()

    connection.ensure_connection()
    plain, connection._commit = connection._commit, commit
    connection.execute_wrappers.append(watch)


def retry(*ids):
    """Let failed jobs run again; return which will."""
    return sorted(map(str, store_for("default").retry(list(map(UUID, ids))).ready))


def read(*ids):
    """Return what the table says of jobs, in their order, and what else there is to see."""
    jobs = [Job.objects.get(pk=one) for one in ids]
    return {
        "package": aftercommit.__file__,
        "states": [job.state for job in jobs],
        "values": [job.return_value for job in jobs],
        "errors": [one["exception_class_path"] for job in jobs for one in job.error_list],
        "told": [told(job) for job in jobs if job.task_path in TASKS],
        "sent": messages.huey.pending_count(),
    }


def told(job):
    """Return what the result of a task tells."""
    result = tasks.plain.get_backend().get_result(str(job.id))
    return result.return_value if result.status.name == "SUCCESSFUL" else result.status.name


if __name__ == "__main__":
    step, *words = sys.argv[1:]
    print(json.dumps(globals()[step](*words), default=str))
