"""``aftercommit worker``: what each option promises."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from tests.app.chores import atomic_elsewhere, pass_on, plain
from tests.app.models import Effect
from tests.process.rig import STARTED, is_alive
from tests.waiting import wait_until

NO_QUEUES = ["", " ", ",", "mail,,default", "mail,", ",mail", "mail, ,x", "x" * 101, "a\tb,mail"]
QUEUES = {
    "default": {"BACKEND": "aftercommit.DatabaseBackend", "QUEUES": ["default", "mail"]},
}


def test_a_drain_runs_what_is_due_and_ends(rig):
    keys = [str(number) for number in range(50)]
    rig.enqueue_many(plain, [((key,), {}) for key in keys])

    assert rig.worker("--drain", processes=2).wait() == 0

    report = rig.check(committed=keys)
    assert not report.violations
    assert report.states == {"succeeded": 50}


def test_a_drain_runs_jobs_with_crashes_and_what_those_enqueue(rig):
    rig.enqueue_crashed(pass_on, "two")
    rig.enqueue(plain, "one")

    assert rig.worker("--drain").wait() == 0

    assert {effect.key for effect in Effect.objects.all()} == {"one", "two"}
    assert not rig.open_jobs()


def test_a_process_for_jobs_with_crashes_ends_when_there_are_none_and_comes_again(rig):
    rig.settings(modules="tests.process.brief")
    worker = rig.worker()
    rig.enqueue_crashed(plain, "one")
    rig.wait_quiet()
    ordinary, first = rig.children(worker)

    wait_until(lambda: not is_alive(first), deadline=STARTED, why="it has nothing to do")
    rig.enqueue_crashed(plain, "two")
    rig.wait_quiet()

    second = rig.notes("begin", key="two")[0]["pid"]
    assert second not in {ordinary, first}
    assert is_alive(ordinary)
    rig.enqueue(plain, "three")
    rig.wait_quiet()
    assert rig.notes("begin", key="three")[0]["pid"] == ordinary
    assert not rig.check(committed=["one", "two", "three"]).violations


def test_djangos_own_options_may_follow_the_subcommand(rig):
    rig.enqueue(plain, "one")
    settings = rig.environment.pop("DJANGO_SETTINGS_MODULE")
    options = ("--settings", settings, "-v", "0", "--no-color", "--traceback", "--skip-checks")

    assert rig.django("aftercommit", "worker", "--drain", *options).wait() == 0

    assert Effect.objects.count() == 1


def test_max_jobs_are_counted_over_all_processes(rig):
    rig.enqueue_many(plain, [((str(number),), {}) for number in range(20)])

    assert rig.worker("--max-jobs", "7", processes=2).wait() == 0

    assert len(rig.notes("begin")) == 7
    assert Effect.objects.count() == 7
    assert rig.open_jobs() == 13


def test_only_the_queues_that_were_named_are_served(rig):
    for queue in ("mail", "reports", "default"):
        rig.enqueue(plain.using(queue_name=queue), queue)

    assert rig.worker("--drain", "--queues", "mail,reports").wait() == 0

    assert {effect.key for effect in Effect.objects.all()} == {"mail", "reports"}
    assert rig.open_jobs() == 1


def test_so_many_threads_run_so_many_jobs_at_once(rig):
    rig.enqueue_many(plain, [((str(number),), {"gate": "go"}) for number in range(5)])
    worker = rig.worker("--threads", "3")

    rig.wait_note("begin", times=3)
    wait_until(lambda: rig.running() == 3)

    rig.open_gate("go")
    rig.wait_quiet()
    assert most_at_once(rig) == 3
    assert not worker.ended


def test_so_many_processes_run_jobs_at_once(rig):
    rig.enqueue_many(plain, [((str(number),), {"gate": "go"}) for number in range(2)])
    rig.worker("--threads", "1", processes=2)

    rig.wait_note("begin", times=2)

    assert len({one["pid"] for one in rig.notes("begin")}) == 2
    rig.open_gate("go")
    rig.wait_quiet()


def test_one_worker_serves_every_database(rig):
    plain.enqueue("here")
    atomic_elsewhere.enqueue("there")

    assert rig.worker("--drain", "--backend", "default", "--backend", "other").wait() == 0

    assert [effect.key for effect in Effect.objects.using("default")] == ["here"]
    assert [effect.key for effect in Effect.objects.using("other")] == ["there"]


def test_a_worker_serves_all_backends_unless_told_otherwise(rig):
    plain.enqueue("here")
    atomic_elsewhere.enqueue("there")

    assert rig.django("aftercommit", "worker", "--drain").wait() == 0

    assert len(rig.notes("ended", outcome="Succeeded")) == 2


def test_only_the_backends_that_were_named_are_served(rig):
    plain.enqueue("here")
    atomic_elsewhere.enqueue("there")

    assert rig.worker("--drain", "--backend", "other").wait() == 0

    assert [effect.key for effect in Effect.objects.using("other")] == ["there"]
    assert not Effect.objects.using("default").exists()


@pytest.mark.skipif(connection.vendor == "sqlite", reason="a file does not go away: refused")
def test_a_database_that_is_away_does_not_stop_the_others(rig):
    plain.enqueue("here")
    rig.settings_module("DATABASES['other'] = {**DATABASES['other'], **NOWHERE}")

    worker = rig.django("aftercommit", "worker")

    rig.wait_note("database_away", using="other")
    rig.wait_quiet()
    assert [effect.key for effect in Effect.objects.all()] == ["here"]
    assert not rig.notes("database_away", using="default")
    assert not worker.ended


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "nowhere"], "--backend nowhere: no aftercommit.DatabaseBackend of this"),
        (
            ["--queues", "male"],
            "--queues male: no backend has such a queue; QUEUES name: default",
        ),
        (["--processes", "0"], "processes: expected a whole number from 1"),
        (["--threads", "-1"], "threads: expected a whole number from 1"),
        (["--max-jobs", "0"], "max_jobs: expected a whole number from 1"),
        (["--grace", "-1"], "grace: expected a timedelta, not negative"),
        (["--grace", "soon"], "expected seconds, got 'soon'"),
        *((["--queues", one], "expected queues with commas") for one in NO_QUEUES),
        *((["--queues=" + one], "expected queues with commas") for one in NO_QUEUES),
        (["--processes", "1001"], "processes: expected a whole number from 1 to 1,000"),
        (["--threads", "9" * 30], "threads: expected a whole number from 1 to 1,000"),
        (["--max-jobs", "9" * 30], "max_jobs: expected a whole number from 1"),
        (["--max-jobs-per-process", "0"], "max_jobs_per_process: expected a whole number"),
        (["--max-memory", "0"], "max_memory: expected a whole number from 1"),
        (["--max-memory", "much"], "expected a size of memory, such as 512M or 2G; got 'much'"),
        (["--processes", "2.5"], "invalid int value"),
        (["--grace", "nan"], "expected seconds, got 'nan'"),
        (["--grace", "inf"], "expected seconds, got 'inf'"),
        (["--grace", "1e9"], "grace: expected a timedelta, not negative, and at most 7 days"),
        (["--backend", ""], "expected a name, got ''"),
        (["--backend", "default,other"], "no aftercommit.DatabaseBackend of this"),
        (["--dran"], "unrecognized arguments: --dran"),
    ],
)
def test_a_mistake_on_the_command_line_is_said_before_anything_starts(
    settings, arguments, message
):
    settings.TASKS = QUEUES

    with pytest.raises(CommandError, match=message):
        call_command("aftercommit", "worker", *arguments, stdout=StringIO())


def test_a_mistake_ends_the_command_with_one_line_and_a_status(rig):
    worker = rig.django("aftercommit", "worker", "--backend", "nowhere")

    assert worker.wait() == 1
    assert worker.output.startswith("CommandError: --backend nowhere: ")


def test_a_task_that_no_worker_knows_stays_ready(rig):
    job_id = rig.enqueue(plain, "one")
    rig.change_job(job_id, task_path="tests.app.tasks.gone")

    assert rig.worker("--drain").wait() == 0

    job = rig.job(job_id)
    assert (job.state, job.attempts) == ("ready", 0)


def most_at_once(rig) -> int:
    """Return how many runs overlapped at most, by what they noted."""
    noted = [(one["at"], 1) for one in rig.notes("begin")]
    noted += [(one["at"], -1) for one in rig.notes("end")]
    running = most = 0
    for _at, step in sorted(noted):
        running += step
        most = max(most, running)
    return most
