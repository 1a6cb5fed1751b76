"""schedule(): groups, and how a call is tried again."""

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import transaction

from aftercommit import Delays, Exponential, Polynomial, deschedule, gather, groups, schedule
from aftercommit.errors import ConfigurationError, GroupHasEnded
from aftercommit.models import Group, Job
from aftercommit.options.backoff import read_backoff, stored_backoff
from aftercommit.store import store_for
from aftercommit.values import Succeeded
from tests.app.chores import scheduled, scheduled_and_broken
from tests.store.given import claim_one

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

MINUTE = timedelta(minutes=1)
BACKOFFS = [
    Polynomial(),
    Polynomial(base=timedelta(seconds=5), exponent=2, maximum=timedelta(hours=1)),
    Exponential(base=timedelta(seconds=3), jitter=False),
    Delays([timedelta(seconds=1), timedelta(hours=2)]),
]


def end_one():
    store = store_for("default")
    store.finish(claim_one(store), Succeeded("1"))


# ---- how a call is tried again ------------------------------------------------------


def test_the_waits_of_django_async():
    waits = [Polynomial()(errors) for errors in (1, 2, 3, 10)]

    assert [round(one.total_seconds()) for one in waits] == [60, 182, 348, 2389]
    assert Polynomial()(10**9) <= timedelta(days=100 * 365)


@pytest.mark.parametrize(
    "wrong",
    [
        {"base": timedelta(0)},
        {"base": 60},
        {"exponent": -1},
        {"exponent": 11},
        {"exponent": "2"},
        {"maximum": timedelta(seconds=1)},
        {"maximum": timedelta.max},
    ],
    ids=str,
)
def test_a_polynomial_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="exponent"):
        Polynomial(**wrong)


@pytest.mark.parametrize("backoff", BACKOFFS, ids=str)
def test_a_backoff_is_kept_with_a_call(backoff):
    stored = json.loads(json.dumps(stored_backoff(backoff)))

    assert read_backoff(stored) == backoff


def test_a_function_is_not_kept_with_a_call():
    with pytest.raises(ConfigurationError, match="cannot be kept with a call"):
        schedule(scheduled, ["one"], backoff=lambda _failed: MINUTE)
    assert not Job.objects.exists()


def test_a_call_waits_as_it_says_after_a_failure():
    result = schedule(scheduled_and_broken, ["one"], backoff=Polynomial(), max_attempts=7)
    before = Job.objects.get().run_after

    call_command("flush_queue")

    job = Job.objects.get(id=result.id)
    assert (job.state, job.attempts, job.max_attempts) == ("ready", 1, 7)
    assert MINUTE <= job.run_after - before < 2 * MINUTE


def test_a_call_whose_backoff_cannot_be_read_waits_as_its_backend_says():
    schedule(scheduled_and_broken, ["one"], backoff=timedelta(days=9))
    job = Job.objects.get()
    changed = job.payload.replace("delays", "dalays")
    Job.objects.update(payload=changed)

    call_command("flush_queue")

    assert Job.objects.get().run_after - job.run_after < timedelta(days=1)


def test_a_call_is_taken_back_with_its_backoff_or_without():
    schedule(scheduled, ["one"], {"a": 1}, backoff=MINUTE)
    schedule(scheduled, ["one"], {"a": 1})
    schedule(scheduled, ["one"], {"a": 2}, backoff=MINUTE)
    schedule(scheduled, ["One"], {"a": 1}, backoff=MINUTE)

    assert deschedule(scheduled, ["one"], {"a": 1}) == 2
    assert Job.objects.filter(state="ready").count() == 2


def test_a_call_can_be_tried_for_ever():
    schedule(scheduled, ["one"], max_attempts=2**31 - 1)

    assert Job.objects.get().max_attempts == 2**31 - 1


# ---- groups -------------------------------------------------------------------------


def test_a_name_is_a_group():
    for key in ("one", "two"):
        schedule(scheduled, [key], group="import")

    found = groups.latest("import")
    assert (Group.objects.count(), found.total) == (1, 2)
    call_command("flush_queue")
    found.refresh()
    assert found.has_completed
    assert [one.return_value for one in found] == ["one", "two"]


def test_no_job_is_added_to_a_group_that_has_begun():
    first = schedule(scheduled, ["one"], group="import")
    schedule(scheduled, ["two"], group="import")
    end_one()

    with pytest.raises(GroupHasEnded, match="one of its jobs has ended already"):
        schedule(scheduled, ["three"], group="import")
    with pytest.raises(GroupHasEnded):
        schedule(scheduled, ["three"], group=groups.latest("import"))
    assert Job.objects.count() == 2
    assert Job.objects.get(id=first.id).state == "succeeded"


def test_after_its_end_the_name_is_a_new_group():
    schedule(scheduled, ["one"], group="import")
    end_one()
    Group.objects.update(description="of May")

    schedule(scheduled, ["two"], group="import")

    newest, oldest = groups.find(name="import")
    assert (newest.total, newest.done, oldest.done) == (1, 0, 1)
    assert newest.description == "of May"


def test_after_it_was_cancelled_the_name_is_a_new_group():
    schedule(scheduled, ["one"], group="import")
    groups.latest("import").cancel()

    schedule(scheduled, ["two"], group="import")

    assert len(groups.find(name="import")) == 2


def test_a_group_in_a_gathered_block():
    with transaction.atomic(), gather():
        schedule(scheduled, ["zero"])
        schedule(scheduled, ["one"], group="import")

    assert groups.latest("import").total == 1
    assert Job.objects.filter(claimable=True).count() == 2
