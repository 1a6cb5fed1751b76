"""A task that starts minutes later meets no open transaction."""

import pytest

from tests.lint.projects import findings

IMPORTS = """
from datetime import timedelta
from celery import shared_task
import django_rq
import dramatiq
from shop.models import Order
@shared_task
def send(pk): ...
@dramatiq.actor
def post(pk): ...
"""
SHORT = {
    "celery": "send.apply_async([order.pk], countdown=20)",
    "just below a minute": "send.apply_async([order.pk], countdown=59.5)",
    "milliseconds": "post.send_with_options(args=[order.pk], delay=5000)",
    "unknown": "send.apply_async([order.pk], countdown=wait)",
    "none": "send.apply_async([order.pk], countdown=0)",
    "a moment": "send.apply_async([order.pk], eta=timedelta(hours=wait))",
    "no number": "send.apply_async([order.pk], countdown=True)",
    "a sum": "send.apply_async([order.pk], countdown=wait + 60)",
    "other words": "send.apply_async([order.pk], countdown=timedelta(fortnights=1))",
}
LONG = {
    "celery": "send.apply_async([order.pk], countdown=60)",
    "a product": "send.apply_async([order.pk], countdown=2 * 60)",
    "milliseconds": "post.send_with_options(args=[order.pk], delay=120_000)",
    "a span": "django_rq.get_scheduler('x').enqueue_in(timedelta(minutes=2), send, order.pk)",
}


def severities(folder, dispatch):
    files = {
        "shop/models.py": "from django.db import models\nclass Order(models.Model): ...\n",
        "shop/code.py": f"{IMPORTS}\ndef f(wait):\n    order = Order.objects.create()\n"
        f"    {dispatch}\n",
        "requirements.txt": "django-rq==3.2.0\n",
    }
    return [(one.rule, str(one.severity)) for one in findings(folder, files)]


@pytest.mark.parametrize("name", SHORT)
def test_a_dispatch_that_may_start_at_once_is_a_warning(name, tmp_path):
    assert severities(tmp_path, SHORT[name]) == [("AC210", "warning")]


@pytest.mark.parametrize("name", LONG)
def test_a_dispatch_that_starts_minutes_later_is_a_matter_of_policy(name, tmp_path):
    assert severities(tmp_path, LONG[name]) == [("AC210", "policy")]


def test_an_error_stays_one_because_of_the_rollback(tmp_path):
    code = (
        "from django.db import transaction\nfrom celery import shared_task\n"
        "@shared_task\ndef send(pk): ...\ndef f(order):\n    with transaction.atomic():\n"
        "        order.save()\n        send.apply_async([order.pk], countdown=3600)\n"
    )

    found = findings(tmp_path, {"shop/code.py": code})

    assert [(one.rule, str(one.severity)) for one in found] == [("AC101", "error")]


@pytest.mark.parametrize("seconds", [5, 30])
def test_some_seconds_are_named_beside_the_race_and_count_as_no_second_one(seconds, tmp_path):
    code = (
        "from django.db import transaction\nfrom celery import shared_task\n"
        "@shared_task\ndef send(pk): ...\ndef f(order):\n    with transaction.atomic():\n"
        f"        order.save()\n        send.apply_async([order.pk], countdown={seconds})\n"
    )

    found = findings(tmp_path, {"shop/code.py": code})

    assert [(one.rule, str(one.severity)) for one in found] == [
        ("AC101", "error"),
        ("AC221", "policy"),
    ]
