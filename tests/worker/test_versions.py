"""Versions of arguments: old calls are upgraded, newer ones are left for newer code."""

import logging

import pytest
from django.core.management import call_command
from django.utils import timezone

from aftercommit import jobs, queues
from aftercommit.enqueue import registry
from aftercommit.enqueue.names import names_of
from aftercommit.enqueue.registry import declared_tasks
from aftercommit.errors import ConfigurationError
from aftercommit.models import Dependency, Job, State
from aftercommit.windows.checks.tasks import check_queued_names, check_queued_versions
from aftercommit.windows.doctor.served import unknown_tasks
from tests.worker.rig import commits
from tests.worker.room import Room

pytestmark = commits
PATH = "tests.worker.test_versions.charge"
calls = []


@pytest.fixture(autouse=True)
def _alone(settings):
    settings.TASKS = {"default": settings.TASKS["default"]}
    calls.clear()


@pytest.fixture
def code(monkeypatch):
    """Return a function that lets this process have the code of a version."""
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))

    def have(number, /, **options):
        for name in [one for one in registry._declared if one.startswith(PATH)]:
            del registry._declared[name]
        return VERSIONS[number](**options)

    return have


def first(**options):
    from aftercommit import task  # noqa: PLC0415

    def charge(order_id, cents):
        calls.append((order_id, cents))

    return task(**options)(_at_the_top(charge))


def second(upgrade=None, **options):
    from aftercommit import task  # noqa: PLC0415

    def charge(order_id, *, amount, currency="EUR"):
        calls.append((order_id, amount, currency))

    def from_one(version, args, kwargs):
        assert version == 1
        order_id, cents = args
        return [order_id], {"amount": cents / 100, **kwargs}

    return task(version=2, upgrade=upgrade or from_one, **options)(_at_the_top(charge))


def third(**options):
    from aftercommit import task  # noqa: PLC0415

    def charge(payment):
        calls.append(payment)

    return task(version=3, upgrade=to_three, **options)(_at_the_top(charge))


def to_three(version, args, kwargs):
    if version < 2:
        order_id, cents = args
        args, kwargs = (order_id,), {"amount": cents / 100}
    if version < 3:
        kwargs = {"payment": {"order": args[0], **kwargs}}
        args = ()
    return args, kwargs


def _at_the_top(function):
    function.__qualname__ = function.__name__
    return function


VERSIONS = {1: first, 2: second, 3: third}


def run():
    call_command("flush_queue")


def states():
    return {job.task_path.removeprefix(PATH): job.state for job in Job.objects.all()}


def test_a_queued_call_of_version_1_is_upgraded_when_it_runs(code):
    job_id = code(1).enqueue(7, 1250).id
    code(2).enqueue(8, amount=3)

    run()

    assert calls == [(7, 12.5, "EUR"), (8, 3, "EUR")]
    job = Job.objects.get(pk=job_id)
    assert (job.task_path, job.args, job.state) == (PATH, [7, 1250], State.SUCCEEDED)
    assert states() == {"": State.SUCCEEDED, "@2": State.SUCCEEDED}


def test_a_chain_of_versions_is_one_function(code):
    for version, args, kwargs in [
        (1, (7, 1250), {}),
        (2, (8,), {"amount": 3}),
        (3, ("nine",), {}),
    ]:
        code(version).enqueue(*args, **kwargs)

    run()

    assert calls == [{"order": 7, "amount": 12.5}, {"order": 8, "amount": 3}, "nine"]


def test_many_calls_are_stored_with_their_version_as_well(code):
    ids = code(3).enqueue_many([("one",), ("two",)])

    assert set(Job.objects.values_list("task_path", flat=True)) == {f"{PATH}@3"}
    assert code(3).get_result(ids[0]).args == ["one"]


# ---- older code ------------------------------------------------------------------------


