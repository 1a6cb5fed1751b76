"""Statistics: written as rows that nobody changes, folded without a change of any sum."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from aftercommit.ids import new_job_id
from aftercommit.models import Job, Statistic
from aftercommit.store import statistics as module
from aftercommit.store import store_for
from aftercommit.store.clock import ago
from aftercommit.store.statistics import (
    BEGINNING,
    FOLDED,
    FOLDED_AFTER,
    FOLDED_KEPT,
    HOURS_KEPT,
    MINUTES_KEPT,
    RESENT_FOR,
    Counted,
    Span,
    floor,
)
from aftercommit.tallies import CANCELLED, FAILED, OTHER, RESCUED, Key, Tally, Times
from aftercommit.values import Edge, Failed
from tests.store.callers import answer, statements
from tests.store.given import ERROR, claim_all, claim_one, new_job, ready_job, ready_jobs

CANCELLED_MAIL = Key("shop.tasks.mail", "mail", "cancelled")
KEY = Key("shop.tasks.mail", "mail", "succeeded")
LATER = FOLDED_AFTER + timedelta(seconds=5)
ALL = 1000  # rows


def counted(jobs=1, key=KEY, *, wait=0.5, run=0.25):
    """Return what a worker process has counted: so many runs alike."""
    tally = Tally(jobs)
    for times, seconds in ((tally.waits, wait), (tally.runs, run)):
        for _number in range(jobs):
            times.add(seconds)
    return Counted(new_job_id(), key, tally)


def flushed(store, *some, age=timedelta(0)):
    """Write as a worker has done so long ago."""
    store.write_statistics(some)
    rows = Statistic.objects.filter(id__in=[one.id for one in some])
    rows.update(began_at=ago(age))


def sums(store, span=Span.TOTAL, **given):
    """Return how many runs of each key there are, and how often each wait."""
    found = {}
    for one in store.statistics(span, **given)[1]:
        found.setdefault(one.key, Tally()).merge(one.tally)
    return found


def rows(span):
    """Return how many rows there are of a span."""
    return Statistic.objects.filter(span=span).count()


def test_what_was_written_is_read(store):
    store.write_statistics([counted(3), counted(2, KEY._replace(outcome="failed"))])

    now, kept = store.statistics(Span.MINUTE, over=timedelta(minutes=5))
    found = {one.key.outcome: one for one in kept}
    assert found["succeeded"].key == KEY
    assert found["succeeded"].tally == counted(3).tally
    assert found["failed"].tally.jobs == 2
    assert abs(now - found["failed"].began_at) < timedelta(seconds=60)


def test_all_counters_are_written_by_one_statement(store):
    many = [counted(1, KEY._replace(task_path=f"t.{number}")) for number in range(100)]

    with statements() as sent:
        store.write_statistics(many)

    written = [one for one in sent if "aftercommit" in one[0]]
    # Before Django 6.0 a statement on SQLite has 999 parameters at most.
    most = connection.features.max_query_params
    assert len(written) == (2 if most and most < 1000 else 1)
    assert rows(Span.FLUSH) == 100


def test_a_flush_that_is_sent_again_counts_once(store):
    one = counted(5)

    store.write_statistics([one])
    store.write_statistics([one, other := counted(2)])

    assert sums(store)[KEY].jobs == 7
    assert Statistic.objects.get(id=other.id).jobs == 2


def test_a_flush_that_is_sent_again_after_it_was_folded_counts_once(store):
    flushed(store, one := counted(5), age=LATER)
    store.fold_statistics(limit=ALL)

    store.write_statistics([one])
    assert store.prune_statistics(limit=ALL) == 0
    Statistic.objects.filter(span=Span.FLUSH).update(began_at=ago(LATER))
    store.fold_statistics(limit=ALL)

    assert sums(store)[KEY].jobs == 5
    assert sums(store, Span.HOUR, over=timedelta(hours=1))[KEY].jobs == 5


def test_what_was_folded_is_forgotten_long_after_it_is_sent_for_the_last_time(store):
    assert 2 * RESENT_FOR < FOLDED_KEPT
    flushed(store, counted(5), age=FOLDED_KEPT - LATER)
    flushed(store, counted(2), age=FOLDED_KEPT + LATER)
    store.fold_statistics(limit=ALL)
    assert rows(FOLDED) == 2

    assert store.prune_statistics(limit=ALL) == 1

    assert rows(FOLDED) == 1
    assert sums(store)[KEY].jobs == 7


# ---- ends without a run ---------------------------------------------------------------


@pytest.mark.parametrize("rolls_back", [False, True])
def test_a_job_that_is_cancelled_before_it_runs_is_counted_with_its_end(store, rolls_back):
    ready = ready_jobs(store, 2, task_path="shop.tasks.mail@2", queue="mail")

    with transaction.atomic():
        for _time in range(2):
            store.cancel(ready)
        transaction.set_rollback(rolls_back)

    assert ends(store) == {} if rolls_back else {CANCELLED: 2}
    assert list(sums(store)) == [CANCELLED_MAIL] * (not rolls_back)


def test_what_is_only_asked_to_end_is_not_counted(store):
    ready_job(store)
    claim_one(store)

    with statements() as sent:
        store.cancel(Job.objects.values_list("id", flat=True))

    assert ends(store) == {}
    assert not [sql for sql, _given in sent if "aftercommit_statistic" in sql]


def test_one_that_is_cancelled_because_another_has_failed_is_counted(store):
    first, late = new_job(needed=True), new_job(waits=True)
    store.insert_graph([first, late], [Edge(late.id, first.id, "cancel")])

    store.finish(claim_one(store), Failed(ERROR))

    assert ends(store) == {CANCELLED: 1}  # the run is counted by its worker


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_rescue_is_counted_whoever_rescues_and_so_is_the_end(store, cancelled):
    ready_jobs(store, 3)
    failed, _again, asked = claims = claim_all(store)
    if cancelled:
        store.cancel([asked.job_id])

    dead = [claims[0].worker_id]
    store.rescue(max_crashes=1, dead_workers=dead, blamed={failed.job_id: "killed"})
    store.rescue(max_crashes=1, dead_workers=dead)

    found = {RESCUED: 3, FAILED: 1, CANCELLED: 1}
    assert ends(store) == (found if cancelled else {RESCUED: 3, FAILED: 1})


def test_a_cancelled_job_that_its_dead_worker_has_not_begun_is_counted(store):
    ready_jobs(store, 2)
    asked, other = claim_all(store)
    store.cancel([asked.job_id])

    assert len(store.release_unstarted(other.worker_id, begun=[])) == 2

    assert ends(store) == {CANCELLED: 1}


def test_nothing_is_counted_where_the_backend_keeps_no_statistics(store, settings):
    name = settings.TASKS["default"]
    quiet = {**name, "OPTIONS": {**name.get("OPTIONS", {}), "statistics": False}}
    settings.TASKS = {**settings.TASKS, "default": quiet}
    for backend in ("default", "unknown"):
        store.cancel([ready_job(store, backend=backend)])

    assert ends(store) == {CANCELLED: 1}


def ends(store):
    """Return how many ends of each outcome are counted."""
    found = Counter()
    for key, tally in sums(store).items():
        found[key.outcome] += tally.jobs
    return found


def test_folding_changes_no_sum(store):
    keys = [KEY, KEY._replace(outcome="failed"), KEY._replace(queue="other")]
    for age in (timedelta(0), LATER, LATER * 2, timedelta(minutes=50)):
        flushed(store, *[counted(number + 1, key) for number, key in enumerate(keys)], age=age)
    before = sums(store)

    assert store.fold_statistics(limit=ALL) == 9  # those of just now wait

    assert sums(store) == before
    assert sums(store, Span.HOUR, over=timedelta(hours=2)) == before
    assert sums(store, Span.MINUTE, over=timedelta(hours=2)) == before
    assert rows(Span.FLUSH) == 3
    assert rows(Span.TOTAL) == 3


def test_folding_again_and_again_keeps_one_row_of_a_key(store):
    at = [timedelta(minutes=number) for number in (2, 3, 4)]
    for _time in range(3):
        for age in at:
            flushed(store, counted(2), age=age)
        while store.fold_statistics(limit=2):
            pass

    assert sums(store)[KEY].jobs == 18
    assert rows(Span.TOTAL) == 1
    assert rows(Span.MINUTE) <= 4  # the clock goes on meanwhile
    assert rows(Span.HOUR) <= 2
    assert rows(Span.FLUSH) == 0


def test_a_flush_is_in_its_minute_and_its_hour(store):
    flushed(store, counted(), age=timedelta(minutes=90))
    written = Statistic.objects.get().began_at

    store.fold_statistics(limit=ALL)

    found = dict(Statistic.objects.values_list("span", "began_at"))
    assert found[Span.MINUTE] == floor(written, Span.MINUTE) <= written
    assert found[Span.HOUR] == floor(written, Span.HOUR)
    assert found[Span.TOTAL] == BEGINNING
    assert sums(store, Span.MINUTE, over=timedelta(minutes=80)) == {}
    assert sums(store, Span.MINUTE, over=timedelta(minutes=91))[KEY].jobs == 1


def test_the_beginning_of_a_minute_and_of_an_hour():
    moment = datetime(2026, 5, 4, 13, 59, 59, 999999, UTC)

    assert floor(moment, Span.MINUTE) == datetime(2026, 5, 4, 13, 59, tzinfo=UTC)
    assert floor(moment, Span.HOUR) == datetime(2026, 5, 4, 13, tzinfo=UTC)
    assert floor(moment, Span.TOTAL) == BEGINNING


def test_minutes_and_hours_are_deleted_when_their_time_is_over_and_totals_never(store):
    for age in (timedelta(minutes=10), MINUTES_KEPT + LATER, HOURS_KEPT + timedelta(hours=2)):
        flushed(store, counted(4), age=age)
    store.fold_statistics(limit=ALL)

    assert store.prune_statistics(limit=ALL) == 5  # two folded ones as well

    assert (rows(Span.MINUTE), rows(Span.HOUR)) == (1, 2)
    assert sums(store)[KEY].jobs == 12
    assert store.prune_statistics(limit=ALL) == 0


def test_a_deletion_has_its_limit(store):
    for number in range(5):
        flushed(store, counted(), age=HOURS_KEPT + timedelta(hours=number + 2))
    store.fold_statistics(limit=ALL)

    assert store.prune_statistics(limit=2) == 6  # of minutes, of hours, and folded ones
    assert (rows(Span.MINUTE), rows(Span.HOUR)) == (3, 3)


def test_what_is_asked_of_a_task_or_a_queue(store):
    other = Key("shop.tasks.report", "reports", "succeeded")
    store.write_statistics([counted(1), counted(2, other)])

    assert list(sums(store, task_paths=[KEY.task_path])) == [KEY]
    assert list(sums(store, queues=["reports"])) == [other]
    assert sums(store, task_paths=[]) == {}


def test_names_are_compared_by_their_bytes(store):
    names = ["é", "e", "E", "e ", "\N{PILE OF POO}", "\N{GHOST}"]
    for _time in range(2):
        some = [counted(1, KEY._replace(queue=name)) for name in names]
        flushed(store, *some, age=LATER)
        store.fold_statistics(limit=ALL)

    assert {key.queue: tally.jobs for key, tally in sums(store).items()} == dict.fromkeys(
        names, 2
    )
    assert rows(Span.TOTAL) == len(names)


def test_the_number_of_keys_is_bounded(store, monkeypatch):
    monkeypatch.setattr(module, "MOST_KEYS", 3)
    for number in range(6):
        flushed(store, counted(1, KEY._replace(queue=f"tenant-{number}")), age=LATER)
        store.fold_statistics(limit=ALL)

    found = {key.queue: tally.jobs for key, tally in sums(store).items()}
    assert found == {"tenant-0": 1, "tenant-1": 1, "tenant-2": 1, OTHER: 3}
    flushed(store, counted(1, Key("", "late", "claimed")), age=LATER)
    store.fold_statistics(limit=ALL)
    assert Key("", OTHER, "claimed") in sums(store)


def test_a_key_beyond_that_number_is_no_more_before_it_is_folded_than_after(store, monkeypatch):
    monkeypatch.setattr(module, "MOST_KEYS", 2)
    for number in range(2):
        flushed(store, counted(1, KEY._replace(queue=f"tenant-{number}")), age=LATER)
    store.fold_statistics(limit=ALL)
    flushed(store, counted(3, KEY._replace(queue="late")), age=LATER)
    flushed(store, counted(1, KEY._replace(queue="tenant-0")), age=LATER)
    before = sums(store)

    store.fold_statistics(limit=ALL)

    assert {key.queue: tally.jobs for key, tally in before.items()} == {
        "tenant-0": 2,
        "tenant-1": 1,
        OTHER: 3,
    }
    assert sums(store) == before


def test_a_fold_that_is_broken_off_leaves_all_as_it_was(store, monkeypatch):
    flushed(store, counted(3), age=LATER)
    before = sums(store)

    def stop(ids):  # after totals, minutes and hours
        assert (len(ids), rows(Span.TOTAL), rows(Span.HOUR)) == (1, 1, 1)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_mark_folded", stop, raising=False)
    with pytest.raises(KeyboardInterrupt):
        store.fold_statistics(limit=ALL)

    assert sums(store) == before
    assert rows(Span.TOTAL) == 0


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
def test_two_that_fold_at_once_neither_wait_nor_count_twice(store, other):
    for _time in range(3):
        flushed(store, counted(2), age=LATER)
        store.fold_statistics(limit=ALL)
    flushed(store, counted(2), age=LATER)
    with transaction.atomic():
        assert store.fold_statistics(limit=ALL) == 1
        store.write_statistics([late := counted(1)])
        assert other.do(_flushed_and_folded, counted(10)) == 1
    Statistic.objects.filter(id=late.id).update(began_at=ago(LATER))

    assert sums(store)[KEY].jobs == 19
    assert rows(Span.TOTAL) == 2  # the other one could not merge what was locked
    assert store.fold_statistics(limit=ALL) == 1
    assert sums(store)[KEY].jobs == 19
    assert rows(Span.TOTAL) == 1


def _flushed_and_folded(one):
    store = store_for("default")
    flushed(store, one, age=LATER)
    return store.fold_statistics(limit=ALL)


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
def test_a_flush_waits_for_nobody_who_folds(store, other):
    flushed(store, counted(2), age=LATER)
    with transaction.atomic():
        store.fold_statistics(limit=ALL)
        begun = other.start(_write_one)
        assert answer(begun)

    assert sums(store)[KEY].jobs == 3


def _write_one():
    store_for("default").write_statistics([counted(1)])
    return True


def test_what_cannot_be_read_counts_as_nothing(store):
    store.write_statistics([counted(2)])
    Statistic.objects.update(waits="{", runs='["x"]')

    tally = sums(store)[KEY]
    assert tally.jobs == 2
    assert tally.waits.buckets == Times().buckets
