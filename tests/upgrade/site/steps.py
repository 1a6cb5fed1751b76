"""What a site does with the one version or the other.

``enqueue WORD``, ``endless WORD`` and ``failing WORD`` print the ids of jobs, ``read ID...`` and
``told ID`` print what became of them, ``retry ID...`` lets failed ones run again.
"""

import json
import sys
from uuid import UUID

import django

django.setup()

from django.db import transaction  # noqa: E402
from shop import messages, tasks  # noqa: E402

import aftercommit  # noqa: E402
from aftercommit import schedule  # noqa: E402
from aftercommit.models import Job  # noqa: E402
from aftercommit.store import store_for  # noqa: E402


def package():
    """Return whose code this is."""
    return aftercommit.__file__


def enqueue(word):
    """Enqueue one job of each kind, and a message, in a transaction."""
    with transaction.atomic():
        messages.send(f"{word} message")
        return {
            "plain": tasks.plain.enqueue(f"{word} plain").id,
            "atomic": tasks.atomic.enqueue(f"{word} atomic").id,
            "function": schedule("shop.tasks.function", args=(f"{word} function",)).id,
        }


def endless(word):
    """Enqueue a job that does not end by itself."""
    return tasks.endless.enqueue(word).id


def failing(word):
    """Enqueue a job that fails."""
    return tasks.unlucky.enqueue(word).id


def read(*ids):
    """Return what the table says of jobs, in their order."""
    jobs = [Job.objects.get(pk=one) for one in ids]
    return [
        {
            "state": job.state,
            "value": job.return_value,
            "errors": [one["exception_class_path"] for one in job.error_list],
        }
        for job in jobs
    ]


def told(job_id):
    """Return what the result of a task tells."""
    result = tasks.plain.get_backend().get_result(job_id)
    return [result.status.name, result.return_value]


def retry(*ids):
    """Let failed jobs run again; return which will."""
    return sorted(map(str, store_for("default").retry(list(map(UUID, ids))).ready))


def sent():
    """Return how many messages Huey has got."""
    return messages.huey.pending_count()


if __name__ == "__main__":
    step, *words = sys.argv[1:]
    print(json.dumps(globals()[step](*words)))
