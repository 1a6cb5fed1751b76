"""What the tests of the way in share."""

from datetime import timedelta
from uuid import uuid4

import pytest

from aftercommit._compat import BaseTaskBackend
from aftercommit.models import Job
from aftercommit.store import store_for
from aftercommit.values import ClaimQuery

DJANGO_TASKS = BaseTaskBackend.__module__.rpartition(".base")[0]
IMMEDIATE = {"BACKEND": f"{DJANGO_TASKS}.immediate.ImmediateBackend"}
DUMMY = {"BACKEND": f"{DJANGO_TASKS}.dummy.DummyBackend", "QUEUES": []}


# What a task of Django 6.0 has no defaults for.
FIELDS = {"priority": 0, "backend": "default", "queue_name": "default", "run_after": None}


def ours(*, queues=(), **options):
    """Return the settings of a backend of ours; no queues allow any."""
    return {
        "BACKEND": "aftercommit.DatabaseBackend",
        "QUEUES": list(queues),
        "OPTIONS": options,
    }


@pytest.fixture
def backends(settings):
    """Let a test say what TASKS is."""

    def set_backends(**tasks):
        settings.TASKS = tasks

    return set_backends


def only_job(using="default"):
    """Return the one job of an alias."""
    return Job.objects.using(using).get()


def claim_only_job(*, queue="default", using="default", worker_id=None):
    """Claim the one job of a queue, as a worker does."""
    (claim,) = store_for(using).claim(
        ClaimQuery(
            queue=queue,
            limit=2,
            worker_id=worker_id or uuid4(),
            lease=timedelta(minutes=1),
        )
    )
    return claim