def test_older_code_leaves_newer_calls_ready_at_their_place_and_runs_its_own(code, store, caplog):
    caplog.set_level(logging.WARNING, "aftercommit")
    newer = code(2).enqueue(8, amount=3)
    before = Job.objects.get(pk=newer.id)
    code(1).enqueue(7, 1250)
    room = Room(store)

    claimed = [claim.task_path for claim, _facts in room.fetcher.fetch(limit=10)]
    for _again in range(3):
        assert room.fetcher.fetch(limit=10) == []

    assert claimed == [PATH]
    job = Job.objects.get(pk=newer.id)
    assert (job.state, job.claimable, job.attempts, job.errors) == (State.READY, True, 0, "[]")
    assert (job.run_after, job.token) == (before.run_after, 1)  # claimed once, and never again
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"Calls of {PATH} version 2 (the code here has 1) are queued; they stay ready for a "
        "worker that has this version. This worker goes on with those of its own version."
    ]


def test_older_code_reads_the_result_of_a_newer_call(code):
    job_id = code(2).enqueue(8, amount=3).id

    result = code(1).get_result(job_id)

    assert (result.state, result.kwargs) == ("ready", {"amount": 3})


def test_flush_queue_of_older_code_leaves_newer_calls(code):
    code(2).enqueue(8, amount=3)
    code(1)

    run()

    assert calls == []
    assert states() == {"@2": State.READY}


def test_w017_newer_and_unknown_tasks_are_told_apart(code, store):
    code(3).enqueue("nine")
    code(2)
    Job.objects.create(
        task_path="shop.gone",
        payload='{"args":[],"kwargs":{}}',
        enqueued_at=timezone.now(),
        run_after=timezone.now(),
    )

    newer, unknown = unknown_tasks(store)
    warnings = {one.id: one.msg for one in check_queued_names()}

    assert newer.text == f"Jobs wait for newer code: {PATH} version 3 (the code here has 2)."
    assert "shop.gone" in unknown.text
    assert PATH not in unknown.text
    assert f"{PATH} version 3 (the code here has 2)" in warnings["aftercommit.W017"]
    assert PATH not in warnings["aftercommit.W015"]


# ---- an upgrade that cannot ------------------------------------------------------------


def refuse(version, args, kwargs):
    raise KeyError("cents")


@pytest.mark.parametrize(
    ("upgrade", "said"),
    [
        (refuse, "upgrade() raised KeyError: 'cents'"),
        (lambda *_: None, "upgrade() returned NoneType, and not a list of args and a dict of"),
        (lambda *_: ("ab", {}), "upgrade() returned tuple, and not a list of args and a dict of"),
        (lambda *_: ([1], [2]), "upgrade() returned tuple"),
    ],
)
def test_an_upgrade_that_cannot_fails_the_job_and_loses_nothing(code, upgrade, said):
    job_id = code(1).enqueue(7, 1250).id
    code(2, upgrade=upgrade)

    run()

    job = Job.objects.get(pk=job_id)
    assert (job.state, job.attempts, job.args) == (State.FAILED, 1, [7, 1250])
    (error,) = job.error_list
    assert error["exception_class_path"] == "aftercommit.errors.NotUpgraded"
    assert (
        f"{PATH}: a queued call of version 1 was to be upgraded to version 2"
        in error["traceback"]
    )
    assert said in error["traceback"]

    code(2)
    call_command("aftercommit", "retry", "--state", "failed", "--task", PATH)
    run()
    assert calls == [(7, 12.5, "EUR")]


def test_arguments_that_do_not_fit_after_the_upgrade_fail_at_once(code):
    job_id = code(1).enqueue(7, 1250).id
    code(2, upgrade=lambda version, args, kwargs: (args, kwargs))

    run()

    job = Job.objects.get(pk=job_id)
    assert (job.state, job.attempts) == (State.FAILED, 1)
    assert "takes 1 positional argument but 2 were given" in job.error_list[0]["traceback"]


