"""Priorities and time: jobs that have waited long come before more urgent ones, and not all."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from aftercommit.errors import ConfigurationError
from aftercommit.models import Job
from aftercommit.options.conf import BackendOptions
from aftercommit.store.clock import DatabaseNow
from aftercommit.values import Group, Head
from aftercommit.worker.claiming import ageing as ageing_module
from aftercommit.worker.claiming.ageing import Ageing, aged
from tests.app.tasks import add
from tests.worker.rig import Rig, commits

pytestmark = commits

SPAN = timedelta(minutes=10)
OPTIONS = {"age_priority": SPAN}


@pytest.fixture
def ageing(settings):
    """Let jobs of the only backend age."""
    default = settings.TASKS["default"]
    options = {**default.get("OPTIONS", {}), **OPTIONS}
    settings.TASKS = {"default": {**default, "OPTIONS": options}}


def jobs(number, *, priority, waited):
    """Enqueue jobs that have been due for so long, by the database's clock."""
    ids = add.using(priority=priority).enqueue_many([(one, 1) for one in range(number)])
    Job.objects.filter(id__in=ids).update(run_after=DatabaseNow() - waited)


def priorities(fetcher, limit):
    """Return the priorities of what is claimed, sorted."""
    return sorted(claim.priority for claim, _facts in fetcher.fetch(limit=limit))


def fetcher():
    """Return the fetcher of a worker."""
    return Rig().rooms.fetcher


def test_without_the_option_the_urgent_come_first_however_long_others_wait(settings):
    settings.TASKS = {"default": settings.TASKS["default"]}
    jobs(5, priority=0, waited=100 * SPAN)
    jobs(20, priority=5, waited=SPAN / 2)
    assert priorities(fetcher(), 10) == [5] * 10


@pytest.mark.usefixtures("ageing")
def test_jobs_that_have_waited_long_enough_get_half():
    jobs(50, priority=0, waited=6 * SPAN)
    jobs(50, priority=5, waited=SPAN / 2)
    assert priorities(fetcher(), 10) == [0] * 5 + [5] * 5


@pytest.mark.usefixtures("ageing")
def test_one_span_less_is_not_enough():
    jobs(50, priority=0, waited=5 * SPAN - SPAN / 10)
    jobs(50, priority=5, waited=SPAN / 2)
    assert priorities(fetcher(), 10) == [5] * 10


@pytest.mark.usefixtures("ageing")
def test_of_a_group_only_those_come_that_have_waited_long_enough():
    jobs(2, priority=0, waited=6 * SPAN)
    jobs(50, priority=0, waited=SPAN)
    jobs(50, priority=5, waited=SPAN / 2)
    assert priorities(fetcher(), 10) == [0] * 2 + [5] * 8


@pytest.mark.usefixtures("ageing")
def test_urgent_jobs_age_as_well():
    jobs(50, priority=0, waited=6 * SPAN)
    jobs(50, priority=5, waited=2 * SPAN)
    assert priorities(fetcher(), 10) == [5] * 10


@pytest.mark.usefixtures("ageing")
def test_a_backend_that_cannot_be_imported_is_in_nobodys_way(settings):
    settings.TASKS = {**settings.TASKS, "other": {"BACKEND": "does.not.Exist"}}
    jobs(1, priority=0, waited=timedelta(0))
    assert priorities(fetcher(), 1) == [0]


@pytest.mark.usefixtures("ageing")
def test_one_thread_serves_both():
    jobs(50, priority=0, waited=6 * SPAN)
    jobs(50, priority=5, waited=SPAN / 2)
    one = fetcher()
    found = [priority for _time in range(20) for priority in priorities(one, 1)]
    assert 8 <= found.count(0) <= 12


@pytest.mark.usefixtures("ageing")
def test_low_priorities_do_not_starve_while_urgent_jobs_keep_coming():
    jobs(10, priority=-20, waited=40 * SPAN)
    jobs(40, priority=5, waited=timedelta(0))
    one = fetcher()
    left = 0
    for _time in range(12):
        one._next_look = float("-inf")
        one.fetch(limit=4)
        jobs(4, priority=5, waited=timedelta(0))
        left = Job.objects.filter(priority=-20, claimable=True).count()
    assert left == 0


@pytest.mark.usefixtures("ageing")
def test_a_look_with_ages_is_one_statement_as_before():
    jobs(3, priority=0, waited=SPAN)
    store = Rig().store
    with CaptureQueriesContext(connection) as asked:
        (head,) = store.due_heads()
    assert len(asked) == 1
    assert head.group == store.due_groups()[0]
    assert SPAN <= head.waited < 2 * SPAN
    Job.objects.update(run_after=F("run_after") + 10 * SPAN)
    assert store.due_heads() == []


def test_what_is_no_span_is_refused():
    with pytest.raises(ConfigurationError, match="age_priority: expected a timedelta above zero"):
        BackendOptions(age_priority=10)


# ---- the decision --------------------------------------------------------------------

NOW, FAR = datetime(2026, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def head(priority, minutes, *, backend="default"):
    """Return the first job of a group, which has waited for so many minutes."""
    return Head(Group(backend, "q", priority), NOW - timedelta(minutes=minutes), NOW)


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        ([head(0, 1000)], []),
        ([head(5, 0), head(0, 49)], []),
        ([head(5, 0), head(0, 50)], [(0, 50)]),
        ([head(9, 0), head(5, 0), head(0, 60)], []),
        ([head(9, 0), head(5, 39), head(0, 95)], [(0, 90)]),
        ([head(9, 0), head(5, 40), head(0, 200)], [(0, 90), (5, 40)]),
        ([head(5, 10), head(0, 55)], []),
        ([head(5, 0), head(0, 60, backend="other")], []),
    ],
)
def test_who_comes_before_more_urgent_groups(heads, expected):
    found = aged(heads, {"default": SPAN})
    minutes = [(one.priority, (NOW - one.until) // timedelta(minutes=1)) for one in found]
    assert minutes == expected


# ---- the guards ----------------------------------------------------------------------


def any_of_the_group(monkeypatch):
    """Claim what is due of an aged group, also what is new."""
    monkeypatch.setattr(
        ageing_module, "aged", lambda *given: [one._replace(until=FAR) for one in aged(*given)]
    )


def all_of_the_claim(monkeypatch):
    """Fill the claim with aged jobs."""
    claim = Ageing.claim
    monkeypatch.setattr(
        Ageing, "claim", lambda self, query, limit, *rest: claim(self, query, 2 * limit, *rest)
    )


def urgent_jobs_do_not_age(monkeypatch):
    """Compare with the priority of others, as if they had not waited."""

    def plain(heads, spans):
        top = max(one.group.priority for one in heads)
        fresh = [
            one._replace(run_after=one.now) if one.group.priority == top else one for one in heads
        ]
        return aged(fresh, spans)

    monkeypatch.setattr(ageing_module, "aged", plain)


@pytest.mark.usefixtures("ageing")
@pytest.mark.parametrize(
    ("weaken", "killer"),
    [
        (any_of_the_group, test_of_a_group_only_those_come_that_have_waited_long_enough),
        (all_of_the_claim, test_jobs_that_have_waited_long_enough_get_half),
        (urgent_jobs_do_not_age, test_urgent_jobs_age_as_well),
    ],
)
def test_without_the_guard_its_test_fails(monkeypatch, weaken, killer):
    weaken(monkeypatch)
    with pytest.raises(AssertionError):
        killer()
