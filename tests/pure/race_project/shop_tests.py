"""The tests of the project; copied and run by tests/pure/test_pytest_race.py."""

from functools import partial

import pytest
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase
from shop.models import Order
from shop.tasks import order_by_canvas, order_naively, order_rightly, send_receipt


class PlainTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.order = Order.objects.create()

    def setUp(self):
        self.other = Order.objects.create()

    def test_naive(self):
        order_naively()
        self.assertEqual(Order.objects.count(), 3)

    def test_right(self):
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            order_rightly()
        self.assertEqual(len(callbacks), 1)
        self.assertEqual(Order.objects.count(), 3)

    def test_eager_chain(self):
        order_by_canvas("chain")

    def test_eager_group(self):
        order_by_canvas("group")

    def test_eager_chord(self):
        order_by_canvas("chord")

    def test_rows_of_the_class_are_seen_by_the_task(self):
        send_receipt.delay(self.order.pk)
        self.order.refresh_from_db()
        self.assertTrue(self.order.mailed)

    def test_that_fails_by_itself(self):
        order_naively()
        self.fail("as ever")

    def test_without_a_task(self):
        self.assertEqual(Order.objects.count(), 2)

    def test_callback_is_not_called(self):
        order_rightly()
        self.assertEqual(Order.objects.count(), 3)

    def test_callback_without_a_task(self):
        transaction.on_commit(order_rightly.__name__.upper)

    def test_callback_that_fails(self):
        transaction.on_commit(partial(int, "no number"))


class CommittingTests(TransactionTestCase):
    def test_naive(self):
        assert order_naively().pk

    def test_right(self):
        order_rightly()


@pytest.fixture
def order(db):
    return Order.objects.create()


def test_naive_function(order):
    order.delete()
    order_naively()
    assert Order.objects.count() == 1


def test_right_function(order, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        order_rightly()
    assert len(callbacks) == 1


def test_that_mocks_the_commit(order, monkeypatch):
    seen = []
    monkeypatch.setattr(send_receipt, "run", seen.append)
    order_naively()
    order_naively()
    assert len(seen) == 2
    assert Order.objects.db_manager("default").count() == 3


def test_that_wants_to_be_inside_a_transaction(db):
    order_rightly()
    order_naively()
    assert connection.in_atomic_block


def test_nothing_is_left():
    assert True
