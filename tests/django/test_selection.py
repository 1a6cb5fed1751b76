"""``jobs.find()``: what may be asked, and what is done in batches."""

from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import pytest
from django.db import transaction

from aftercommit import chain, group, jobs, queues, task
from aftercommit._compat import task_finished
from aftercommit.enqueue import called, registry
from aftercommit.errors import BadSelection, NothingToPause
from aftercommit.ids import new_job_id
from aftercommit.models import Job
from aftercommit.store import selecting, store_for
from aftercommit.values import Failed
from tests.app.limited import one_by_one, some_at_once
from tests.app.tasks import add
from tests.django.conftest import claim_only_job
from tests.django.test_jobs import ERROR, failed_job, job, ready_job
from tests.store.callers import statements


def _charge():
    """Do nothing; a test declares it."""


pytestmark = pytest.mark.django_db(databases=["default", "other"])


@pytest.mark.parametrize(
    "given",
    [
        {"ids": "abc"},
        {"ids": ["abc"]},
        {"state": "done"},
        {"state": "Failed"},
        {"state": ()},
        {"state": 3},
        {"state": ["failed", "done"]},
        {"task": 3},
        {"task": ""},
        {"queue": ""},
        {"queue": 3},
        {"queue": "a\nb"},
        {"enqueued_before": 3600},
        {"enqueued_before": "yesterday"},
        {"enqueued_before": datetime(2026, 1, 1)},
        {"enqueued_before": timedelta(seconds=-1)},
        {"finished_before": 7},
        {"error_contains": ""},
        {"error_contains": 3},
        {"using": "nope"},
        {"using": ""},
        {"using": 3},
    ],
    ids=str,
)
def test_what_cannot_be_true_of_a_job_is_refused(given):
    (name,) = given

    with pytest.raises(BadSelection, match=rf"^{name}: expected "):
        jobs.find(**given)


@pytest.mark.parametrize(
    "ask",
    [
        jobs.counts,
        jobs.oldest_due_age,
        jobs.latency,
        jobs.throughput,
        partial(jobs.cancel, []),
        partial(jobs.retry, []),
    ],
)
def test_a_database_that_does_not_exist_is_refused(ask):
    with pytest.raises(BadSelection, match=r"^using: expected the alias of a database \(default"):
        ask(using="nope")


@pytest.mark.parametrize("priority", [101, -101, 1.5, "3", True, None])
def test_a_priority_that_django_does_not_have_is_refused(priority):
    with pytest.raises(BadSelection, match=r"^priority: expected a whole number"):
        jobs.find().reprioritise(priority)


@pytest.mark.parametrize("queue", ["", 3, " mail", "mail ", " ", "relay.celery"])
def test_jobs_are_not_moved_to_what_is_no_queue_of_jobs(queue):
    with pytest.raises(BadSelection, match=r"^queue: expected "):
        jobs.find().move(queue=queue)


@pytest.fixture
def declared_queues(settings):
    """Both backends have QUEUES."""
    tasks = deepcopy(settings.TASKS)
    for backend in tasks.values():
        backend["QUEUES"] = ["default", "mail"]
    settings.TASKS = tasks


@pytest.mark.usefixtures("declared_queues")
def test_jobs_are_not_moved_to_a_queue_that_nobody_has_declared():
    moved, kept = ready_job(), ready_job(queue="of_before")

    with pytest.raises(BadSelection, match=r"database 'default' \(default, mail\), got 'maill'"):
        jobs.find(queue="default").move(queue="maill")

    assert job(moved).queue == "default"
    assert jobs.find(queue="default").move(queue="of_before").changed == 1
    assert jobs.find(queue="of_before").move(queue="mail").changed == 2
    assert {job(moved).queue, job(kept).queue} == {"mail"}


def test_jobs_of_a_queue_whose_name_is_no_longer_possible_are_moved_away():
    moved = ready_job()
    Job.objects.filter(pk=moved).update(queue=" mail")

    assert queues.pause(" mail").changed
    assert queues.resume(" mail").changed
    assert jobs.find(queue=" mail").move(queue="mail").changed == 1
    assert job(moved).queue == "mail"
    with pytest.raises(NothingToPause, match="no queue ' mail'"):
        queues.pause(" mail")


@pytest.mark.parametrize(
    ("state", "operation"),
    [("succeeded", "retry"), ("failed", "cancel"), ("running", "delete"), ("ready", "retry")],
)
def test_an_operation_that_the_states_do_not_have_is_refused(state, operation):
    with pytest.raises(BadSelection, match=rf"for {operation}\(\), got '{state}'"):
        getattr(jobs.find(state=state), operation)()


