"""The reproducer in a site with django-q2; prints as JSON what it has found."""

import json
import os
from copy import deepcopy
from functools import partial

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.brokers.cluster_settings"

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402
from django.test.utils import override_settings, setup_test_environment  # noqa: E402
from django_q.brokers.orm import ORM  # noqa: E402
from django_q.conf import Conf  # noqa: E402
from django_q.tasks import async_chain, async_task  # noqa: E402

from aftercommit.reproduce import drop_copies, find_races  # noqa: E402
from tests.django import race_stories  # noqa: E402

PATH = "tests.django.race_stories.complete"
WAYS = {
    "function": lambda pk: async_task(race_stories.complete, pk),
    "path": lambda pk: async_task(PATH, pk),
    "chain": lambda pk: async_chain([(PATH, (pk,)), (PATH, (pk,))]),
    "sync setting": lambda pk: async_task(PATH, pk),
    "orm": lambda pk: async_task(PATH, pk, broker=ORM()),
}


def main() -> None:
    """Try each way, at once and by on_commit()."""
    call_command("migrate", verbosity=0)
    setup_test_environment()
    seen = {}
    tasks = deepcopy(settings.TASKS)
    del tasks["default"]["OPTIONS"]["relay"]
    with override_settings(TASKS=tasks):
        for name, send in WAYS.items():
            Conf.SYNC = name == "sync setting"
            Conf.ORM = "default" if name == "orm" else None
            seen[name] = {"naive": races(send), "on_commit": races(later(send))}
    drop_copies()
    print(json.dumps(seen))


def later(send):
    """Return what sends after the commit."""
    return lambda pk: transaction.on_commit(partial(send, pk))


def races(send) -> list[str]:
    """Return the schedules that lead to another result."""
    body = partial(race_stories.create_row, send)
    found = find_races(body, schedules=["early", "rollback", "crash"])
    assert {one.error for one in found.expected.ran} == {None}, str(found)
    return sorted({one.schedule.value for one in found.races})


if __name__ == "__main__":
    main()
