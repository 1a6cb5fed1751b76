"""``jobs.counts`` and its like, and ``aftercommit status``."""

import json
from collections import Counter
from datetime import datetime, timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from aftercommit import group, jobs, queues
from aftercommit.errors import BadSelection
from aftercommit.management.subcommands import status
from aftercommit.models import Blocked, Job
from aftercommit.store import estimates, store_for
from aftercommit.values import Failed, Succeeded
from tests.app.tasks import add
from tests.django.conftest import claim_only_job
from tests.django.test_jobs import ERROR, failed_job, ready_job
from tests.store.given import claim_one

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def run(*words):
    stdout = StringIO()
    call_command("aftercommit", "status", *words, skip_checks=True, stdout=stdout)
    return stdout.getvalue()


def test_depths_by_queue_and_by_task():
    ready_job(queue="mail")
    ready_job(queue="mail", priority=5)
    ready_job(queue="running")
    claim_only_job(queue="running")

    mail = jobs.Depth(due=2, ready=2, running=0, at_least=False)
    assert jobs.counts() == {
        "mail": mail,
        "running": jobs.Depth(due=0, ready=0, running=1, at_least=False),
    }
    by_task = jobs.counts(by="task")
    assert by_task == {
        "tests.app.tasks.add": jobs.Depth(due=2, ready=2, running=1, at_least=False)
    }
    assert jobs.counts(most=1)["mail"] == jobs.Depth(due=2, ready=2, running=0, at_least=True)
    assert jobs.counts(by="task", most=1)["tests.app.tasks.add"].at_least
    assert jobs.counts(using="other") == {}


@pytest.mark.parametrize(
    ("call", "given"),
    [
        (jobs.counts, {"by": "colour"}),
        (jobs.counts, {"most": 0}),
        (jobs.counts, {"most": "many"}),
        (jobs.oldest_due_age, {"queue": ""}),
    ],
    ids=str,
)
def test_what_cannot_be_counted_is_refused(call, given):
    with pytest.raises(BadSelection):
        call(**given)


def test_an_empty_table():
    assert jobs.oldest_due_age() is None
    assert jobs.latency() is None
    assert (jobs.throughput().ended, jobs.throughput().failed) == (0, 0)


def test_rates_and_waits():
    ready_job()
    store_for("default").finish(claim_only_job(queue="default"), Succeeded())
    failed_job()

    rate, wait = jobs.throughput(), jobs.latency()

    assert (rate.ended, rate.failed) == pytest.approx((2 / 60, 1 / 60))
    assert rate.over == timedelta(minutes=1)
    assert wait.jobs == 2
    assert timedelta(0) <= wait.median <= wait.p95 <= wait.longest < timedelta(minutes=1)


def test_the_command_says_it_for_people():
    ready_job(queue="mail")
    failed_job()
    queues.pause("mail", using="default")
    queues.limit("mail", 3, using="default")
    queues.limit(task=add, limit=1000, using="default")

    said = run("--database", "default").splitlines()

    assert said[0] == "default: 0 worker processes; 1 due, 1 ready, 0 running."
    assert "jobs/s ended in the last 1 min" in said[1]
    assert "the oldest waits for" in said[1]
    assert said[2:] == [
        "  Ended: 0 succeeded, 1 failed, 0 cancelled.",
        "  queue mail (paused, 3 at once): 1 due, 1 ready, 0 running",
        "  task tests.app.tasks.add (1,000 at once): 1 due, 1 ready, 0 running",
    ]


def test_the_command_says_it_for_programs():
    ready_job(queue="mail")

    here, there = json.loads(run("--json"))

    assert (here["database"], there["database"]) == ("default", "other")
    depth = {
        "due": 1,
        "ready": 1,
        "running": 0,
        "at_least": False,
        "paused": 0,
        "limited": 0,
        "rated": 0,
        "waiting": 0,
    }
    assert here["queues"] == {"mail": depth}
    assert here["states"]["ready"] == {"jobs": 1, "is_estimate": False}
    assert here["oldest"] >= 0
    assert (there["oldest"], there["latency"], there["queues"]) == (None, None, {})