def test_w018_check_deploy_upgrades_one_queued_call_of_each_version(code):
    code(1).enqueue(7, 1250)
    code(1).enqueue(8, 1250)
    code(2)
    assert check_queued_versions() == []

    code(2, upgrade=refuse)
    (warning,) = check_queued_versions()
    assert warning.id == "aftercommit.W018"
    assert f"A queued call of version 1 of {PATH}" in warning.msg
    assert "upgrade() raised KeyError: 'cents'" in warning.msg

    code(2, upgrade=lambda version, args, kwargs: (args, kwargs))
    (warning,) = check_queued_versions()
    assert "takes 1 positional argument but 2 were given" in warning.msg
    assert calls == []


# ---- what else knows tasks by their names ----------------------------------------------


def test_jobs_of_all_versions_are_found_by_the_task(code):
    code(1).enqueue(7, 1250)
    code(2).enqueue(8, amount=3)
    charge = code(3)

    assert jobs.find(task=charge).count() == jobs.find(task=PATH).count() == 2
    assert jobs.find(task=PATH).cancel().changed == 2


def test_a_pause_holds_for_versions_that_are_deployed_after_it(code, store):
    queues.pause(task=code(2))
    assert [one.name for one in queues.paused()] == [PATH]
    code(1).enqueue(7, 1250)
    code(3).enqueue("nine")
    room = Room(store)

    assert room.fetcher.fetch(limit=10) == []
    assert Dependency.objects.count() == store.set_aside_of(PATH) == 2

    queues.resume(task=PATH)
    room.rules.expire()
    claims = room.fetcher.fetch(limit=10)
    assert {claim.task_path for claim, _facts in claims} == {PATH, f"{PATH}@3"}


def test_calls_of_two_versions_with_equal_keys_are_one_job(code):
    options = {"unique": "until_finished", "unique_by": ("order_id",)}
    first_id = code(1, **options).enqueue(7, 1250).id

    again = code(2, **options).enqueue(7, amount=3)

    assert again.id == first_id
    assert states() == {"": State.READY}


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_what_replaces_the_arguments_of_a_job_replaces_their_version(code, before, after):
    options = {"unique": "until_finished", "unique_by": ("order_id",), "on_conflict": "replace"}
    given = {1: ((7, 1250), {}), 2: ((7,), {"amount": 3})}
    for version in (before, after):
        args, kwargs = given[version]
        code(version, **options).enqueue(*args, **kwargs)
    code(2, **options)

    run()

    assert calls == [(7, 3, "EUR") if after == 2 else (7, 12.5, "EUR")]


def test_calls_of_two_versions_share_a_limit(code):
    options = {"limit": 1, "limit_by": ("order_id",)}
    code(1, **options).enqueue(7, 1250)
    code(2, **options).enqueue(7, amount=3)

    assert len(set(Job.objects.values_list("limit_key", flat=True))) == 1


# ---- the declaration -------------------------------------------------------------------


def test_a_task_is_declared_once_under_all_names_of_its_versions(code):
    charge = code(3, aliases=("shop.charge",))

    assert names_of(charge) == [
        f"{PATH}@3",
        "shop.charge@3",
        f"{PATH}@2",
        "shop.charge@2",
        PATH,
        "shop.charge",
    ]
    assert [one for one in declared_tasks() if one is charge] == [charge]
    assert charge.module_path == PATH


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"version": 2}, "version=2 needs upgrade"),
        ({"version": 0}, "version: expected a whole number from 1 to 999"),
        ({"version": "2", "upgrade": to_three}, "version: expected a whole number"),
        ({"upgrade": to_three}, "version 1 has none"),
        ({"version": 2, "upgrade": 5}, "a plain function of .*, got int"),
    ],
)
def test_what_makes_no_sense_is_refused_at_the_declaration(code, options, said):
    with pytest.raises(ConfigurationError, match=said):
        code(1, **options)


def test_a_version_belongs_to_the_declaration(code):
    with pytest.raises(TypeError, match="'version' cannot vary from call to call"):
        code(2).using(version=3)
