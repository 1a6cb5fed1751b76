"""A crash before and after each statement of a task: which tasks stand it, and which do not."""

import pytest
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase

from aftercommit import task
from aftercommit.errors import ConfigurationError
from aftercommit.models import Job
from aftercommit.testing import assert_effects_once, crash, snapshot
from tests.app.models import Account, Effect
from tests.app.tasks import async_effect, atomic_effect, committed_effect, fail, plain_effect

sent: list[str] = []


@task
def looks_first(key):
    Effect.objects.get_or_create(key=key)


@task
def adds_up(account):
    row = Account.objects.get(pk=account)
    row.balance += 1
    row.save()


@task
def adds_up_once(account, key):
    with transaction.atomic():
        _row, is_new = Effect.objects.get_or_create(key=key)
        if is_new:
            adds_up.func(account)


@task
def enqueues_another(key):
    atomic_effect.enqueue(key)


@task(atomic=True)
def enqueues_another_with_its_end(key):
    atomic_effect.enqueue(key)


@task
def takes_a_name(pk):
    Account.objects.create(pk=pk + 1)


@task
def sends(key):
    sent.append(key)
    list(Effect.objects.all())


@task
def cleans_up(key):
    try:
        Effect.objects.create(key=key)
    finally:
        Effect.objects.filter(key=key).delete()


@task
def swallows_everything(key):
    try:
        Effect.objects.create(key=key)
        Effect.objects.create(key=key)
    except BaseException:
        Effect.objects.create(key="written by a dead process")


@task
def writes_a_lot(number):
    for _each in range(number):
        Effect.objects.count()


def said(*args, **kwargs):
    with pytest.raises(AssertionError) as raised:
        assert_effects_once(*args, **kwargs)
    return str(raised.value)


class Cases:
    databases = {"default"}

    def setUp(self):
        sent.clear()
        self.account = Account.objects.create(balance=7)
        Effect.objects.create(key="was there")

    def assert_nothing_is_left(self):
        assert list(Effect.objects.values_list("key", flat=True)) == ["was there"]
        assert Account.objects.get().balance == 7
        assert Job.objects.count() == 0
        assert connection.execute_wrappers == []

    def test_a_plain_task_that_inserts_is_found(self):
        text = said(plain_effect, "one")

        head, *lines = text.splitlines()
        assert head.startswith("tests.app.tasks.plain_effect: its worker dies after INSERT INTO")
        assert "(point 2 of " in head
        assert lines[0] == "  app_effect: 3 instead of 2"
        assert lines[1].startswith("    + ")
        assert "key='one'" in lines[1]
        assert "atomic=True" in lines[-1]
        self.assert_nothing_is_left()

    def test_atomic_tasks_pass(self):
        assert_effects_once(atomic_effect, "one")
        assert_effects_once(committed_effect, "two")
        assert_effects_once(enqueues_another_with_its_end, "three")
        self.assert_nothing_is_left()

    def test_a_plain_task_that_looks_first_passes(self):
        assert_effects_once(looks_first, "one")
        assert_effects_once(adds_up_once, self.account.pk, key="two")
        self.assert_nothing_is_left()

    def test_a_sum_that_grows_twice_is_found(self):
        text = said(adds_up, self.account.pk)

        assert "app_account: 1 instead of 1" in text
        assert "+ id=" in text
        assert "balance=9" in text
        assert "balance=8" in text
        self.assert_nothing_is_left()

    def test_a_job_that_is_enqueued_twice_is_found(self):
        text = said(enqueues_another, "one")

        assert "jobs that it has enqueued: 2 instead of 1" in text
        assert "tests.app.tasks.atomic_effect" in text

    def test_a_second_run_that_raises_is_found(self):
        text = said(takes_a_name, self.account.pk)

        assert "exceptions when it is run again: 1 instead of 0" in text
        assert "IntegrityError" in text

    def test_a_coroutine_is_tried_as_well(self):
        assert "app_effect: 3 instead of 2" in said(async_effect, "one")

    def test_a_dead_process_cleans_nothing_up(self):
        assert "after INSERT INTO" not in said_or_nothing(cleans_up, "one")

    def test_whoever_swallows_the_crash_is_dead_all_the_same(self):
        text = said(swallows_everything, "one")

        assert "dies after INSERT INTO" in text
        assert "app_effect: 4 instead of 3" in text

    def test_effects_outside_are_compared_by_recorders(self):
        text = said(sends, "mail", outside={"mails": sent})

        assert "mails: 2 instead of 1" in text
        assert "+ 'mail'" in text
        assert sent == []
        assert_effects_once(sends, "mail")

    def test_what_is_ignored_is_not_compared(self):
        assert_effects_once(plain_effect, "one", ignore={"app_effect"})
        text = said(plain_effect, "one", ignore={"app_effect.key"})
        assert "key=" not in text

    def test_an_error_without_a_crash_is_the_tests_to_see(self):
        with pytest.raises(ValueError, match="on purpose"):
            assert_effects_once(fail, "on purpose")
        self.assert_nothing_is_left()

    def test_too_many_points_are_refused(self):
        with pytest.raises(ConfigurationError, match="500 points at most"):
            assert_effects_once(writes_a_lot, 300)

    def test_too_many_rows_are_refused(self):
        self.addCleanup(setattr, snapshot, "MOST_ROWS", snapshot.MOST_ROWS)
        snapshot.MOST_ROWS = 1
        with pytest.raises(ConfigurationError, match="at most 1 rows"):
            assert_effects_once(looks_first, "one")


def said_or_nothing(*args):
    try:
        assert_effects_once(*args)
    except AssertionError as error:
        return str(error)
    return ""


class InATestCase(Cases, TestCase):
    def test_other_jobs_of_the_test_are_left_alone(self):
        made = plain_effect.enqueue("before")

        assert_effects_once(atomic_effect, "one")

        made.refresh()
        assert made.state == "ready"


class WithRealCommits(Cases, TransactionTestCase):
    pass


def test_a_long_statement_is_cut():
    assert len(crash._short("x" * 1000)) < 110