def test_groups_that_have_not_ended_are_shown():
    group([], name="empty").enqueue()
    made = group([add.bind(1, one) for one in range(3)], name="import-42").enqueue()
    store = store_for("default")
    store.finish(claim_one(store), Failed(ERROR))

    said = run("--database", "default").splitlines()
    (here, *_others) = json.loads(run("--json"))

    assert said[-1].startswith("  group import-42: 1 of 3 done, 1 failed, about ")
    (found,) = here["groups"]
    assert found.pop("estimate") >= 0
    assert found == {
        "id": made.id,
        "name": "import-42",
        "total": 3,
        "done": 1,
        "failed": 1,
        "cancelled": 0,
        "is_cancelled": False,
    }
    made.cancel()
    assert "group" not in run("--database", "default")


def test_jobs_that_wait_for_a_pause_or_a_limit_are_shown_as_that():
    store = store_for("default")
    queues.pause(task=add, using="default")
    ready_job(queue="mail")
    store.set_aside("mail", [("default", 0)], {add.module_path})
    parked = ready_job(limit_key="k")
    Job.objects.filter(pk=parked).update(blocked=Blocked.LIMIT, claimable=False, waits_for=1)
    rated = ready_job(limit_key="r", rate_key="r", queue="slow")
    Job.objects.filter(pk=rated).update(
        blocked=Blocked.RATE, line="r", claimable=False, waits_for=1
    )

    by_queue, by_task = jobs.counts(), jobs.counts(by="task")

    assert {name: (one.paused, one.limited, one.rated) for name, one in by_queue.items()} == {
        "mail": (1, 0, 0),
        "default": (0, 1, 0),
        "slow": (0, 0, 1),
    }
    assert by_task[add.module_path] == jobs.Depth(
        due=0, ready=0, running=0, at_least=False, paused=1, limited=1, rated=1
    )
    assert jobs.counts(by="task", most=1)[add.module_path].at_least
    assert jobs.counts(by="state")["ready"] == jobs.Number(jobs=3, is_estimate=False)
    assert run("--database", "default").splitlines()[2:] == [
        "  queue default: 0 due, 0 ready, 0 running, 1 wait for a limit",
        "  queue mail: 0 due, 0 ready, 0 running, 1 set aside while their task is paused",
        "  queue slow: 0 due, 0 ready, 0 running, 1 wait for their rate",
        f"  task {add.module_path} (paused): 0 due, 0 ready, 0 running, "
        "1 set aside while their task is paused, 1 wait for a limit, 1 wait for their rate",
    ]


def test_what_workers_have_pruned_is_said():
    workers, (first, second) = store_for("default").workers, (uuid4(), uuid4())
    for one in (first, second):
        workers.announce(one, locked=False)
    assert "Pruned" not in run()
    assert json.loads(run("--json", "--database", "default"))[0]["pruned_at"] is None

    workers.pruned(first, jobs=1_900)
    workers.pruned(second, jobs=0)

    _jobs, at = workers.last_pruned()
    (line,) = [one for one in run().splitlines() if "Pruned" in one]
    assert line == f"  Pruned: 1,900 jobs, last looked at {at:%Y-%m-%d %H:%M:%S} UTC."
    (found,) = json.loads(run("--json", "--database", "default"))
    assert (found["pruned"], datetime.fromisoformat(found["pruned_at"])) == (1_900, at)


def test_a_number_that_is_an_estimate_says_so(monkeypatch):
    for one in set(estimates.ESTIMATES.values()):
        monkeypatch.setattr(one, "size", lambda _self: 10_000_000)
        monkeypatch.setattr(one, "states", lambda _self: Counter(succeeded=9_000_000))

    assert jobs.counts(by="state")["succeeded"] == jobs.Number(jobs=9_000_000, is_estimate=True)
    assert "  Ended: about 9,000,000 succeeded, 0 failed, 0 cancelled." in run()


def test_it_is_written_again_until_ctrl_c(monkeypatch):
    ready_job()
    waits = iter([False, False])

    def wait(_seconds):
        Job.objects.all().delete()
        try:
            return next(waits)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(status.Status._stop, "wait", wait)

    said = run("--watch", "--json", "--database", "default").splitlines()

    assert [len(json.loads(line)[0]["queues"]) for line in said] == [1, 0, 0]


def test_what_a_database_refuses_is_a_sentence(monkeypatch):
    def refuse(_using):
        raise OperationalError("password=secret is wrong")

    monkeypatch.setattr(status, "status_of", refuse)

    with pytest.raises(CommandError, match="refused this: OperationalError"):
        run()
