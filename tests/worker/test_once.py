"""``context.once()``: a call to the outside world, whose answer a later run finds."""

import asyncio
from uuid import UUID

import pytest
from django.db import OperationalError, connection, transaction

from aftercommit.errors import InsideTransaction, PayloadError
from aftercommit.models import Saved, State
from tests.worker.rig import commits, effects, leave

pytestmark = [commits]


class Provider:
    """Stands outside: it counts its calls, and no database rolls them back."""

    def __init__(self):
        self.calls = []

    def charge(self, amount, *, currency="EUR"):
        """Charge, and answer as JSON."""
        self.calls.append((amount, currency))
        return {"charge": len(self.calls), "amount": [amount]}

    async def acharge(self, amount):
        """Do the same from a coroutine."""
        return self.charge(amount)


@pytest.fixture
def provider():
    return Provider()


def test_a_retry_gets_the_record_and_calls_nobody(rig, provider):
    def body(context):
        answer = context.once("charge", provider.charge, 7, currency="USD")
        if context.attempt < 3:
            raise ValueError
        return answer

    job_id = rig.enqueue(body)
    for _ in "123":
        job = rig.run_again(job_id)

    assert provider.calls == [(7, "USD")]
    assert job.return_value == {"charge": 1, "amount": [7]}


def test_a_second_call_of_the_same_run_gets_the_record_as_well(rig, provider):
    def body(context):
        both = [context.once("charge", provider.charge, number) for number in (1, 2)]
        return [*both, context.once("other", provider.charge, 3)]

    first, second, other = rig.run(body).return_value

    assert first == second == {"charge": 1, "amount": [1]}
    assert other == {"charge": 2, "amount": [3]}


def test_the_first_run_gets_what_a_later_one_would_get(rig):
    assert rig.run(
        lambda context: type(context.once("a", lambda: (1,))).__name__
    ).return_value == ("list")


def test_an_exception_is_not_recorded(rig, provider):
    def body(context):
        def fails_first():
            provider.charge(1)
            if len(provider.calls) == 1:
                raise ConnectionError
            return "done"

        return context.once("charge", fails_first)

    job_id = rig.enqueue(body)
    rig.run_again(job_id)
    job = rig.run_again(job_id)

    assert job.return_value == "done"
    assert len(provider.calls) == 2


def test_none_is_an_answer(rig, provider):
    def body(context):
        context.once("mail", lambda: provider.charge(1) and None)
        if context.attempt == 1:
            raise ValueError

    job_id = rig.enqueue(body)
    for _ in "12":
        rig.run_again(job_id)

    assert len(provider.calls) == 1


def test_async_tasks_call_once_with_either_kind_of_function(rig, provider):
    async def body(context):
        await asyncio.sleep(0)
        answers = [
            await context.aonce("one", provider.acharge, 1),
            await context.aonce("two", provider.charge, 2),
        ]
        if context.attempt == 1:
            raise ValueError
        return answers

    job_id = rig.enqueue(body)
    rig.run_again(job_id)
    job = rig.run_again(job_id)

    assert len(provider.calls) == 2
    assert [one["charge"] for one in job.return_value] == [1, 2]


def test_a_coroutine_function_is_refused_before_the_call(rig, provider):
    def body(context):
        context.once("charge", provider.acharge, 1)

    job = rig.run(body, max_attempts=1)

    assert "context.aonce()" in job.error_list[0]["traceback"]
    assert provider.calls == []


@pytest.mark.parametrize("way", ["atomic", "commit", "block"])
def test_in_a_transaction_it_is_refused_before_the_call(rig, provider, way):
    """Its record would go with a rollback, and the call would not."""

    def body(context):
        block = {"atomic": None, "commit": context.commit, "block": transaction.atomic}[way]
        with pytest.raises(InsideTransaction, match="the function was not called"):
            if block is None:
                context.once("charge", provider.charge, 1)
            else:
                with block():
                    context.once("charge", provider.charge, 1)

    rig.run(body, atomic=way == "atomic")

    assert provider.calls == []