def test_a_selection_reads_when_it_is_asked_and_each_time_anew(django_assert_num_queries):
    with django_assert_num_queries(0):
        found = jobs.find(state="ready", task=add)
    first = ready_job()

    assert [one.id for one in found] == [first]
    second = ready_job()
    assert (found.count(), [one.id for one in found]) == (2, [first, second])
    assert jobs.find(task="tests.app.tasks.add").count() == 2
    assert jobs.find(task="tests.app.tasks.mul").count() == 0
    assert jobs.find(using="other").count() == 0


def test_all_names_of_a_task_are_meant_whichever_is_given(monkeypatch):
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))
    named = task(name="billing.charge", aliases=("shop.old.charge",))(_charge)
    paths = ["billing.charge", "shop.old.charge", f"{__name__}._charge"]
    ids = [ready_job(task_path=path) for path in paths]
    ready_job(task_path="billing.refund")

    for one in (named, named.using(priority=5), *paths):
        assert [found.id for found in jobs.find(task=one)] == ids
    assert jobs.find(task="billing.refund").count() == 1


def test_a_name_whose_module_is_not_loaded_yet_is_looked_for(monkeypatch):
    monkeypatch.setattr(registry, "_declared", {})
    job_id = ready_job(task_path="shop.old.charge")

    def load(_modules=()):
        registry.register(task(name="billing.charge", aliases=("shop.old.charge",))(_charge))

    monkeypatch.setattr(called, "discover", load)
    assert [found.id for found in jobs.find(task="billing.charge")] == [job_id]


def test_many_ids_are_written_slice_by_slice(monkeypatch):
    monkeypatch.setattr(selecting, "ONE_BATCH", 3)
    ids = sorted(failed_job() for _ in range(5))
    others = [new_job_id() for _ in range(20)]

    with statements() as sent:
        done = jobs.find(ids=[*others, *ids, *ids]).retry()

    assert (done.found, done.changed, done.position) == (5, 5, ids[-1])
    assert max(len(params or ()) for _sql, params in sent) < 25  # the new values among them
    assert [one.id for one in jobs.find(ids=ids)] == ids


def test_only_failed_jobs_are_retried_unless_told_otherwise():
    failed, other = failed_job(), failed_job()
    Job.objects.filter(pk=other).update(state="cancelled")

    done = jobs.find(state="failed").retry()

    assert (done.found, done.changed, done.left, done.position) == (1, 1, 0, failed)
    assert (job(failed).state, job(other).state) == ("ready", "cancelled")
    assert jobs.find().retry().changed == 1


def test_the_jobs_of_a_group_are_found(monkeypatch):
    monkeypatch.setattr(selecting, "ONE_BATCH", 2)
    others = group([add.bind(1, 1)]).enqueue()
    made = group([add.bind(1, one) for one in range(5)], then=add.bind(1, 7)).enqueue()
    members = [*(one.id for one in made), made.last.id]

    for given in (made, made.id, UUID(made.id)):
        assert [str(one.id) for one in jobs.find(group=given)] == members
    assert [str(one.id) for one in jobs.find(group=made, after=UUID(members[2]))] == members[3:]
    some = [*members[:2], *(one.id for one in others)]
    assert [str(one.id) for one in jobs.find(group=made, ids=some)] == members[:2]
    assert jobs.find(group=made, queue="elsewhere").count() == 0
    assert jobs.find(group=made).cancel().changed == 5  # and the last one follows
    assert jobs.find(state="ready").count() == 1
    assert jobs.find(group=new_job_id()).count() == 0


@pytest.mark.parametrize("given", ["import-42", 3, object()])
def test_a_group_is_not_asked_for_by_its_name(given):
    with pytest.raises(BadSelection, match=r"^group: expected a group, or its id"):
        jobs.find(group=given)


def test_whether_there_is_one(monkeypatch):
    monkeypatch.setattr(selecting, "ONE_WINDOW", 2)
    assert not jobs.find().exists()
    ids = [ready_job() for _ in range(5)]
    ready_job(queue="mail")

    assert jobs.find(queue="mail").exists()
    assert not jobs.find(queue="mail", state="running").exists()
    assert jobs.find(ids=ids[3:]).exists()
    assert not jobs.find(after=max(Job.objects.values_list("id", flat=True))).exists()


def test_a_job_whose_key_is_taken_is_counted_and_left():
    failed_job(unique_key="key")
    ready_job(unique_key="key")

    done = jobs.find(state="failed").retry()

    assert (done.found, done.changed, done.clashed, done.left) == (1, 0, 1, 1)


def chain_that_failed(number):
    """Return jobs that wait for each other and have ended, because the first has failed."""
    last = chain(*(add.bind(1, one) for one in range(number))).enqueue()
    ids = sorted(Job.objects.values_list("pk", flat=True))
    store_for("default").finish(claim_only_job(), Failed(ERROR))
    assert last.id == str(ids[-1])
    return ids


