"""Pages of jobs: which, in which order, and how many rows are read for them."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from aftercommit.models import Blocked, Dependency, Job
from aftercommit.store import browsing
from aftercommit.store.browsing import DUE, NEWEST, OLDEST
from aftercommit.store.criteria import Criteria
from aftercommit.store.rules import pause_of
from aftercommit.values import TASK, Failed, Succeeded
from tests.store.given import ERROR, claim_all, claim_one, ready_job, ready_jobs

pytestmark = pytest.mark.django_db

EVERYTHING = Criteria()


def of(*states, **given):
    return Criteria(states=states, **given)


def ids(page):
    return [job.id for job in page.jobs]


def ended(store, count, outcome):
    job_ids = ready_jobs(store, count)
    for claim in claim_all(store):
        assert store.finish(claim, outcome)
    return job_ids


def pages(store, wanted, **given):
    """Return the ids of all pages, one after the other."""
    found, behind = [], None
    while True:
        page = store.browse(wanted, size=2, behind=behind, **given)
        found.append(ids(page))
        behind = page.next
        if behind is None:
            return found


@pytest.mark.parametrize("wanted", [EVERYTHING, of("ready"), of("ready", queue="default")])
def test_pages_follow_each_other_in_both_orders(store, wanted):
    made = ready_jobs(store, 5)

    down, up = pages(store, wanted), pages(store, wanted, order=OLDEST)

    assert down == [made[:-3:-1], [made[2], made[1]], [made[0]]]
    assert up == [made[:2], made[2:4], made[4:]]


def test_a_page_that_is_just_full_has_no_next_one(store):
    ready_jobs(store, 2)

    assert store.browse(EVERYTHING, size=2).next is None
    assert store.browse(of("ready"), size=2).next is None


def test_each_state_is_found(store):
    failed = ended(store, 2, Failed(ERROR))
    succeeded = ended(store, 2, Succeeded("1"))
    running = ready_jobs(store, 1)
    claim_one(store)
    ready = ready_jobs(store, 1)

    by_state = {
        state: sorted(ids(store.browse(of(state), size=10)))
        for state in ("ready", "running", "succeeded", "failed", "cancelled")
    }

    assert by_state == {
        "ready": ready,
        "running": running,
        "succeeded": succeeded,
        "failed": failed,
        "cancelled": [],
    }


def test_ready_jobs_are_found_wherever_they_wait(store):
    plain, limited, rated, in_turn, waiting, aside = ready_jobs(store, 6)
    places = {
        limited: Blocked.LIMIT,
        rated: Blocked.RATE,
        in_turn: Blocked.FAIR,
        waiting: Blocked.JOBS,
    }
    for job_id, place in places.items():
        Job.objects.filter(pk=job_id).update(claimable=False, blocked=place, limit_key="k")
    store.pause(TASK, "tests.app.tasks.add", by="", why="")
    Job.objects.filter(pk=aside).update(claimable=False, waits_for=1)
    Dependency.objects.create(job_id=aside, needs_id=pause_of("tests.app.tasks.add"))

    found = ids(store.browse(of("ready"), size=10))

    assert sorted(found) == [plain, limited, rated, in_turn, waiting, aside]


def test_what_is_due_first_comes_first(store):
    later = ready_job(store, run_after=timezone.now() + timedelta(hours=2))
    sooner = ready_job(store, run_after=timezone.now() + timedelta(hours=1))
    now = ready_job(store)

    assert ids(store.browse(of("ready"), size=10, order=DUE)) == [now, sooner, later]
    assert ids(store.browse(of("ready"), size=10, order=NEWEST)) == [now, sooner, later]


def test_a_page_does_not_read_what_may_be_large(store):
    ready_job(store, payload='{"args":["' + "x" * 1000 + '"],"kwargs":{}}')

    page = store.browse(EVERYTHING, size=2)

    (job,) = page.jobs
    assert len(job.payload_head) == browsing.HEAD
    assert job.payload_size > 1000
    assert {"payload", "errors", "result", "headers"} <= job.get_deferred_fields()


def test_a_walk_for_rare_jobs_stops_and_can_be_continued(store, monkeypatch):
    monkeypatch.setattr(browsing, "ONE_WINDOW", 2)
    monkeypatch.setattr(browsing, "MOST_WINDOWS", 2)
    rare = ready_job(store, queue="rare")
    ready_jobs(store, 5)
    wanted = of("ready", "running", queue="rare")

    first = store.browse(wanted, size=2)
    assert (ids(first), first.is_cut) == ([], True)
    second = store.browse(wanted, size=2, behind=first.next)

    assert (ids(second), second.is_cut, second.next) == ([rare], False, None)
    assert store.count_some(wanted) == (1, True)  # from the oldest on
    assert store.count_some(of("ready", queue="rare")) == (1, False)


def test_many_ready_jobs_are_walked_by_the_primary_key(store, monkeypatch):
    monkeypatch.setattr(browsing, "MOST_SORTED", 3)
    made = ready_jobs(store, 4)

    assert pages(store, of("ready")) == [made[:-3:-1], [made[1], made[0]]]
    # So many are not sorted by another column.
    assert ids(store.browse(of("ready"), size=10, order=DUE)) == made[::-1]


def test_windows_end_where_the_criteria_end(store, monkeypatch):
    monkeypatch.setattr(browsing, "ONE_WINDOW", 2)
    made = ready_jobs(store, 3)

    assert store.end_of_window(None, EVERYTHING) == made[1]
    assert store.end_of_window(made[1], EVERYTHING) is None
    assert store.end_of_window(None, Criteria(until=made[0])) is None
    assert store.last_id() == made[-1]


# What is found by new criteria.


def test_a_part_of_the_arguments_is_found_by_its_letters(store):
    wanted = ready_job(store, payload='{"args":["K\\u00f6ln \\"7\\""],"kwargs":{}}')
    plain = ready_job(store, payload='{"args":["Köln \\"7\\""],"kwargs":{}}')
    ready_job(store, payload='{"args":["KÖLN \\"7\\""],"kwargs":{}}')
    ready_job(store, queue="relay.rq", payload='{"args":["Köln \\"7\\""],"kwargs":{}}')

    found = store.browse(Criteria(arguments_contain='öln "7"'), size=10)

    assert sorted(ids(found)) == [wanted, plain]


def test_jobs_are_found_by_when_they_were_enqueued(store):
    old, new = ready_jobs(store, 2)
    ago = timezone.now() - timedelta(hours=3)
    Job.objects.filter(pk=old).update(enqueued_at=ago)

    for span in (timedelta(hours=1), timezone.now() - timedelta(hours=1)):
        assert ids(store.browse(Criteria(enqueued_after=span), size=10)) == [new]
        assert ids(store.browse(Criteria(enqueued_before=span), size=10)) == [old]


def test_no_id_behind_the_last_one_is_found(store):
    first, last, _later = ready_jobs(store, 3)
    wanted = Criteria(until=last)

    assert list(store.find(wanted)) == [[first, last]]
    assert ids(store.browse(wanted, size=10)) == [last, first]


# Due now.


def test_jobs_for_later_become_due(store):
    later = ready_job(store, run_after=timezone.now() + timedelta(hours=1))
    due, ended_job = ready_job(store), ended(store, 1, Failed(ERROR))[0]

    assert store.make_due([later, due, ended_job], EVERYTHING) == 1

    assert later in store.due(limit=10)


def test_the_order_of_a_line_stays(store):
    later = ready_job(
        store,
        run_after=timezone.now() + timedelta(hours=1),
        limit_key="tests.app.tasks.add:1",
    )

    assert store.make_due([later], EVERYTHING, in_line=["tests.app.tasks.add"]) == 0
    assert store.make_due([later], EVERYTHING) == 1


# What people have done.


def test_actions_are_recorded_counted_and_read_page_by_page(store):
    first = store.record_action("retry", by="ann", user_id="7", subject="x" * 1000)
    second = store.record_action("pause", by="bob", user_id="8", details={"why": ["\x00<b>"]})
    store.count_action(first, found=5, changed=3, details={"position": None})
    store.count_action(first, found=2, changed=1, details={"position": "p"})

    newest, oldest = store.actions(limit=10)
    assert (newest.pk, oldest.pk) == (second, first)
    assert (oldest.found, oldest.changed, oldest.details) == (7, 4, {"position": "p"})
    assert oldest.subject == "x" * 255
    assert newest.details == {"why": ["\\0<b>"]}
    assert [one.pk for one in store.actions(limit=1, before=second)] == [first]
    assert [one.pk for one in store.actions(limit=9, by="bob")] == [second]
    assert store.action(first).by == "ann"
    assert store.action(second + 1) is None


# What waits for what.


def test_both_sides_of_an_edge_are_read(store):
    job_id, needed = uuid4(), uuid4()
    Dependency.objects.create(job_id=job_id, needs_id=needed, outcome="failed")

    assert store.needs_of(job_id, limit=5) == [(needed, "failed")]
    assert store.needed_by(needed, limit=5) == [(job_id, "failed")]
    assert store.needs_of(needed, limit=5) == []
