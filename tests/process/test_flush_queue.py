"""``flush_queue``: what is due, in shares, and then the end."""

import pytest
from django.db import connection  # noqa: F401 - read by the condition below

from aftercommit import schedule
from tests.app.chores import KINDS, plain
from tests.app.models import Effect
from tests.process.rig import Job


def test_it_runs_what_is_due_and_says_how_much(rig):
    keys = [f"{kind.name}-{number}" for kind in KINDS for number in range(3)]
    for kind in KINDS:
        rig.enqueue_many(kind, [((key,), {}) for key in keys if key.startswith(kind.name)])

    flush = rig.django("flush_queue")

    assert flush.wait() == 0
    assert "9 jobs were run." in flush.output
    assert not rig.check(committed=keys).violations


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="a file does not go away")
def test_a_server_that_is_away_is_a_sentence_and_no_traceback(rig):
    # On MySQL and MariaDB, Django's own checks of models ask the server.
    rig.settings_module('DATABASES["default"] |= {"HOST": "127.0.0.1", "PORT": "1"}')

    flush = rig.django("flush_queue")

    assert flush.wait() == 5
    assert "Database 'default' is away (OperationalError): no job can be run" in flush.output
    assert "Traceback" not in flush.output


def test_a_module_with_tasks_that_cannot_be_imported_is_a_sentence_too(rig):
    tasks = rig.folder / "broken_shop" / "tasks.py"
    tasks.parent.mkdir()
    (tasks.parent / "__init__.py").touch()
    tasks.write_text("one = (\n")
    rig.settings_module('INSTALLED_APPS = [*INSTALLED_APPS, "broken_shop"]')

    flush = rig.django("flush_queue")

    assert flush.wait() == 1
    assert "CommandError: The module 'broken_shop.tasks' cannot be imported" in flush.output


def test_it_stops_after_so_many(rig):
    rig.enqueue_many(plain, [((str(number),), {}) for number in range(5)])

    assert rig.django("flush_queue", "--jobs", "2").wait() == 0

    assert (Effect.objects.count(), rig.open_jobs()) == (2, 3)


def test_shares_are_disjoint_and_together_everything(rig):
    keys = [str(number) for number in range(30)]
    rig.enqueue_many(plain, [((key,), {}) for key in keys])

    first = rig.django("flush_queue", "--which", "1", "--outof", "2")
    assert first.wait() == 0
    ran_by_the_first = Effect.objects.count()
    assert rig.django("flush_queue", "--which", "2", "--outof", "2").wait() == 0

    assert 0 < ran_by_the_first < len(keys)
    report = rig.check(committed=keys)
    assert (report.violations, report.claims) == ([], len(keys))


def test_a_filter_names_tasks_and_functions(rig):
    rig.enqueue(plain, "a task")
    schedule("tests.app.chores.scheduled", ["a function"])
    schedule("tests.app.chores.scheduled_and_broken", ["another function"])

    names = ["tests.app.chores.scheduled_and", "tests.app.chores.plain"]
    for name in names:
        assert rig.django("flush_queue", "--filter", name).wait() == 0

    states = {job.meta.get("function", job.task_path): job.state for job in Job.objects.all()}
    assert states.pop("tests.app.chores.scheduled") == "ready"
    assert states.pop("tests.app.chores.plain") == "succeeded"
    assert {effect.key for effect in Effect.objects.all()} == {"a task"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--which", "3", "--outof", "2"], "expected 0 <= which <= outof"),
        (["--jobs", "0"], "jobs: expected a whole number from 1"),
        (["--which", "-1"], "expected 0 <= which <= outof"),
        (["--outof", "0"], "outof: expected a whole number from 1"),
    ],
)
def test_a_mistake_is_one_line_and_a_status(rig, arguments, message):
    flush = rig.django("flush_queue", *arguments)

    assert flush.wait() == 1
    assert flush.output.startswith("CommandError: ")
    assert message in flush.output
