"""Tasks with secret arguments, and the keys of a test."""

from base64 import urlsafe_b64encode
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection

from aftercommit import Secret, task

CANARY = "canary-4111-1111"
OLD, NEW = (urlsafe_b64encode(bytes([number]) * 32).decode() for number in (1, 2))
got = []


@task
def charge(order_id, card: Secret[str], *, extra=None):
    got.append((order_id, card, extra))
    if order_id == "refused":
        raise ValueError(f"card {card.reveal()} refused")


@task
def pay(order):
    got.append(order)


@task
def returned(card):
    return {"card": card}


@task(unique="until_finished", limit=1, limit_by=("card",), rate="60/m", rate_by=("card",))
def alike(card):
    got.append(card.reveal())


@task(unique="until_finished", unique_by=("order_id",), on_conflict="replace")
def replaced(order_id, card):
    got.append((order_id, card.reveal()))


def raises(version, args, kwargs):
    raise ValueError(f"{args[0].reveal()} of version {version}")


@task(version=2, upgrade=raises)
def upgraded(card):
    got.append(card)


def kept(order_id, card):
    """Be called by path."""
    got.append((order_id, card))


@pytest.fixture(autouse=True)
def keys(settings):
    """Let the only backend have these keys."""

    def have(*keys, **options):
        given = settings.TASKS["default"]
        options = {**given.get("OPTIONS", {}), "secret_keys": list(keys), **options}
        settings.TASKS = {"default": {**given, "OPTIONS": options}}

    got.clear()
    have(OLD)
    return have


def run():
    call_command("flush_queue")


def row(job_id):
    """Return all columns of a job, as text."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM aftercommit_job")
        return str([one for one in cursor.fetchall() if UUID(str(one[0])) == UUID(job_id)])