def test_a_job_whose_need_has_failed_is_counted_and_left():
    first, second, third = chain_that_failed(3)

    done = jobs.find(ids=[second, third]).retry()
    assert (done.found, done.changed, done.unmet, done.left) == (2, 0, 2, 2)
    assert jobs.find(ids=[first]).retry().changed == 1
    done = jobs.find(ids=[second, third]).retry()

    assert (done.changed, done.unmet) == (2, 0)
    assert list(Job.objects.values_list("state", flat=True)) == ["ready"] * 3


def test_what_a_job_needs_may_be_in_a_later_batch(monkeypatch):
    monkeypatch.setattr(selecting, "ONE_BATCH", 1)
    *_others, last = chain_that_failed(3)
    store_for("default").let_wait(last, [needed := failed_job()])
    Job.objects.filter(pk=needed).update(needed=True)
    seen = []

    done = jobs.find(ids=[last, needed]).retry(progress=seen.append)

    assert needed > last
    assert (done.found, done.changed, done.unmet) == (2, 1, 1)  # its first need is not retried
    done = jobs.find().retry(progress=seen.append)
    assert (done.changed, done.unmet) == (3, 0)
    assert seen[-1] == done


def test_a_cancellation_is_announced_and_running_jobs_are_asked(
    django_capture_on_commit_callbacks,
):
    heard = []
    task_finished.connect(
        lambda task_result, **_: heard.append(task_result.id), weak=False, dispatch_uid="heard"
    )
    running = ready_job(queue="running")
    claim_only_job(queue="running")
    ready = ready_job()

    with django_capture_on_commit_callbacks(execute=True):
        done = jobs.find().cancel()

    task_finished.disconnect(dispatch_uid="heard")
    assert (done.changed, done.asked) == (2, 1)
    assert (job(ready).state, job(running).cancel_requested) == ("cancelled", True)
    assert heard == [str(ready)]
    assert jobs.find().cancel().changed == 0


def test_finished_jobs_are_deleted():
    failed, ready = failed_job(), ready_job()

    assert jobs.find().delete().changed == 1

    assert list(Job.objects.values_list("pk", flat=True)) == [ready]
    assert failed != ready


def test_jobs_are_moved_and_reprioritised():
    job_id = ready_job()

    assert jobs.find(queue="default").move(queue="mail").changed == 1
    assert jobs.find(queue="mail").reprioritise(-100).changed == 1

    assert (job(job_id).queue, job(job_id).priority) == ("mail", -100)


@pytest.mark.parametrize(
    ("path", "changed"), [(one_by_one, 0), (some_at_once, 1), ("gone.tasks.unknown", 0)]
)
def test_jobs_that_run_in_order_are_left_where_they_are(path, changed):
    job_id = ready_job()
    path = getattr(path, "module_path", path)
    Job.objects.filter(id=job_id).update(limit_key="k", task_path=path)

    moved = jobs.find(queue="default").move(queue="mail")
    assert (moved.found, moved.changed, moved.left) == (1, changed, 1 - changed)
    assert jobs.find().reprioritise(50).changed == changed


@pytest.fixture
def batches_of_two(monkeypatch):
    monkeypatch.setattr(selecting, "ONE_BATCH", 2)


@pytest.mark.usefixtures("batches_of_two")
def test_progress_is_told_after_each_batch_and_can_stop_the_rest():
    ids = sorted(failed_job() for _ in range(5))
    told = []

    def stop_at_four(progress):
        told.append((progress.found, progress.changed, progress.position))
        if progress.found == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.find(state="failed").retry(progress=stop_at_four)

    assert told == [(2, 2, ids[1]), (4, 4, ids[3])]
    assert [one.id for one in jobs.find(state="failed")] == ids[4:]
    assert [one.id for one in jobs.find(after=ids[3])] == ids[4:]


@pytest.mark.usefixtures("batches_of_two")
def test_in_a_transaction_all_batches_belong_to_it():
    for _ in range(3):
        failed_job()

    with transaction.atomic():
        assert jobs.find(state="failed").retry().changed == 3
        transaction.set_rollback(True)

    assert jobs.find(state="failed").count() == 3


def test_an_error_is_found_by_a_part_of_it():
    (wanted, other) = (ready_job(queue="one"), ready_job(queue="two"))
    found = {"one": ERROR, "two": replace(ERROR, traceback="KeyError: 'card'")}
    for queue, error in found.items():
        store_for("default").finish(claim_only_job(queue=queue), Failed(error))

    assert [one.id for one in jobs.find(error_contains="ValueError: no")] == [wanted]
    assert [one.id for one in jobs.find(error_contains="'card'")] == [other]
