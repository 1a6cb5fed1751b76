"""Secret arguments: encrypted in the row, shown nowhere, and the function gets them."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

import aftercommit
from aftercommit import Secret, deschedule, schedule, task
from aftercommit.enqueue.payload import dump_arguments
from aftercommit.errors import ConfigurationError, HoldsSecret, PayloadError, PayloadTooLarge
from aftercommit.models import Job, State
from aftercommit.windows.checks.tasks import check_queued_versions
from tests.worker.rig import commits
from tests.worker.secret_tasks import (
    CANARY,
    OLD,
    charge,
    got,
    kept,
    keys,
    pay,
    returned,
    row,
    run,
    upgraded,
)

pytestmark = commits
__all__ = ["keys"]  # a fixture


# ---- there and back --------------------------------------------------------------------------


def test_a_secret_is_encrypted_in_the_row_and_the_function_gets_it():
    result = charge.enqueue(7, Secret(CANARY), extra=[1])
    before = row(result.id)

    run()

    assert got == [(7, Secret(CANARY), [1])]
    assert got[0][1].reveal() == CANARY
    assert CANARY not in before + row(result.id)
    job = Job.objects.get(pk=result.id)
    assert (job.state, job.args, job.kwargs) == (State.SUCCEEDED, [7, "[secret]"], {"extra": [1]})
    assert result.args == charge.get_result(result.id).args == [7, "[secret]"]


@pytest.mark.parametrize("value", ["", "ключ\0\ud800", 5, None, {"a": [1.5, None]}, ["x"], True])
def test_whatever_is_json_may_be_secret(value):
    charge.enqueue(7, Secret(value))

    run()

    assert got == [(7, Secret(value), None)]


def test_secrets_may_be_anywhere_in_the_arguments():
    order = {"id": 7, "cards": [Secret("one"), {"number": Secret("two")}], "note": "[secret]"}
    job_id = pay.enqueue(order).id
    assert Job.objects.get(pk=job_id).args == [
        {"id": 7, "cards": ["[secret]", {"number": "[secret]"}], "note": "[secret]"}
    ]

    run()

    assert got == [order]


def test_many_calls_have_their_secrets_each():
    ids = charge.enqueue_many([(1, Secret("one")), (2, Secret("two"))])
    charge.enqueue_many([{"order_id": 3, "card": Secret("three")}])

    run()

    cards = {order_id: card.reveal() for order_id, card, _extra in got}
    assert cards == {1: "one", 2: "two", 3: "three"}
    assert charge.get_result(ids[0]).args == [1, "[secret]"]


def test_a_call_that_waits_for_another_one_keeps_its_secrets():
    order = pay.bind({"id": 7})
    result = charge.bind(8, Secret(CANARY), extra=[order, "[secret]"]).enqueue()
    assert CANARY not in row(result.id)

    run()

    assert got == [{"id": 7}, (8, Secret(CANARY), [None, "[secret]"])]
    assert charge.get_result(result.id).args == [8, "[secret]"]


def test_a_call_with_a_time_keeps_it():
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    job_id = charge.using(run_after=moment).enqueue(7, Secret(CANARY)).id

    assert charge.get_result(job_id).task.run_after == moment
    run()
    assert got == [(7, Secret(CANARY), None)]


def test_plain_functions_get_secrets_as_well(keys):
    keys(OLD, allowed_functions=["tests.worker.secret_tasks"])
    schedule(kept, [7, Secret(CANARY)])

    run()

    assert got == [(7, Secret(CANARY))]


def test_each_call_is_encrypted_anew():
    for _number in range(2):
        charge.enqueue(7, Secret(CANARY))

    first, second = (json.loads(job.payload)["secrets"] for job in Job.objects.all())
    assert first != second
    assert len(first) == len(second)


# ---- declared parameters ---------------------------------------------------------------------


def with_text(order, card: "Secret[str] | None" = None, *cards: "Secret"): ...
def with_module(order, card: "aftercommit.Secret"): ...
def with_list(order, cards: list[Secret[str]]): ...
def with_keyword(order, *, card: Secret | None = None, **others: Secret): ...


@pytest.mark.parametrize(
    ("function", "good", "bad"),
    [
        (
            with_text,
            [((1, Secret("a"), Secret("b")), {}), ((1,), {}), ((1, None), {})],
            [((1, "a"), {}), ((1, None, "b"), {})],
        ),
        (with_module, [((1, Secret("a")), {})], [((1, "a"), {}), ((1,), {"card": "a"})]),
        (with_list, [((1, [Secret("a")]), {}), ((1, []), {})], [((1, [Secret("a"), "b"]), {})]),
        (
            with_keyword,
            [((1,), {"card": Secret("a"), "x": Secret("b")})],
            [((1,), {"card": "a"}), ((1,), {"x": "b"})],
        ),
    ],
)
def test_a_plain_value_for_a_declared_secret_is_refused_at_the_call(function, good, bad):
    declared = task(function)
    for args, kwargs in good:
        declared.enqueue(*args, **kwargs)
    for args, kwargs in bad:
        with pytest.raises(
            TypeError, match=r"takes a Secret for '\w+': pass Secret\(value\)"
        ) as raised:
            declared.enqueue(*args, **kwargs)
        assert "'a'" not in str(raised.value)
        with pytest.raises(TypeError, match="takes a Secret"):
            declared.enqueue_many(
                [(args[0], *args[1:])] if not kwargs else [{"order": 1, **kwargs}]
            )
    assert Job.objects.count() == len(good)


def test_a_call_from_before_the_parameter_was_declared_gets_a_secret():
    job_id = charge.enqueue("refused", Secret("x")).id
    Job.objects.filter(pk=job_id).update(
        payload=json.dumps({"args": ["refused", CANARY], "kwargs": {}})
    )

    run()

    assert got == [("refused", Secret(CANARY), None)]
    assert CANARY not in Job.objects.get(pk=job_id).errors


# ---- what is refused -------------------------------------------------------------------------


def test_a_secret_is_refused_where_nothing_encrypts_it(keys):
    keys(OLD, allowed_functions=["tests.worker.secret_tasks"])
    with pytest.raises(HoldsSecret, match=r"args\[0\] is a Secret"):
        dump_arguments([Secret(CANARY)], {}, task_path="shop.pay", limit=1000)
    with pytest.raises(HoldsSecret, match=r"meta\['card'\] is a Secret"):
        schedule(kept, meta={"card": Secret(CANARY)})


def test_a_returned_secret_is_no_result():
    job_id = returned.enqueue(Secret(CANARY)).id

    run()

    job = Job.objects.get(pk=job_id)
    assert job.state == State.FAILED
    assert "return value['card'] is a Secret" in job.error_list[0]["traceback"]


def test_what_is_not_json_is_refused_without_being_shown():
    with pytest.raises(
        PayloadError, match=r"args\[1\]: what this Secret holds is not JSON"
    ) as raised:
        charge.enqueue(7, Secret({CANARY: {1, 2}}))
    assert CANARY not in str(raised.value)
    with pytest.raises(PayloadError, match=r"kwargs\['extra'\]\[0\]: what this Secret holds"):
        charge.enqueue(7, Secret(1), extra=[Secret(Secret(1))])


def test_deschedule_says_that_it_finds_no_secret(keys):
    keys(OLD, allowed_functions=["tests.worker.secret_tasks"])
    schedule(kept, [7, Secret(CANARY)])

    with pytest.raises(ConfigurationError, match="deschedule"):
        deschedule(kept, [7, Secret(CANARY)])


def test_the_size_of_what_is_encrypted_counts(keys):
    keys(OLD, max_payload=300)
    charge.enqueue(7, Secret("x" * 50))

    with pytest.raises(PayloadTooLarge, match="with their encrypted secrets"):
        charge.enqueue(7, Secret("x" * 200))


def test_who_has_no_secret_imports_no_cryptography():
    code = (
        "import django, sys; django.setup(); "
        "from tests.app.tasks import add; from aftercommit.worker import worker; "
        "from aftercommit.enqueue.payload import dump_arguments; "
        "dump_arguments([1], {}, task_path='', limit=100); "
        "sys.exit('aftercommit.enqueue.cipher' in sys.modules)"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


# ---- versions --------------------------------------------------------------------------------


def test_an_upgrade_gets_secrets_and_what_it_raises_does_not_show_them():
    job_id = upgraded.enqueue(Secret(CANARY)).id
    Job.objects.filter(pk=job_id).update(task_path=upgraded.module_path)
    (warning,) = check_queued_versions()
    assert "would fail: NotUpgraded" in warning.msg
    assert CANARY not in warning.msg

    run()

    job = Job.objects.get(pk=job_id)
    assert "ValueError: *** of version 1" in job.error_list[0]["traceback"]
    assert CANARY not in job.errors
