"""``aftercommit.queues``: what operators may do about queues, on whatever database they are."""

from functools import partial

import pytest
from django.db import transaction

from aftercommit import queues
from aftercommit.enqueue import called
from aftercommit.errors import ConfigurationError, NothingToLimit, NothingToPause
from aftercommit.models import Rule
from aftercommit.store import store_for
from aftercommit.values import NewJob
from tests.app.tasks import add
from tests.django.conftest import ours

pytestmark = pytest.mark.django_db(databases=["default", "other"])

TWO = {"default": ours(using="default"), "slow": ours(using="other")}


def ready_job(queue, using="default"):
    """Insert a job."""
    given = {"task_path": "tests.app.tasks.add", "payload": "{}", "queue": queue}
    store_for(using).insert([NewJob(**given)])


def paused(using=None):
    """Return what is paused, without when."""
    return [(one.using, one.name, one.by, one.why) for one in queues.paused(using)]


def test_a_queue_is_paused_in_every_database_that_holds_jobs(backends):
    backends(**TWO)
    ready_job("mail")

    answer = queues.pause("mail", by="ann", why="the provider is down")

    assert answer == queues.Answer(changed=[("default", "mail"), ("other", "mail")])
    assert paused() == [
        ("default", "mail", "ann", "the provider is down"),
        ("other", "mail", "ann", "the provider is down"),
    ]
    assert queues.pause("mail").changed == []
    assert queues.resume("mail").changed == [("default", "mail"), ("other", "mail")]
    assert queues.resume("mail").changed == []
    assert paused() == []


def test_each_database_has_its_own_pauses(backends):
    backends(**TWO)

    queues.pause("mail", using="other")

    assert paused() == paused("other") == [("other", "mail", "", "")]
    assert paused("default") == []
    assert queues.resume("mail", using="default").changed == []


def test_a_pause_in_a_transaction_is_part_of_it(backends):
    backends(default=ours())
    with pytest.raises(LookupError), transaction.atomic():
        queues.pause("mail")
        raise LookupError

    assert paused() == []


def test_both_queues_of_a_broker_are_paused_however_it_is_named(backends):
    backends(default=ours(relay=["rq", "celery"]))
    both = ["relay.rq", "relay.rq.in_order"]

    for given in ({"broker": "rq"}, {"queue": "relay.rq"}, {"queue": "relay.rq.in_order"}):
        answer = queues.pause(**given)
        assert [name for _using, name in answer.changed] == both
        assert not answer.unused
        assert [name for _using, name in queues.resume(**given).changed] == both


def test_a_broker_that_nobody_relays_to_is_an_error(backends):
    backends(default=ours(relay=["celery"]))

    for given in ({"broker": "rq"}, {"queue": "relay.rq"}):
        with pytest.raises(NothingToPause, match=r"no relay to 'rq'[^:]*: nothing[\s\S]*celery"):
            queues.pause(**given)
    assert paused() == []


def test_a_queue_that_no_backend_accepts_is_an_error_unless_jobs_of_before_wait(backends):
    backends(default=ours(queues=["mail", "reports"]))

    with pytest.raises(NothingToPause, match=r"no queue 'mial'[\s\S]*there are: mail, reports"):
        queues.pause("mial")
    ready_job("mial")

    assert queues.pause("mial").changed == [("default", "mial")]


def test_a_queue_that_nobody_uses_yet_is_paused_and_that_is_said(backends):
    backends(default=ours())

    assert queues.pause("tomorrow").unused
    assert not queues.pause("default").unused  # tasks enqueue there
    ready_job("today")
    assert not queues.pause("today").unused


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"queue": "a", "broker": "rq"},
        {"queue": "a", "task": "tests.app.tasks.add"},
        {"task": 7},
        {"task": "x" * 256},
        {"task": "aftercommit.relay.publish"},
        {"queue": ""},
        {"queue": "a\n"},
        {"queue": "x" * 101},
        {"queue": 7},
        {"queue": "a", "using": "gone"},
        {"queue": "a", "by": "x" * 256},
        {"queue": "a", "why": "two\nlines"},
        {"queue": "a", "by": None},
    ],
    ids=str,
)
def test_what_cannot_be_paused_is_refused(given, backends):
    backends(default=ours())
    with pytest.raises(ConfigurationError):
        queues.pause(**given)
    assert paused() == []


def test_the_queues_that_there_are_can_be_listed(backends):
    backends(default=ours(queues=["mail"], relay=["rq"]), slow=ours(using="other"))
    ready_job("old")
    ready_job("late", using="other")
    queues.pause("mail", using="default", by="ann")

    found = queues.list()

    assert [(one.using, one.name) for one in found] == [
        ("default", "mail"),
        ("default", "old"),
        ("default", "relay.rq"),
        ("default", "relay.rq.in_order"),
        ("other", "late"),
    ]
    assert [one.pause.by for one in found if one.pause] == ["ann"]
    assert [one.name for one in queues.list("other")] == ["late"]


