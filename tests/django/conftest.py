"""What the tests of the way in share."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connections

from aftercommit._compat import BaseTaskBackend
from aftercommit.models import Job
from aftercommit.store import store_for
from aftercommit.values import ClaimQuery
from tests.django.dashboard import ALL

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


def in_another_thread(function):
    """Call a function on connections of its own, as another process would."""

    def call():
        try:
            return function()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


@pytest.fixture
def staff(client):
    """Return a function that logs in a member of staff who may do something in the dashboard."""

    def log_in(*may, is_staff=True, is_active=True):
        names = [ALL[one] for one in may]
        user = User.objects.create_user("ann", is_staff=is_staff, is_active=is_active)
        user.user_permissions.set(
            Permission.objects.filter(
                codename__in=names, content_type__app_label__startswith="aftercommit"
            )
        )
        client.force_login(user)
        return client

    return log_in
