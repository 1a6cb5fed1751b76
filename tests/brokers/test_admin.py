"""Messages in Django's admin: what they are called, and of their content what is JSON."""

import pytest
from celery import chain
from django.contrib.auth.models import User
from django.db import transaction
from django.urls import reverse

from aftercommit import ordering_key
from aftercommit.relay.brokers.readable import readable
from tests.brokers.addresses import broker_url
from tests.brokers.conftest import kept, run_relay
from tests.brokers.shop import note
from tests.brokers.yard import actor, huey_task, rq_queue
from tests.brokers.yard import note as function

pytestmark = pytest.mark.django_db(databases=["default", "other"])

LIST = reverse("admin:aftercommit_job_changelist")
CANARY = "canary-of-4711"
LIBRARIES = ["celery", "dramatiq", "huey"]
SENT = {
    "celery, JSON": ("shop.note", True, lambda: note.delay(CANARY)),
    "celery, chain": (
        "shop.note",
        True,
        lambda: chain(note.si("a"), note.si(CANARY)).apply_async(priority=1),
    ),
    "celery, pickle": (
        "shop.note",
        False,
        lambda: note.apply_async(args=[CANARY], serializer="pickle"),
    ),
    "celery, compressed": (
        "shop.note",
        False,
        lambda: note.apply_async(args=[CANARY], compression="gzip"),
    ),
    "dramatiq": ("yard.note", True, lambda: actor.send(CANARY)),
    "huey": ("huey_note", False, lambda: huey_task(CANARY)),
    "rq": (
        "tests.brokers.yard.note",
        False,
        lambda: rq_queue.enqueue(function, CANARY, meta={"who": CANARY}, description=CANARY),
    ),
}


@pytest.fixture
def site(relayed, redis):
    relayed(libraries={"rq": {"url": broker_url("redis")}} | {name: {} for name in LIBRARIES})


@pytest.fixture
def browser(transactional_db, client):
    client.force_login(User.objects.create_superuser("admin"))
    return client


def page_of(message):
    return reverse("admin:aftercommit_job_change", args=[message.pk])


@pytest.mark.parametrize("way", SENT)
def test_name_id_and_size_are_shown_and_of_the_content_what_is_json(way, site, browser):
    name, is_json, send = SENT[way]
    with transaction.atomic(), ordering_key("account-1"):
        send()
    (message,) = kept()
    listed, page = browser.get(LIST).text, browser.get(page_of(message)).text

    assert name in listed
    for known in (name, message.meta["message_id"], "account-1", f"{len(message.payload)} bytes"):
        assert known in page
    assert (CANARY in page) == is_json
    assert ("Not JSON, so it is not shown." in page) != is_json
    assert CANARY not in listed


def test_messages_are_found_by_their_name_and_by_the_id_that_their_library_knows(site, browser):
    with transaction.atomic():
        by_celery, by_rq = note.delay("a"), rq_queue.enqueue(function, "a")

    for query, ids in [
        ({"q": by_celery.id}, {by_celery.id}),
        ({"q": "YARD.note"}, {by_rq.id}),
        ({"queue": "relay.celery"}, {by_celery.id}),
    ]:
        found = browser.get(LIST, query).context["cl"].result_list
        assert {one.meta["message_id"] for one in found} == ids


def test_a_message_that_is_cancelled_is_not_published_until_it_is_retried(site, browser):
    with transaction.atomic():
        job = rq_queue.enqueue(function, "a")
    (message,) = kept()

    act(browser, "cancel_selected", message)
    run_relay()
    assert rq_queue.job_ids == []

    act(browser, "retry_selected", message)
    run_relay()
    assert rq_queue.job_ids == [job.id]
    job.delete()


def act(browser, action, message):
    browser.post(LIST, {"action": action, "_selected_action": [str(message.pk)]})


def test_the_messages_of_another_backend_of_django_tasks_are_json():
    content = {"alias": "mail", "task": "shop.tasks.pay", "args": [1], "kwargs": {"to": "x"}}

    assert readable(content) == [{"args": [1], "kwargs": {"to": "x"}}]


def test_a_package_of_django_q_is_not_read():
    assert readable({"key": "django_q", "package": "gASVCgAAAAAAAAB9lCiMAWGUSwF1Lg:1q"}) == []
