"""Messages of a real Celery app in a ``TestCase``, as users test code that sends them."""

from contextlib import suppress
from copy import deepcopy

import pytest
from celery import Celery
from django.conf import settings
from django.db import transaction
from django.test import TestCase, override_settings

from aftercommit.relay import publish as relay
from aftercommit.testing import assert_enqueued, capture_jobs, refute_enqueued, run_jobs
from tests.brokers.addresses import queue_name

app = Celery("assertions", broker="memory://")  # its queues are in this process
app.conf.update(task_default_queue=queue_name("testcase"), task_ignore_result=True)


@app.task(name="assertions.charge_order")
def charge(order_id, *, by="card"):
    """Do nothing: nobody takes the message."""


@app.task(name="assertions.refund_order")
def refund(order_id):
    """Do nothing."""


class Abandoned(Exception):
    """The code under test gives up."""


def relayed_tasks():
    tasks = deepcopy(settings.TASKS)
    tasks["default"]["OPTIONS"] |= {"relay": ["celery"]}
    return tasks


def delivered():
    """Take the messages that the broker has; return the headers' names of their tasks."""
    found = []
    with (
        app.connection_for_read() as connection,
        connection.SimpleQueue(app.conf.task_default_queue) as queue,
        suppress(queue.Empty),
    ):
        while True:
            message = queue.get_nowait()
            found.append(message.headers["task"])
            message.ack()
    return found


class MessagesInATestCase(TestCase):
    """What Celery's own calls leave in the transaction of a test."""

    def setUp(self):
        with_relay = override_settings(TASKS=relayed_tasks())
        with_relay.enable()
        self.addCleanup(with_relay.disable)
        relay.install()
        delivered()
        self.addCleanup(delivered)

    def test_a_call_in_the_transaction_of_the_code_is_kept_and_found(self):
        with transaction.atomic():
            charge.delay(7, by="cash")

        (job,) = assert_enqueued(charge, args=[7], kwargs={"by": "cash"}, queue="relay.celery")
        assert job.state == "ready"
        assert_enqueued("assertions.charge_order", count=1)
        refute_enqueued(charge, args=[8])
        refute_enqueued(refund)
        assert delivered() == []

    def test_a_call_that_is_rolled_back_leaves_nothing(self):
        with suppress(Abandoned), transaction.atomic():
            charge.delay(7)
            assert_enqueued(charge)
            raise Abandoned

        refute_enqueued()
        assert delivered() == []

    def test_a_call_outside_a_transaction_goes_to_the_broker(self):
        charge.delay(7)

        refute_enqueued(charge)
        assert delivered() == ["assertions.charge_order"]

    def test_a_call_after_the_commit_goes_to_the_broker(self):
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            charge.delay_on_commit(7)
            transaction.on_commit(lambda: refund.delay(7))

        refute_enqueued(refund)
        assert "assertions.refund_order" in delivered()

    def test_what_a_block_sends_is_captured(self):
        with transaction.atomic():
            charge.delay(1)
        with capture_jobs() as captured, transaction.atomic():
            charge.delay(2)
            refund.delay(2)

        assert len(captured) == 2
        assert_enqueued(charge, count=2)

    def test_a_message_is_published_if_its_queue_is_named(self):
        with transaction.atomic():
            charge.delay(7)
        assert run_jobs() == []

        (job,) = run_jobs(queue="relay.celery")

        assert job.state == "succeeded"
        assert delivered() == ["assertions.charge_order"]

    def test_an_assertion_that_fails_lists_the_message(self):
        with transaction.atomic():
            charge.delay(7)

        with pytest.raises(AssertionError) as raised:
            assert_enqueued(refund)

        assert "charge_order(7)  (message for celery, ready)" in str(raised.value)
