"""Which transactions count, and where they were opened."""

from contextlib import contextmanager
from threading import Thread

import pytest
from asgiref.sync import async_to_sync
from django.core.handlers.base import BaseHandler
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.test import RequestFactory, TestCase, TransactionTestCase
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from aftercommit.errors import DispatchInTransaction
from tests.app.models import Effect

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def _on(watch):
    watch(mode="raise")


def refused(send):
    with pytest.raises(DispatchInTransaction) as caught:
        send()
    return caught.value.finding


@transaction.atomic
def place_order(send):
    return send()


def test_outside_a_transaction_everything_is_sent(send):
    assert send() == "sent"
    with transaction.atomic():
        pass
    assert send() == "sent"


def test_inside_it_is_refused_and_nothing_is_sent(send):
    with transaction.atomic():
        refused(send)

    assert send.sent == []


def test_a_savepoint_that_ends_does_not_end_the_transaction(send):
    with transaction.atomic():
        with transaction.atomic():
            refused(send)
        found = refused(send)
    send()

    assert len(found.transactions) == 1
    assert send.sent == ["shop.tasks.send_receipt"]


def test_an_instance_that_is_used_again_inside_itself(send):
    block = transaction.atomic()
    with block:
        with block:
            pass
        refused(send)
    assert send() == "sent"


def test_a_transaction_that_rolled_back_is_over(send):
    with pytest.raises(ValueError, match="no"), transaction.atomic():
        raise ValueError("no")

    assert send() == "sent"


@pytest.mark.parametrize("outer", [lambda view: view, csrf_exempt])
def test_a_view_of_a_class_is_named_by_its_class(send, monkeypatch, outer):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    found = []

    class Orders(View):
        @method_decorator(never_cache)
        def dispatch(self, request):
            found.append(refused(send))
            return HttpResponse()

    view = BaseHandler().make_view_atomic(outer(Orders.as_view()))
    view(RequestFactory().get("/"))

    assert f"opened by @atomic of {__name__}.{Orders.__qualname__}, called" in str(found[0])


def test_any_database_counts(send):
    with transaction.atomic("other"):
        found = refused(send)

    assert [one.alias for one in found.transactions] == ["other"]


def test_a_callback_runs_after_the_commit_and_may_open_another_transaction(send):
    def callback():
        send("callback")
        with transaction.atomic(), pytest.raises(DispatchInTransaction):
            send("inside")
        send("after")

    with transaction.atomic():
        transaction.on_commit(callback)

    assert send.sent == ["callback", "after"]


def test_a_connection_that_was_closed_has_no_transaction(send):
    block = transaction.atomic()
    block.__enter__()
    connection.close()
    block.__exit__(None, None, None)

    assert send() == "sent"


def test_a_thread_has_transactions_of_its_own(send):
    results = []

    def elsewhere():
        results.append(send())
        connections.close_all()

    with transaction.atomic():
        thread = Thread(target=elsewhere)
        thread.start()
        thread.join()

    assert results == ["sent"]


def test_a_coroutine_inside_a_transaction_belongs_to_it(send):
    async def dispatch():
        refused(send)

    with transaction.atomic():
        async_to_sync(dispatch)()
    assert send() == "sent"


def test_the_message_says_where_both_stand(send):
    with transaction.atomic():
        opened = here() - 1
        found = refused(send)

    text = str(found)
    assert f"test_transactions.py:{opened} in test_the_message_says_where_both_stand" in text
    assert "conftest.py" in text.splitlines()[0]  # that is where the dispatch stands
    assert "AC101 shop.tasks.send_receipt is sent to its broker inside an open tran" in text


def test_the_block_of_a_test_is_not_where_it_was_opened(send):
    block = transaction.atomic()
    block._from_testcase = True
    with block:
        with transaction.atomic():
            opened = here() - 1
            found = refused(send)
        send()

    assert found.transactions[0].stack[0].line == opened
    assert len(send.sent) == 1


def test_a_decorator_is_named_with_its_function(send):
    with pytest.raises(DispatchInTransaction) as caught:
        place_order(send)

    assert "by @atomic of tests.guard.test_transactions.place_order" in str(caught.value)


def test_a_context_manager_of_the_project_is_named_with_its_caller(send):
    @contextmanager
    def unit_of_work():
        with transaction.atomic():
            yield

    with unit_of_work():
        found = refused(send)

    functions = [place.function for place in found.transactions[0].stack]
    assert functions[0].endswith("unit_of_work")
    assert functions[1].startswith("test_a_context_manager")


def test_a_transaction_of_django_is_named_with_who_called_it(send):
    from django.db.models.signals import post_save  # noqa: PLC0415 - beside its only use

    def receiver(**_):
        refused(send)

    post_save.connect(receiver, sender=Effect)
    try:
        Effect.objects.get_or_create(key="a")
    finally:
        post_save.disconnect(receiver, sender=Effect)


def here():
    """Return the line of the caller."""
    import sys  # noqa: PLC0415 - a tool of this file

    return sys._getframe(1).f_lineno


class InTestCase(TestCase):
    """The transactions around a test are those of the test, not of the project."""

    databases = ("default", "other")

    @pytest.fixture(autouse=True)
    def _send(self, send):
        self.send = send

    def test_the_blocks_of_the_test_do_not_count(self):
        assert self.send() == "sent"

    def test_a_block_of_the_project_counts(self):
        with transaction.atomic():
            refused(self.send)
        assert self.send() == "sent"

    def test_captured_callbacks_run_after_the_block(self):
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            transaction.on_commit(self.send)

        assert self.send.sent == ["shop.tasks.send_receipt"]


class InTransactionTestCase(TransactionTestCase):
    """Nothing is open around the test."""

    @pytest.fixture(autouse=True)
    def _send(self, send):
        self.send = send

    def test_a_block_of_the_project_counts(self):
        assert self.send() == "sent"
        with transaction.atomic():
            refused(self.send)