@pytest.mark.parametrize("given", [add, "tests.app.tasks.add"], ids=["task", "path"])
def test_a_task_is_paused_and_resumed_until_its_jobs_are_back(given, backends):
    backends(default=ours())

    assert queues.pause(task=given, by="ann").changed == [("default", "tests.app.tasks.add")]
    assert queues.pause(task=given).changed == []
    (found,) = queues.paused()
    assert (found.kind, found.name, found.by) == ("task", "tests.app.tasks.add", "ann")
    assert [one.pause for one in queues.list()] == []

    assert queues.resume(task=given).changed == [("default", "tests.app.tasks.add")]
    assert queues.resume(task=given).changed == []
    assert paused() == []
    assert queues.pause(task=given).changed == [("default", "tests.app.tasks.add")]


def test_a_task_that_nobody_has_declared_is_an_error_that_names_those_alike(backends):
    backends(default=ours())

    with pytest.raises(
        NothingToPause, match=r"no task 'tests\.app\.tasks\.adds'[\s\S]*tasks\.add"
    ):
        queues.pause(task="tests.app.tasks.adds")

    assert paused() == []


def test_a_task_is_paused_under_each_of_its_names(backends, monkeypatch):
    backends(default=ours())
    names = ["billing.charge", "shop.tasks.charge", "old.charge"]
    tasks = dict.fromkeys(names, add)
    monkeypatch.setattr(called, "known_task", tasks.get)
    monkeypatch.setattr(called, "names_of", lambda _task: names)

    for given in names:
        assert [name for _using, name in queues.pause(task=given).changed] == names
        assert [name for _using, name in queues.resume(task=given).changed] == names


# ---- limits -------------------------------------------------------------------------


def limits(using=None):
    """Return the limits that hold: where, what, how many, and what it would be otherwise."""
    found = queues.limits(using)
    return [(one.using, one.name, one.limit, one.at_run_time, one.configured) for one in found]


def test_a_queue_is_limited_in_every_database_that_holds_jobs(backends):
    backends(default=ours(using="default", queue_limits={"mail": 2}), slow=ours(using="other"))
    ready_job("mail")
    assert limits() == [("default", "mail", 2, False, 2)]

    assert queues.limit("mail", 10).changed == [("default", "mail"), ("other", "mail")]
    assert queues.limit("mail", limit=10).changed == []
    assert limits() == [
        ("default", "mail", 10, True, 2),
        ("other", "mail", 10, True, None),
    ]
    assert [one.limit.limit for one in queues.list("other")] == [10]
    assert queues.limits("other")[0].details == "10 jobs at once, set at run time (else no limit)"
    assert queues.limit("mail", 1, using="default").changed == [("default", "mail")]
    assert queues.limits("default")[0].details == "1 job at once, set at run time (else 2)"

    assert queues.unlimit("mail").changed == [("default", "mail"), ("other", "mail")]
    assert queues.unlimit("mail").changed == []
    assert limits() == [("default", "mail", 2, False, 2)]


def test_a_task_is_limited_by_itself_or_its_path_and_a_broker_by_its_name(backends):
    backends(default=ours(relay=["rq"]))
    assert queues.limit(task=add, limit=3).changed == [("default", "tests.app.tasks.add")]
    assert queues.limit(task="tests.app.tasks.add", limit=3).changed == []
    both = [("default", "relay.rq"), ("default", "relay.rq.in_order")]
    assert queues.limit(broker="rq", limit=5).changed == both
    assert queues.limit("relay.rq.in_order", 5).changed == []
    assert [(one.kind, one.limit) for one in queues.limits()] == [
        ("queue", 5),
        ("queue", 5),
        ("task", 3),
    ]
    assert queues.unlimit(task=add).changed == [("default", "tests.app.tasks.add")]
    assert queues.unlimit(broker="rq").changed == both


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"queue": "mail"}, "unlimit"),
        ({"queue": "mail", "limit": 0}, "Pause"),
        ({"queue": "mail", "limit": -1}, "from 1"),
        ({"queue": "mail", "limit": True}, "from 1"),
        ({"queue": "mail", "limit": 1.5}, "from 1"),
        ({"queue": "mail", "limit": "10"}, "from 1"),
        ({"queue": "mail", "limit": 2**31}, "from 1"),
        ({"limit": 3}, "Name a queue"),
        ({"queue": "mail", "task": add, "limit": 3}, "Name a queue"),
        ({"task": "aftercommit.relay.publish", "limit": 3}, "no task of the project"),
        ({"queue": "mail", "limit": 3, "using": "gone"}, "gone"),
        ({"queue": "a\n", "limit": 3}, "cannot be called"),
    ],
    ids=str,
)
def test_what_is_no_limit_is_refused(given, says, backends):
    backends(default=ours())
    with pytest.raises(ConfigurationError, match=says):
        queues.limit(**given)
    assert limits() == []


