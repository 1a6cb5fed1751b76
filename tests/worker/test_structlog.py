"""structlog's lines have the names of the run, and those of the next run have its own."""

import pytest
import structlog
from structlog.testing import capture_logs

from aftercommit import task
from aftercommit.integrations.structlog import middleware
from tests.worker.rig import commits, work

pytestmark = [commits, pytest.mark.usefixtures("one_backend")]

log = structlog.get_logger()


@task(max_attempts=1)
def say(number):
    structlog.contextvars.bind_contextvars(mine=number)
    log.info("said", number=number)
    if number == "bad":
        raise ValueError


@task(max_attempts=1)
async def asay(number):
    await log.ainfo("said", number=number)


@task(batch_size=8)
def collect(calls):
    log.info("collected")


@pytest.fixture
def lines(settings):
    """Return what is logged, with what is bound."""
    before = settings.TASKS["default"]
    options = {**before["OPTIONS"], "middleware": [middleware]}
    settings.TASKS = {"default": {**before, "OPTIONS": options}}
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as found:
        yield found


@pytest.mark.parametrize("declared", [say, asay], ids=["function", "coroutine"])
def test_a_line_has_the_names_of_its_run(lines, declared):
    result = declared.using(queue_name="mail").enqueue(7)

    work(threads=1)

    (line,) = lines
    assert {name: line[name] for name in ("task", "job_id", "attempt", "queue", "backend")} == {
        "task": declared.module_path,
        "job_id": result.id,
        "attempt": 1,
        "queue": "mail",
        "backend": "default",
    }


def test_nothing_of_it_reaches_the_next_run(lines):
    first, second = (say.enqueue(number) for number in ("bad", "good"))

    work(threads=1)
    log.info("afterwards")

    assert [one.get("job_id") for one in lines] == [first.id, second.id, None]
    assert "mine" not in lines[2]


def test_a_batch_says_how_many_jobs_it_has(lines):
    collect.enqueue_many([(number,) for number in range(8)])

    work(threads=1)

    sizes = [one.get("jobs_in_call", 1) for one in lines]
    assert sum(sizes) == 8
    assert max(sizes) > 1
