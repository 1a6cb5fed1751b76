"""group(): its numbers, its results, and what may be done with it from any process."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import connections, transaction

from aftercommit import group, groups, task
from aftercommit._compat import task_finished
from aftercommit.enqueue import waits as waits_module
from aftercommit.errors import (
    BadSelection,
    ConfigurationError,
    GroupDoesNotExist,
    GroupHasEnded,
    GroupNotEndedYet,
    InsideTransaction,
    PayloadError,
)
from aftercommit.ids import new_job_id
from aftercommit.models import Group, Job, Member
from aftercommit.store import store_for
from aftercommit.store.waiting import Waiting
from aftercommit.values import NO_TIME, Failed, Succeeded
from tests.app.tasks import add, fail
from tests.django.conftest import IMMEDIATE, ours
from tests.store.callers import statements
from tests.store.given import ERROR, claim_all, claim_one
from tests.waiting import SOON, wait_until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

LONG = timedelta(days=400)


def sums(number=3):
    return [add.bind(one, 1) for one in range(number)]


@task(takes_context=True)
def add_more(context, number):
    """Add jobs to the group of the job that runs."""
    return [one.id for one in context.group.add(*sums(number))]


@task
def total(numbers):
    """Return a sum."""
    return sum(numbers)


@task(takes_context=True)
def no_group(context):
    """Return whether there is a group."""
    return context.group is None


@task(takes_context=True)
async def add_more_in_a_coroutine(context):
    """Add jobs to the group of the job that runs."""
    found = await context.agroup()
    return [one.id for one in await found.aadd(*sums(2))]


@task(takes_context=True, max_attempts=1)
async def group_of_a_coroutine(context):
    """Ask for the group where no database may be read."""
    return str(context.group)


# ---- made and found -----------------------------------------------------------------


def test_nothing_is_enqueued_before_enqueue():
    group(sums(), name="import")

    assert not Job.objects.exists()
    assert not Group.objects.exists()


def test_a_new_group_tells_what_it_is():
    made = group(sums(), name="import", description="of May", meta={"file": 7}).enqueue()

    assert (made.name, made.description, made.meta) == ("import", "of May", {"file": 7})
    assert (made.total, made.left, made.running, made.done) == (3, 3, 0, 0)
    assert (made.succeeded, made.failed, made.cancelled) == (0, 0, 0)
    assert (made.progress, made.estimate) == (0.0, None)
    assert not made.is_finished
    assert not made.is_cancelled
    assert made.last is None
    assert repr(made) == "<group import on 'default': 0 of 3 done>"


def test_a_group_is_part_of_the_callers_transaction():
    with transaction.atomic():
        made = group(sums(), name="import").enqueue()
        assert made.total == 3
        transaction.set_rollback(True)

    assert not Job.objects.exists()
    assert not Member.objects.exists()
    with pytest.raises(GroupDoesNotExist, match="'import'"):
        made.refresh()


def test_a_group_is_found_by_id_and_by_name():
    first = group(sums(1), name="import").enqueue()
    second = group(sums(2), name="import").enqueue()
    group(sums(1)).enqueue()

    assert groups.get(first.id).total == 1
    assert groups.get(UUID(first.id)).name == "import"
    assert [one.id for one in groups.find(name="import")] == [second.id, first.id]
    assert groups.latest("import").id == second.id
    assert len(groups.find()) == 3
    assert len(groups.find(most=2)) == 2


@pytest.mark.parametrize("wrong", ["", "nope", "\0", new_job_id(), None])
def test_a_group_that_is_not_there_is_an_error(wrong):
    with pytest.raises(GroupDoesNotExist):
        groups.get(wrong)


def test_a_name_that_nobody_has_is_an_error():
    assert groups.find(name="import") == []
    with pytest.raises(GroupDoesNotExist, match="import"):
        groups.latest("import")
    with pytest.raises(BadSelection):
        groups.find(using="nope")


def test_a_group_is_on_the_database_of_its_jobs():
    elsewhere = add.using(backend="other")

    made = group([elsewhere.bind(1, 2)], name="import").enqueue()

    assert made.using == "other"
    assert groups.latest("import", using="other").total == 1
    assert groups.find(name="import") == []


def test_jobs_of_two_databases_are_no_group():
    elsewhere = add.using(backend="other")

    with pytest.raises(ConfigurationError, match="several databases: default, other"):
        group([*sums(), elsewhere.bind(1, 2)])


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"calls": [3]}, ConfigurationError),
        ({"calls": [add]}, ConfigurationError),
        ({"name": "x" * 256}, ConfigurationError),
        ({"name": "a\0b"}, ConfigurationError),
        ({"name": 3}, ConfigurationError),
        ({"meta": {"at": object()}}, PayloadError),
    ],
    ids=str,
)
def test_what_is_no_group_is_refused(given, error):
    with pytest.raises(error):
        group(**{"calls": sums(), **given})


def test_a_group_of_another_library_is_refused(backends):
    backends(default=IMMEDIATE, ours=ours())

    with pytest.raises(ConfigurationError, match="needs an aftercommit"):
        group(sums())


def test_a_group_of_nothing_has_ended():
    made = group([]).enqueue()

    assert (made.total, made.progress, made.estimate) == (0, 1.0, NO_TIME)
    assert made.is_finished
    assert list(made) == []


# ---- its numbers --------------------------------------------------------------------


def end(*outcomes):
    store = store_for("default")
    claims = []

    def claimed():  # a row that somebody has just asked about may be locked
        claims.extend(claim_all(store, limit=len(outcomes) - len(claims)))
        return len(claims) == len(outcomes)

    wait_until(claimed)
    store.finish_many(list(zip(claims, outcomes, strict=True)))


def test_a_group_is_as_it_was_until_it_is_read_again():
    made = group(sums(4)).enqueue()
    end(Succeeded("1"), Failed(ERROR))
    claim_one(store_for("default"))

    assert made.done == 0
    made.refresh()

    assert (made.done, made.succeeded, made.failed, made.cancelled) == (2, 1, 1, 0)
    assert (made.left, made.running, made.progress) == (2, 1, 0.5)
    assert not made.is_finished


def test_the_estimate_is_the_speed_so_far():
    made = group(sums(6)).enqueue()
    end(Succeeded("1"), Succeeded("1"))
    first, second = Job.objects.filter(state="succeeded").order_by("id")
    began = first.claimed_at
    Job.objects.filter(id=first.id).update(finished_at=began + timedelta(seconds=10))
    Job.objects.filter(id=second.id).update(
        claimed_at=began, finished_at=began + timedelta(seconds=20)
    )

    made.refresh()

    assert made.estimate == timedelta(seconds=40)  # two in 20 s, four are left


def test_without_rows_the_estimate_is_reckoned_from_the_beginning():
    made = group(sums(3)).enqueue()
    end(Succeeded("1"))
    Group.objects.update(created_at=made.created_at - timedelta(seconds=100))
    Job.objects.filter(state="succeeded").delete()

    made.refresh()

    assert timedelta(seconds=200) <= made.estimate < timedelta(seconds=300)


def test_a_group_whose_jobs_have_ended_has_no_time_left():
    made = group(sums(1)).enqueue()
    end(Succeeded("1"))

    made.refresh()

    assert (made.estimate, made.progress, made.is_finished) == (NO_TIME, 1.0, True)


# ---- its results --------------------------------------------------------------------


def test_results_come_in_the_order_in_which_the_jobs_were_enqueued():
    made = group([add.using(priority=one).bind(one, 1) for one in range(5)]).enqueue()
    call_command("flush_queue")

    assert [one.return_value for one in made] == [1, 2, 3, 4, 5]


def test_results_are_read_by_coroutines_as_well():
    made = group(sums(3)).enqueue()
    call_command("flush_queue")

    async def values():
        return [one.return_value async for one in made]

    assert async_to_sync(values)() == [1, 2, 3]


def test_results_of_many_pages(monkeypatch):
    monkeypatch.setattr("aftercommit.store.members.ONE_READ", 2)
    made = group(sums(5)).enqueue()
    Job.objects.filter(id__in=sorted(Job.objects.values_list("id", flat=True))[2:4]).delete()

    assert [one.args for one in made] == [[0, 1], [1, 1], [4, 1]]

    async def values():
        return [one.args async for one in made]

    assert len(async_to_sync(values)()) == 3


# ---- waiting ------------------------------------------------------------------------


looks = []


@pytest.fixture
def watched(monkeypatch):
    """Note when the database was asked about ends; wait for the end of the thread that asks."""
    looks.clear()
    plain = Waiting.ended_among

    def counted(self, job_ids):
        answer = plain(self, job_ids)
        looks.append(set(job_ids))
        return answer

    monkeypatch.setattr(Waiting, "ended_among", counted)
    monkeypatch.setattr(waits_module, "LINGER", timedelta(0))
    yield
    wait_until(lambda: not any(one.startswith("aftercommit-waits") for one in names_now()))


def names_now():
    return [one.name for one in threading.enumerate()]


def while_waiting(wait, *steps):
    """Call ``wait`` in a thread, then each step; return what it has returned."""

    def call():
        try:
            return wait()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as threads:
        begun = threads.submit(call)
        for step in steps:
            looks.clear()
            wait_until(lambda: looks or begun.done(), why="it waits")
            step()
        return begun.result(SOON.total_seconds())


WAYS = {
    "wait": lambda made: made.wait(SOON),
    "await_": lambda made: async_to_sync(made.await_)(SOON),
}


@pytest.mark.parametrize("way", WAYS)
def test_whoever_waits_goes_on_when_all_have_ended(way, watched):
    made = group(sums(3)).enqueue()

    found = while_waiting(
        lambda: WAYS[way](made),
        lambda: end(Succeeded("1"), Failed(ERROR)),
        lambda: end(Succeeded("1")),
    )

    assert found is made
    assert (made.done, made.failed, made.is_finished) == (3, 1, True)


@pytest.mark.parametrize("way", ["wait", "await_"])
def test_a_wait_has_an_end(way):
    made = group(sums(2), name="import").enqueue()
    end(Succeeded("1"))
    ways = {"wait": made.wait, "await_": async_to_sync(made.await_)}

    with pytest.raises(GroupNotEndedYet, match=r"'import' has not ended within 0:00:00: 1 jobs"):
        ways[way](timedelta(0))
    with pytest.raises(TypeError, match="timedelta"):
        ways[way](3)


def test_nobody_waits_in_a_transaction_for_what_it_holds_back():
    made = group(sums(2)).enqueue()

    with transaction.atomic(), pytest.raises(InsideTransaction):
        made.wait(SOON)


def test_a_wait_of_longer_than_any_clock_is_possible():
    made = group(sums(1)).enqueue()
    end(Succeeded("1"))

    assert made.wait(LONG * 1000).is_finished


# ---- adding -------------------------------------------------------------------------


def test_a_job_adds_others_to_its_group():
    made = group([add_more.bind(2)]).enqueue()
    call_command("flush_queue")

    made.refresh()

    assert (made.total, made.succeeded) == (3, 3)
    first, *added = made
    assert first.return_value == [one.id for one in added]


def test_a_job_without_a_group_knows_that():
    result = no_group.enqueue()
    call_command("flush_queue")

    result.refresh()
    assert result.return_value is True


def test_jobs_are_added_from_outside_until_all_have_ended():
    made = group(sums(1)).enqueue()
    made.add(*sums(2))
    assert made.total == 3
    async_to_sync(made.aadd)(*sums(1))
    assert made.total == 4
    end(*[Succeeded("1")] * 4)

    with pytest.raises(GroupHasEnded, match="all of its jobs have ended"):
        made.add(*sums(1))
    with pytest.raises(ConfigurationError, match="several databases"):
        made.add(add.using(backend="other").bind(1, 2))
    assert Job.objects.count() == 4


def test_what_is_added_is_part_of_the_callers_transaction():
    made = group(sums(1)).enqueue()

    with transaction.atomic():
        made.add(*sums(2))
        transaction.set_rollback(True)

    made.refresh()
    assert made.total == 1


# ---- cancelling ---------------------------------------------------------------------


def test_a_group_is_cancelled_as_a_whole():
    made = group(sums(4)).enqueue()
    end(Succeeded("1"))
    running = claim_one(store_for("default"))

    answer = made.cancel()

    assert (len(answer.ended), answer.requested) == (2, {running.job_id})
    assert (made.cancelled, made.running, made.is_cancelled) == (2, 1, True)
    with pytest.raises(GroupHasEnded, match="it was cancelled"):
        made.add(*sums(1))


def test_a_group_is_cancelled_in_the_callers_transaction():
    made = group(sums(2)).enqueue()

    with transaction.atomic():
        async_to_sync(copy.copy(made).acancel)()
        transaction.set_rollback(True)

    made.refresh()
    assert (made.cancelled, made.is_cancelled) == (0, False)


def test_each_cancelled_job_is_told_of():
    told = []

    def note(task_result, **_given):
        told.append(task_result.id)

    made = group(sums(2)).enqueue()

    task_finished.connect(note)
    try:
        made.cancel()
    finally:
        task_finished.disconnect(note)
    assert sorted(told) == [one.id for one in made]


def test_a_failed_job_of_a_group_that_is_retried_counts_again():
    made = group([fail.using(max_attempts=1).bind("no")]).enqueue()
    call_command("flush_queue")
    made.refresh()
    assert made.failed == 1

    store_for("default").retry([UUID(one.id) for one in made])

    made.refresh()
    assert (made.failed, made.left) == (0, 1)


# ---- the last job -------------------------------------------------------------------


def test_the_last_job_runs_when_all_others_have_ended():
    made = group(sums(2), then=add.bind(5, 5)).enqueue()
    assert (made.total, made.left, made.last.state) == (2, 2, "ready")

    end(Succeeded("1"))
    assert not Job.objects.get(id=made.last.id).claimable
    end(Succeeded("1"))
    made.refresh()
    assert (made.left, made.is_finished) == (0, False)

    end(Succeeded("10"))
    made.refresh()
    assert (made.total, made.is_finished, made.last.return_value) == (2, True, 10)


@pytest.mark.parametrize(
    ("how", "state"), [("cancel", "cancelled"), ("fail", "failed"), ("run", "ready")]
)
def test_what_becomes_of_the_last_job_if_one_has_failed(how, state):
    made = group(sums(2), then=add.bind(5, 5), on_failure=how).enqueue()

    end(Failed(ERROR), Succeeded("1"))

    assert made.last.state == state
    assert Job.objects.get(id=made.last.id).claimable == (how == "run")


def test_the_last_job_of_nothing_runs_at_once():
    made = group([], then=add.bind(5, 5)).enqueue()
    assert not made.is_finished

    call_command("flush_queue")

    made.refresh()
    assert (made.is_finished, made.last.return_value) == (True, 10)


def test_a_group_and_its_last_job_are_in_one_database():
    with pytest.raises(ConfigurationError, match="several databases"):
        group(sums(), then=add.using(backend="other").bind(1, 2))
    with pytest.raises(ConfigurationError, match="on_failure: expected one of cancel, run, fail"):
        group(sums(), then=add.bind(1, 2), on_failure="stop")


def test_the_last_job_waits_for_jobs_that_are_added():
    made = group([add_more.bind(2)], then=add.bind(5, 5)).enqueue()

    end_one = claim_one(store_for("default"))
    made.add(*sums(1))
    store_for("default").finish(end_one, Succeeded("1"))
    assert not Job.objects.get(id=made.last.id).claimable

    call_command("flush_queue")
    made.refresh()
    assert (made.total, made.done, made.is_finished) == (2, 2, True)


def test_a_job_that_adds_others_in_its_run_puts_the_last_one_off():
    made = group([add_more.bind(2)], then=no_group.bind()).enqueue()

    call_command("flush_queue")

    made.refresh()
    assert (made.total, made.succeeded, made.is_finished) == (3, 3, True)
    ends = Job.objects.order_by("finished_at", "id").values_list("id", flat=True)
    assert str(list(ends)[-1]) == made.last.id


def test_no_job_is_added_when_the_last_one_has_begun():
    made = group(sums(1), then=add.bind(5, 5)).enqueue()
    end(Succeeded("1"))
    made.add(*sums(1))  # the last one is ready, and nobody has claimed it
    end(Succeeded("1"))
    claim_one(store_for("default"))

    with pytest.raises(GroupHasEnded):
        made.add(*sums(1))
    made.refresh()
    assert made.total == 2


def test_the_last_job_belongs_to_the_group():
    made = group(sums(1), then=no_group.bind()).enqueue()

    call_command("flush_queue")

    assert made.last.return_value is False


def test_whoever_waits_for_a_group_waits_for_its_last_job(watched):
    made = group(sums(1), then=add.bind(5, 5)).enqueue()

    found = while_waiting(
        lambda: made.wait(SOON), lambda: end(Succeeded("1")), lambda: end(Succeeded("1"))
    )

    assert found.is_finished


def test_a_cancelled_group_cancels_its_last_job_as_it_says():
    made = group(sums(2), then=add.bind(5, 5)).enqueue()

    made.cancel()

    assert (made.cancelled, made.last.state, made.is_finished) == (2, "cancelled", True)


# ---- calls --------------------------------------------------------------------------


def test_the_last_job_may_take_the_results_of_the_others():
    prices = sums(3)
    made = group(prices, then=total.bind(prices)).enqueue()

    call_command("flush_queue")

    assert made.last.return_value == 6


def test_what_the_calls_of_a_group_need_is_not_counted():
    made = group([add.bind(add.bind(1, 1), 1)]).enqueue()

    call_command("flush_queue")

    made.refresh()
    assert (Job.objects.count(), made.total, made.done) == (2, 1, 1)
    assert [one.return_value for one in made] == [3]


def test_a_call_that_is_given_twice_is_one_job():
    one = add.bind(1, 1)

    made = group([one, one]).enqueue()

    assert (made.total, Job.objects.count()) == (1, 1)


@task(unique="until_finished")
def once_only(number):
    """Do nothing."""


def test_a_job_that_was_there_before_is_no_member_and_is_waited_for():
    before = once_only.enqueue(1)

    made = group([once_only.bind(1), once_only.bind(2)], then=add.bind(5, 5)).enqueue()

    assert (made.total, Job.objects.count()) == (1, 3)
    assert made.add(once_only.bind(1))[0].id == before.id
    assert made.total == 1
    end(Succeeded("1"))
    assert not Job.objects.get(id=made.last.id).claimable
    end(Succeeded("1"))
    assert Job.objects.get(id=made.last.id).claimable


@pytest.mark.parametrize("last", [None, add.bind(5, 5)])
def test_a_large_group_takes_few_statements(last):
    with statements() as found:
        made = group(sums(2000), then=last).enqueue()

    assert made.total == 2000
    assert len(found) < 30


@pytest.mark.parametrize(("last", "number"), [(None, 2), (add.bind(5, 5), 3)])
def test_a_group_is_read_again_by_two_statements_and_one_for_its_last_job(
    last, number, django_assert_num_queries
):
    made = group(sums(), then=last).enqueue()

    with django_assert_num_queries(number):
        made.refresh()
        assert (made.total, made.done) == (3, 0)


# ---- in coroutines ------------------------------------------------------------------


def test_a_coroutine_finds_its_group():
    made = group([add_more_in_a_coroutine.bind()]).enqueue()

    call_command("flush_queue")

    made.refresh()
    assert (made.total, made.succeeded) == (3, 3)


def test_a_coroutine_is_told_how_to_find_its_group():
    group([group_of_a_coroutine.bind()]).enqueue()

    call_command("flush_queue")

    assert "await context.agroup()" in str(Job.objects.get().errors)
