"""A site with django-q2, in a process of its own: its app is not among those of the tests.

Prints what it has seen as JSON; ``python -m tests.brokers.cluster`` after ``migrate``.
"""

import json
import os
from functools import partial

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.brokers.cluster_settings"

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402
from django.test import override_settings  # noqa: E402
from django_q.brokers import get_broker  # noqa: E402
from django_q.brokers.orm import ORM  # noqa: E402
from django_q.conf import Conf  # noqa: E402
from django_q.signing import SignedPackage  # noqa: E402
from django_q.tasks import async_chain, async_task  # noqa: E402

from aftercommit.errors import DispatchInTransaction  # noqa: E402
from aftercommit.models import Job  # noqa: E402
from tests.brokers.conftest import run_relay  # noqa: E402


def main() -> None:
    """Send in each way, commit and roll back."""
    call_command("migrate", verbosity=0)
    seen = {}
    for name, way in WAYS.items():
        broker = get_broker()
        broker.delete_queue()
        with transaction.atomic():
            way()
            before = broker.queue_size()
        kept = [job.meta["message_id"] for job in Job.objects.filter(state="ready")]
        with transaction.atomic():
            way()
            transaction.set_rollback(True)
        run_relay()
        there = [SignedPackage.loads(one)["id"] for one in packages(broker)]
        seen[name] = {"before": before, "kept": kept, "there": there}
    broker.delete_queue()
    print(json.dumps({**seen, "guard": guarded(broker)}))


def guarded(broker) -> dict:
    """Return what the guard says: with the relay, without it, and to the ORM broker."""
    from aftercommit.guard import install  # noqa: PLC0415 - not before the rest is seen

    install(mode="raise")
    said = {}
    for name, way in WAYS.items():
        with_relay, (alone, subject) = rule_of(way), ("", "")
        with override_settings(TASKS={}):
            alone, subject = rule_of(way)
        said[name] = [with_relay[0], alone, subject, broker.queue_size()]
    Conf.ORM = "default"
    in_table = partial(async_task, "math.copysign", 2, -2, broker=ORM())
    said["orm"] = [rule_of(in_table)[0], rule_of(in_table, using="other")[0]]
    with override_settings(TASKS={}):
        said["sync"] = rule_of(partial(async_task, "math.copysign", 2, -2, sync=True))[0]
    return said


def rule_of(way, using="default") -> list[str]:
    """Return the rule that the guard names, and for what; empty strings if it names none."""
    try:
        with transaction.atomic(using=using):
            way()
            transaction.set_rollback(True, using=using)
    except DispatchInTransaction as error:
        return [error.finding.rule, error.finding.subject]
    return ["", ""]


def packages(broker) -> list[bytes]:
    """Return what is in the queue."""
    return broker.connection.lrange(broker.list_key, 0, -1)


WAYS = {
    "async_task": lambda: async_task("math.copysign", 2, -2),
    "chain": lambda: async_chain([("math.copysign", (1, -1)), ("math.floor", (1,))]),
}

if __name__ == "__main__":
    main()