def test_what_is_misspelt_is_not_limited(backends):
    backends(default=ours(queues=["mail"], relay=["celery"]))
    for given in (
        {"queue": "mial"},
        {"task": "tests.app.tasks.adds"},
        {"broker": "rq"},
        {"queue": "relay.rq"},
    ):
        with pytest.raises(
            NothingToLimit, match=r"nothing was limited[\s\S]*(there are|alike): "
        ):
            queues.limit(**given, limit=3)
    assert limits() == []


UNDONE = {queues.resume: queues.pause, queues.unlimit: partial(queues.limit, limit=3)}


@pytest.mark.parametrize("undo", UNDONE, ids=["resume", "unlimit"])
def test_what_is_misspelt_is_not_resumed_or_unlimited_in_silence(backends, undo):
    backends(default=ours(queues=["mail"], relay=["celery"]))
    errors = (NothingToPause, NothingToLimit)
    for given in (
        {"queue": "mial"},
        {"task": "tests.app.tasks.adds"},
        {"broker": "rq"},
        {"queue": "relay.rq"},
    ):
        with pytest.raises(errors, match=r"was resumed|no limit was taken away"):
            undo(**given)
    assert undo("mail").changed == []  # there is one


@pytest.mark.parametrize(("undo", "do"), UNDONE.items(), ids=["resume", "unlimit"])
def test_what_is_set_is_taken_away_though_nobody_has_such_a_name_any_more(backends, undo, do):
    backends(default=ours(queues=["mail", "of_before"], relay=["rq"]))
    do("of_before")
    do(broker="rq")
    backends(default=ours(queues=["mail"]))

    assert undo("of_before").changed == [("default", "of_before")]
    assert undo(broker="rq").changed == [
        ("default", "relay.rq"),
        ("default", "relay.rq.in_order"),
    ]


@pytest.mark.parametrize("undo", UNDONE, ids=["resume", "unlimit"])
def test_of_an_open_set_of_queues_it_is_said_that_nobody_uses_one(backends, undo):
    backends(default=ours())

    assert undo("mial").unused
    assert not undo("default").unused


def test_the_fix_says_what_there_is(backends):
    backends(default=ours())

    with pytest.raises(NothingToLimit, match=r"no backend has OPTIONS\[\"relay\"\]"):
        queues.limit(broker="celery", limit=3)
    with pytest.raises(
        NothingToPause, match=r"Fix: one that is spelt alike: tests\.app\.tasks\.add"
    ):
        queues.pause(task="tests.app.tasks.adds")
    with pytest.raises(NothingToPause, match=r"no declared task has a similar one") as raised:
        queues.pause(task="qwx")
    assert "none" not in str(raised.value)


def test_the_jobs_of_an_ordered_task_run_one_after_the_other(backends, monkeypatch):
    backends(default=ours())
    monkeypatch.setattr(
        "aftercommit.queues.limiting.option", lambda _task, name: name == "ordered"
    )
    with pytest.raises(ConfigurationError, match="ordered=True"):
        queues.limit(task=add, limit=2)
    assert queues.limit(task=add, limit=1).changed


def test_a_limit_in_a_transaction_is_part_of_it(backends):
    backends(default=ours())
    with pytest.raises(LookupError), transaction.atomic():
        queues.limit("mail", 3)
        raise LookupError
    assert limits() == []


@pytest.mark.parametrize(
    "given",
    [{"mail": 0}, {"mail": None}, {"mail": "3"}, {"": 3}, {7: 3}, ["mail"], "mail", 7, None],
    ids=repr,
)
def test_limits_in_the_settings_are_checked(given, backends):
    backends(default=ours(queue_limits=given))
    with pytest.raises(ConfigurationError, match="queue_limits"):
        queues.limits()


# ---- rates --------------------------------------------------------------------------


def rates(using=None):
    """Return the rates that hold: where, what, how often, and what it would be otherwise."""
    found = queues.rates(using)
    return [
        (one.using, one.name, one.rate, one.burst, one.at_run_time, one.configured)
        for one in found
    ]


