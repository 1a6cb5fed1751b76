"""``flush_queue``: what is due, in shares, and then the end."""

import pytest

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
        (["--which", "3", "--outof", "2"], "expected 1 <= which <= outof"),
        (["--jobs", "0"], "jobs: expected a whole number from 1"),
        (["--which", "0"], "which: expected a whole number from 1"),
    ],
)
def test_a_mistake_is_one_line_and_a_status(rig, arguments, message):
    flush = rig.django("flush_queue", *arguments)

    assert flush.wait() == 1
    assert flush.output.startswith("CommandError: ")
    assert message in flush.output
