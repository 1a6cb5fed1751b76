"""Jobs that were on a dead worker: they are found now and then, and claimed by their ids."""

from datetime import timedelta
from uuid import uuid4

import pytest

from aftercommit.models import Job
from aftercommit.options.choice import QueueChoice
from aftercommit.options.conf import BackendOptions
from aftercommit.store.clock import in_future
from aftercommit.worker import crashed as crashed_module
from aftercommit.worker.claiming.fetcher import Fetcher
from aftercommit.worker.config import Served
from aftercommit.worker.crashed import DUE_WITHIN, LONGEST_PAUSE, CrashedJobs
from aftercommit.worker.facts import Catalogue
from aftercommit.worker.leases import Leases
from aftercommit.worker.rules import RulesInForce
from tests.app.tasks import add
from tests.worker.rig import LEASE, commits

pytestmark = commits

A_MOMENT = timedelta(milliseconds=1)


def served(store, **given):
    """Return what a process for jobs with crashes serves."""
    return Served(
        **{
            "using": store.alias,
            "queues": None,
            "backends": (),
            "options": BackendOptions(lease=LEASE),
            "relays": False,
            "crashed": True,
            **given,
        }
    )


def crash(*, queue="default", **columns):
    """Enqueue a job and let it look as if its worker had died; return its id."""
    job_id = add.using(queue_name=queue).enqueue(1, 2).id
    Job.objects.filter(id=job_id).update(crashes=1, **columns)
    return Job.objects.get(id=job_id).id


@pytest.fixture
def clock(monkeypatch):
    """Return a function that puts the clock of this process forward."""
    at = [1000.0]
    monkeypatch.setattr(crashed_module, "now", lambda: at[0])

    def put_forward(span):
        at[0] += span.total_seconds()

    return put_forward


def test_jobs_that_are_due_are_taken_by_their_queues_the_most_urgent_first(store):
    first, second = crash(), crash(queue="mail")
    add.enqueue(1, 2)  # no worker has died with this one
    jobs = CrashedJobs(store, served(store), RulesInForce(store))

    assert jobs.take(1) == {"default": [first]}
    assert jobs.take(9) == {"mail": [second]}
    assert jobs.take(9) == {}


def test_one_that_is_due_soon_is_near_but_not_taken(store):
    crash(run_after=in_future(DUE_WITHIN / 2))
    jobs = CrashedJobs(store, served(store), RulesInForce(store))

    assert jobs.take(9) == {}
    assert jobs.are_near

    Job.objects.update(run_after=in_future(DUE_WITHIN * 2))
    jobs.look(at_once=True)
    assert not jobs.are_near


@pytest.mark.parametrize(
    "given",
    [{"queues": QueueChoice.of(["mail"])}, {"backends": ("second",)}],
    ids=["queues", "backends"],
)
def test_jobs_that_this_worker_does_not_serve_are_not_near(store, given):
    crash()
    jobs = CrashedJobs(store, served(store, **given), RulesInForce(store))

    assert jobs.take(9) == {}
    assert not jobs.are_near


@pytest.mark.parametrize("relays", [False, True])
def test_messages_count_for_those_who_relay(store, relays):
    message = crash(queue="relay.celery")
    jobs = CrashedJobs(store, served(store, relays=relays), RulesInForce(store))

    assert jobs.take(9) == ({"relay.celery": [message]} if relays else {})
    assert jobs.are_near is relays


def test_jobs_of_unknown_tasks_are_not_near_and_hide_no_others(store, monkeypatch):
    monkeypatch.setattr(crashed_module, "AT_A_TIME", 2)
    for _number in range(3):
        crash(task_path="shop.tasks.gone", priority=9)
    known = crash()
    jobs = CrashedJobs(store, served(store), RulesInForce(store))

    assert jobs.take(9) == {"default": [known]}

    Job.objects.filter(id=known).delete()
    jobs.look(at_once=True)
    assert not jobs.are_near


@pytest.mark.parametrize("column", [{"backend": "gone"}, {"queue": "relay.celery"}], ids=str)
def test_those_that_this_worker_cannot_run_hide_no_others(column, store, monkeypatch):
    monkeypatch.setattr(crashed_module, "AT_A_TIME", 2)
    foreign = [crash(priority=100) for _number in range(5)]
    Job.objects.filter(id__in=foreign).update(**column)
    given = served(store)
    jobs = CrashedJobs(store, given, RulesInForce(store))

    jobs.look()
    assert not jobs.are_near
    job_id = crash(queue="RELAY.celery")
    jobs.look(at_once=True)

    assert jobs.are_near
    assert jobs.take(9) == {"RELAY.celery": [job_id]}


def test_a_look_that_took_long_is_not_repeated_soon(store, clock, monkeypatch):
    looks = []
    real = store.crashed_jobs

    def slow(**given):
        looks.append(given)
        clock(timedelta(seconds=10))
        return real(**given)

    monkeypatch.setattr(store, "crashed_jobs", slow)
    jobs = CrashedJobs(store, served(store), RulesInForce(store))
    jobs.look()
    jobs.look()
    assert len(looks) == 1

    clock(LONGEST_PAUSE + A_MOMENT)
    jobs.look()
    assert len(looks) == 2


def test_after_a_claim_it_looks_again_at_once(store, clock):
    jobs = CrashedJobs(store, served(store), RulesInForce(store))
    first = crash()
    assert jobs.take(9) == {"default": [first]}
    assert jobs.take(9) == {}  # it has just looked

    jobs.claimed()  # the job ran, failed, and is due again

    assert jobs.take(9) == {"default": [first]}


def test_one_that_another_connection_holds_is_not_asked_for_again_and_again(store, monkeypatch):
    crash()
    asked = []
    monkeypatch.setattr(store, "claim", lambda query: asked.append(query) or [])
    what = served(store)
    facts_of = Catalogue(lambda _facts: None).facts_of
    fetcher = Fetcher(
        store,
        what,
        CrashedJobs(store, what, rules := RulesInForce(store)),
        Leases(),
        rules,
        worker_id=uuid4(),
        facts_of=facts_of,
    )

    assert fetcher.fetch(limit=1) == []
    assert len(asked) == 1


def test_they_are_claimed_by_their_ids_and_no_other_job_is(store):
    wanted = crash()
    add.enqueue(1, 2)
    what = served(store)
    facts_of = Catalogue(lambda _facts: None).facts_of
    fetcher = Fetcher(
        store,
        what,
        CrashedJobs(store, what, rules := RulesInForce(store)),
        Leases(),
        rules,
        worker_id=wanted,
        facts_of=facts_of,
    )

    claims = fetcher.fetch(limit=9)

    assert [claim.job_id for claim, _facts in claims] == [wanted]
    assert fetcher.fetch(limit=9) == []


def test_one_that_another_worker_was_faster_to_claim_hides_no_others(store):
    gone, left = crash(), crash()
    what = served(store)
    rules = RulesInForce(store)
    jobs = CrashedJobs(store, what, rules)
    facts_of = Catalogue(lambda _facts: None).facts_of
    fetcher = Fetcher(store, what, jobs, Leases(), rules, worker_id=gone, facts_of=facts_of)
    jobs.look()
    Job.objects.filter(id=gone).update(crashes=0)

    ((claim, _facts),) = fetcher.fetch(limit=1)

    assert claim.job_id == left