def test_a_queue_is_rated_in_every_database_that_holds_jobs(backends):
    backends(
        default=ours(using="default", queue_rates={"mail": ("100/h", 5)}),
        slow=ours(using="other"),
    )
    ready_job("mail")
    assert rates() == [("default", "mail", "100/h", 5, False, "100/h")]

    assert queues.rate("mail", "60/m").changed == [("default", "mail"), ("other", "mail")]
    assert queues.rate("mail", rate="60 / M").changed == []
    assert rates() == [
        ("default", "mail", "60/m", 1, True, "100/h"),
        ("other", "mail", "60/m", 1, True, None),
    ]
    assert [one.rate.rate for one in queues.list("other")] == ["60/m"]
    assert queues.rates("other")[0].details == "60/m started, set at run time (else no rate)"
    assert queues.rate("mail", "60/m", burst=3, using="default").changed == [("default", "mail")]
    said = "60/m started, 3 at once, set at run time (else 100/h)"
    assert queues.rates("default")[0].details == said

    assert queues.unrate("mail").changed == [("default", "mail"), ("other", "mail")]
    assert queues.unrate("mail").changed == []
    assert [one.details for one in queues.rates()] == ["100/h started, 5 at once"]


def test_a_task_is_rated_by_itself_or_its_path_and_a_broker_by_its_name(backends):
    backends(default=ours(relay=["rq"]))
    path = [("default", "tests.app.tasks.add")]
    assert queues.rate(task=add, rate="5/s").changed == path
    assert queues.rate(task="tests.app.tasks.add", rate="5/s").changed == []
    both = [("default", "relay.rq"), ("default", "relay.rq.in_order")]
    assert queues.rate(broker="rq", rate="10/s").changed == both
    assert queues.rate("relay.rq.in_order", "10/s").changed == []
    assert [(one.kind, one.rate) for one in queues.rates()] == [
        ("queue", "10/s"),
        ("queue", "10/s"),
        ("task", "5/s"),
    ]
    assert queues.unrate(task=add).changed == path
    assert queues.unrate(broker="rq").changed == both


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"queue": "mail"}, "unrate"),
        ({"queue": "mail", "rate": "0/s"}, "at least one start"),
        ({"queue": "mail", "rate": "often"}, "expected how many"),
        ({"queue": "mail", "rate": 60}, "expected how many"),
        ({"queue": "mail", "rate": "60/m", "burst": 0}, "from 1"),
        ({"queue": "mail", "rate": "60/m", "burst": True}, "from 1"),
        ({"rate": "60/m"}, "Name a queue"),
        ({"queue": "mail", "task": add, "rate": "60/m"}, "Name a queue"),
        ({"task": "aftercommit.relay.publish", "rate": "60/m"}, "no task of the project"),
        ({"queue": "mail", "rate": "60/m", "using": "gone"}, "gone"),
        ({"queue": "a\n", "rate": "60/m"}, "cannot be called"),
    ],
    ids=str,
)
def test_what_is_no_rate_is_refused(given, says, backends):
    backends(default=ours())
    with pytest.raises(ConfigurationError, match=says):
        queues.rate(**given)
    assert rates() == []


def test_what_is_misspelt_is_not_rated_and_not_let_go_in_silence(backends):
    backends(default=ours(queues=["mail"], relay=["celery"]))
    for given in ({"queue": "mial"}, {"task": "tests.app.tasks.adds"}, {"broker": "rq"}):
        with pytest.raises(NothingToLimit, match="nothing was limited"):
            queues.rate(**given, rate="60/m")
        with pytest.raises(NothingToLimit, match="no limit was taken away"):
            queues.unrate(**given)
    assert rates() == []


def test_jobs_in_order_have_no_rate(backends, monkeypatch):
    backends(default=ours())
    monkeypatch.setattr("aftercommit.queues.rating.option", lambda _task, name: name == "ordered")
    with pytest.raises(ConfigurationError, match="ordered=True"):
        queues.rate(task=add, rate="60/m")


def test_a_rate_in_a_transaction_is_part_of_it(backends):
    backends(default=ours())
    with pytest.raises(LookupError), transaction.atomic():
        queues.rate("mail", "60/m")
        raise LookupError
    assert rates() == []


def test_a_limit_and_a_rate_do_not_overwrite_each_other(backends):
    backends(default=ours())
    queues.limit("mail", 3)
    queues.rate("mail", "60/m")
    queues.pause("mail")
    (one,) = (one for one in queues.list() if one.name == "mail")
    assert (one.limit.limit, one.rate.rate, one.pause is not None) == (3, "60/m", True)

    queues.unlimit("mail")
    queues.resume("mail")
    assert rates() == [("default", "mail", "60/m", 1, True, None)]
    queues.unrate("mail")
    assert not Rule.objects.exists()


def test_a_rate_that_somebody_else_has_written_is_no_rate(backends):
    backends(default=ours())
    Rule.objects.create(kind="queue", name="mail", rate="as often as you like")
    assert rates() == []
