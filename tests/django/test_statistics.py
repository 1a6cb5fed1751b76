"""jobs.statistics(), jobs.series() and jobs.totals(): what workers have counted."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from aftercommit import jobs
from aftercommit.errors import BadSelection
from aftercommit.ids import new_job_id
from aftercommit.models import Statistic
from aftercommit.store import store_for
from aftercommit.store.clock import ago
from aftercommit.store.statistics import Counted, Statistics
from aftercommit.tallies import CLAIMED, Key, Tally
from tests.app import tasks

pytestmark = pytest.mark.django_db
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ADD = tasks.add.module_path


def ends(number, *, outcome="succeeded", task=ADD, queue="default", age=MINUTE, run=0.25):
    """Let so many runs have ended so long ago."""
    tally = Tally(number)
    for _one in range(0 if outcome == CLAIMED else number):
        tally.waits.add(0.5)
        tally.runs.add(run)
    one = Counted(new_job_id(), Key(task, queue, outcome), tally)
    store_for("default").write_statistics([one])
    Statistic.objects.filter(id=one.id).update(began_at=ago(age))


@pytest.fixture(params=["as flushed", "folded"])
def folded(request):
    """Return a function that folds all, or leaves it as it was flushed: what is read is equal."""

    def fold():
        if request.param == "folded":
            while store_for("default").fold_statistics(limit=100):
                pass

    return fold


def test_of_nothing_there_is_nothing():
    found = jobs.statistics()

    assert (found.ended, found.failure_share, found.per_second) == (0, None, 0)
    assert found.waits.percentile(95) is None
    assert jobs.statistics(by="task") == jobs.statistics(by="queue") == jobs.totals() == {}
    assert {one.ended for one in jobs.series()} == {0}


def test_what_was_counted_is_summed_up_by_task_and_by_queue(folded):
    ends(6, age=2 * MINUTE)
    ends(2, outcome="failed", age=3 * MINUTE)
    ends(5, outcome="retried", age=3 * MINUTE)
    ends(1, task="shop.tasks.report", queue="reports", age=3 * MINUTE, run=100.0)
    ends(9, task="", outcome=CLAIMED, age=3 * MINUTE)
    folded()

    both = jobs.statistics()
    assert (both.succeeded, both.failed, both.retried, both.claimed) == (7, 2, 5, 9)
    assert (both.ended, both.failure_share) == (9, pytest.approx(2 / 9))
    by_task = jobs.statistics(by="task")
    assert sorted(by_task) == sorted([ADD, "shop.tasks.report"])
    assert by_task[ADD].failure_share == 0.25
    assert by_task[ADD].runs.percentile(99) < timedelta(seconds=1)
    assert by_task["shop.tasks.report"].runs.percentile(50) > timedelta(seconds=60)
    by_queue = jobs.statistics(by="queue")
    assert (by_queue["default"].claimed, by_queue["reports"].claimed) == (9, 0)
    assert jobs.statistics(task=tasks.add).ended == jobs.statistics(queue="default").ended == 8
    assert jobs.statistics(task=ADD, queue="reports").ended == 0
    assert list(jobs.statistics(by="task", queue="reports")) == ["shop.tasks.report"]


def test_only_the_time_that_is_asked_for_counts(folded):
    for age in (2 * MINUTE, 30 * MINUTE, 5 * HOUR, timedelta(days=3), timedelta(days=100)):
        ends(1, age=age)
    folded()

    found = [
        jobs.statistics(over=over).ended
        for over in (10 * MINUTE, HOUR, 6 * HOUR, timedelta(days=7), None)
    ]
    assert found == [1, 2, 3, 4, 5]


def test_a_rate_is_that_of_the_span_that_was_read():
    ends(60)
    found = jobs.statistics(over=10 * MINUTE)

    assert 10 * MINUTE <= found.until - found.since <= 11 * MINUTE
    assert 60 / 660 <= found.per_second <= 60 / 600
    assert jobs.statistics(over=None).per_second is jobs.statistics(over=None).since is None


def test_totals_are_by_task_and_queue_and_never_lower(folded):
    ends(3)
    ends(2, queue="mail")
    before = {pair: one.succeeded for pair, one in jobs.totals().items()}
    folded()
    ends(1)

    after = {pair: one.succeeded for pair, one in jobs.totals().items()}
    assert before == {(ADD, "default"): 3, (ADD, "mail"): 2}
    assert after == {(ADD, "default"): 4, (ADD, "mail"): 2}


def test_what_may_be_among_the_others_is_said_to_be_partial(folded):
    ends(3)
    ends(2, task="(other)", queue="(other)")
    ends(1, task="shop.tasks.report", queue="reports")
    folded()

    assert not jobs.statistics().partial
    assert jobs.statistics(task=ADD).partial
    assert jobs.statistics(queue="reports").partial
    assert (jobs.statistics(task=ADD).succeeded, jobs.statistics(queue="reports").succeeded) == (
        3,
        1,
    )
    by_task = jobs.statistics(by="task")
    assert {name: one.partial for name, one in by_task.items()} == {
        "(other)": False,
        ADD: True,
        "shop.tasks.report": True,
    }
    assert all(one.partial for one in jobs.series(by="queue")["reports"])
    assert not jobs.statistics(task=ADD, queue="reports").succeeded


def test_without_others_nothing_is_partial(folded):
    ends(3)
    folded()

    assert not jobs.statistics(task=ADD, queue="default").partial
    assert not jobs.statistics(by="task")[ADD].partial


# ---- series -------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """Return a function that sets the clock of what is read."""

    def set_to(moment):
        monkeypatch.setattr(Statistics, "_clock", lambda _self: moment)

    return set_to


def at(day, hour, minute, second=0):
    """Return a moment."""
    return datetime(2026, 5, day, hour, minute, second, tzinfo=UTC)


def ends_at(moment, number=1):
    """Let so many runs have ended at a moment."""
    ends(number)
    newest = Statistic.objects.order_by("-id").first()
    Statistic.objects.filter(id=newest.id).update(began_at=moment)


def points(found):
    """Return the points of a chart that are not zero, with when they begin."""
    return {one.since: one.ended for one in found if one.ended}


@pytest.mark.parametrize("by", [None, "task", "queue"])
def test_a_series_without_times_has_the_same_numbers(clock, folded, by):
    for moment, number in ((at(4, 12, 1), 2), (at(4, 12, 58), 3)):
        ends_at(moment, number)
    folded()
    ends_at(at(4, 12, 58), 4)  # a second row of this moment
    clock(at(4, 13, 0, 30))

    full, short = jobs.series(by=by), jobs.series(by=by, times=False)

    without = {"waits": jobs.Histogram(), "runs": jobs.Histogram()}
    if by is None:
        full, short = {"all": full}, {"all": short}
    assert {
        name: [replace(one, **without) for one in some] for name, some in full.items()
    } == short
    assert max(one.ended for some in short.values() for one in some) == 7


def test_a_series_has_a_point_for_each_minute_also_for_an_empty_one(clock, folded):
    for moment, number in ((at(4, 12, 0, 59), 1), (at(4, 12, 1), 2), (at(4, 12, 58), 3)):
        ends_at(moment, number)
    folded()
    clock(at(4, 13, 0, 30))

    found = jobs.series()

    assert len(found) == 61
    assert [one.since for one in found] == [at(4, 12, 0) + MINUTE * n for n in range(61)]
    assert points(found) == {at(4, 12, 0): 1, at(4, 12, 1): 2, at(4, 12, 58): 3}
    assert found[0].until == at(4, 12, 1)
    assert found[-1].until == at(4, 13, 0, 30)


def test_a_series_of_ten_minutes_begins_with_a_whole_step(clock, folded):
    for moment in (at(4, 11, 59), at(4, 12, 0), at(4, 12, 9, 59), at(4, 12, 10), at(4, 13, 4)):
        ends_at(moment)
    folded()
    clock(at(4, 13, 4))

    found = jobs.series(step=10 * MINUTE)

    assert points(found) == {at(4, 12, 0): 2, at(4, 12, 10): 1, at(4, 13, 0): 1}
    assert len(found) == 7


def test_a_series_of_a_day_by_hour(clock, folded):
    for moment in (at(3, 12, 59), at(3, 13, 0), at(4, 12, 59), at(4, 13, 10)):
        ends_at(moment)
    folded()
    clock(at(4, 13, 30))

    found = jobs.series(over=timedelta(days=1), step=HOUR)

    assert points(found) == {at(3, 13, 0): 1, at(4, 12, 0): 1, at(4, 13, 0): 1}
    assert len(found) == 25


def test_a_flush_that_is_later_than_the_clock_that_was_read_is_in_the_last_point(clock):
    clock(at(4, 13, 0))
    ends_at(at(4, 13, 1))

    assert jobs.series()[-1].ended == 1


def test_a_series_by_task(clock):
    clock(at(4, 13, 0, 30))
    ends_at(at(4, 13, 0), 2)

    found = jobs.series(by="task")

    assert [one.ended for one in found[ADD]][-2:] == [0, 2]
    assert len(found[ADD]) == 61
    assert points(jobs.series(task="shop.tasks.none")) == {}


# ---- what cannot be meant -------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"by": "state"}, "by"),
        ({"over": 60}, "over"),
        ({"over": timedelta(seconds=59)}, "over"),
        ({"over": timedelta(days=8)}, "over"),
        ({"task": 7}, "task"),
        ({"queue": ""}, "queue"),
        ({"using": "nowhere"}, "using"),
    ],
)
@pytest.mark.parametrize("read", [jobs.statistics, jobs.series])
def test_what_cannot_be_meant_is_refused(read, given, told):
    with pytest.raises(BadSelection, match=rf"^{told}: expected"):
        read(**given)


@pytest.mark.parametrize(
    ("over", "step"),
    [
        (HOUR, timedelta(seconds=30)),
        (HOUR, timedelta(seconds=90)),
        (2 * HOUR, 2 * HOUR),
        (3 * HOUR, 10 * MINUTE),
        (timedelta(days=7), timedelta(days=2)),
        (HOUR, 60),
        (HOUR, -MINUTE),
    ],
)
def test_a_step_must_be_one_that_is_kept(over, step):
    with pytest.raises(BadSelection, match=r"^step: expected whole minutes"):
        jobs.series(over=over, step=step)


def test_one_read_takes_two_statements(django_assert_num_queries):
    ends(3)

    with django_assert_num_queries(2):
        jobs.series(by="task")
    with django_assert_num_queries(2):
        jobs.totals()