def test_an_answer_that_is_no_json_fails_the_job_for_good(rig, provider):
    """A retry would call again."""

    def body(context):
        context.once("charge", lambda: provider.charge(1) and object())

    job = rig.run(body, max_attempts=5)

    assert job.state == State.FAILED
    assert job.error_list[0]["exception_class_path"].endswith(PayloadError.__name__)
    assert "answer of 'charge': object is not JSON" in job.error_list[0]["traceback"]


def test_a_record_stays_when_the_run_is_rolled_back(rig, provider):
    def body(context):
        context.once("charge", provider.charge, 1)
        with context.commit():
            leave("gone")
            if context.attempt == 1:
                raise ValueError

    job_id = rig.enqueue(body)
    for _ in "12":
        rig.run_again(job_id)

    assert len(provider.calls) == effects("gone") == 1


def test_a_zombie_gets_the_record_of_its_successor(rig, provider):
    """Both have called; whoever records first, both go on with the same answer."""

    def body(context):
        def call():
            successor = rig.lose(rig.claims[0])
            rig.store.record_answer(successor, "charge", '"of the successor"')
            return provider.charge(1)

        context.log.info(context.once("charge", call))

    rig.run(body)

    assert Saved.objects.get().value == '"of the successor"'
    assert rig.store.last_lines_of(rig.claims[0].job_id, limit=1)[0].message == "of the successor"


def test_what_a_zombie_has_recorded_is_what_its_successor_finds(rig, provider):
    job_id = rig.enqueue(lambda context: context.once("charge", provider.charge, 1))
    late = rig.claim(job_id)
    successor = rig.lose(late)
    rig.store.record_answer(late, "charge", '"of the zombie"')

    rig.finish(successor, rig.execute(successor))

    assert rig.job(job_id).return_value == "of the zombie"
    assert provider.calls == []


def test_a_record_is_written_again_if_the_connection_breaks(rig, provider, monkeypatch):
    write, failing = rig.store.record_answer, [True]

    def breaks(*given):
        if failing:
            failing.clear()
            connection.close()
            raise OperationalError
        return write(*given)

    monkeypatch.setattr(rig.store, "record_answer", breaks)

    job = rig.run(lambda context: context.once("charge", provider.charge, 1))

    assert job.state == State.SUCCEEDED
    assert Saved.objects.count() == len(provider.calls) == 1


def test_a_retry_by_hand_finds_the_record(rig, provider):
    def body(context):
        context.once("charge", provider.charge, 1)
        if rig.job(job_id).token == 1:
            raise ValueError

    job_id = rig.enqueue(body, max_attempts=1)
    assert rig.run_again(job_id).state == State.FAILED
    rig.store.retry([job_id])

    assert rig.run_again(job_id).state == State.SUCCEEDED
    assert len(provider.calls) == 1


@pytest.mark.parametrize("name", ["", " a", "a\n", "x" * 101, None, 5, "a\0"])
def test_a_name_is_a_short_printable_text(rig, provider, name):
    def body(context):
        with pytest.raises(ValueError, match="The name of a call"):
            context.once(name, provider.charge, 1)
        with pytest.raises(ValueError, match="The name of a call"):
            context.idempotency_key_for(name)

    assert rig.run(body).state == State.SUCCEEDED
    assert provider.calls == []


# ---- keys for providers --------------------------------------------------------------


def test_idempotency_keys_are_the_same_in_each_run_and_differ_by_name(rig):
    seen = []

    def body(context):
        seen.append((context.idempotency_key, *map(context.idempotency_key_for, "ab")))
        if context.attempt == 1:
            raise ValueError

    job_id = rig.enqueue(body)
    for _ in "12":
        rig.run_again(job_id)

    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 3
    assert seen[0][0] == str(job_id)
    assert all(str(UUID(key)) == key for key in seen[0])


def test_another_job_has_other_keys(rig):
    keys = {rig.run(lambda one: one.idempotency_key_for("a")).return_value for _ in "12"}

    assert len(keys) == 2
