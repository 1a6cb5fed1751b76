"""Every point of a job's road, and harm before and after it (TORTURE 3).

A point is a statement, a COMMIT or a ROLLBACK on the way from the claim to the written
outcome. At each one the process is ended, or its connection is closed under it; then a
healthy worker does what is left to do.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import pytest

from aftercommit.models import Job
from tests.app.chores import KINDS, plain
from tests.process.rig import ROOT, Rig
from tests.torture.orders import DIED, Answer, Order
from tests.torture.tasks import unsteady

STATES = {"Succeeded": "succeeded", "Retry": "ready", "Released": "ready"}
HARM = [(when, how) for when in ("before", "after") for how in ("exit", "close")]


@dataclass(frozen=True, slots=True)
class Case:
    """One harm at one point, and what came of it."""

    order: Order
    answer: Answer
    state: str  # of the job, right afterwards

    def __str__(self) -> str:
        order = self.order
        return f"{order.how} {order.when} {self.answer.harm!r} (point {order.point})"


@contextmanager
def children(rig: Rig) -> Iterator["Children"]:
    """Start the process whose children run the jobs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.torture.crash_child"],
        cwd=ROOT,
        env=rig.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield Children(rig, process)
        process.stdin.close()


class Children:
    """Gives orders and takes answers."""

    def __init__(self, rig: Rig, process: "subprocess.Popen[str]") -> None:
        self._rig = rig
        self._process = process

    def run(self, **order: object) -> Case:
        """Let a child run a job."""
        given = Order(**order)
        self._process.stdin.write(json.dumps(asdict(given)) + "\n")
        self._process.stdin.flush()
        answer = Answer(**json.loads(self._process.stdout.readline()))
        return Case(given, answer, self._rig.job(given.job).state)


def crash_everywhere(rig: Rig, task: object) -> list[Case]:
    """Run the task with every harm at every point; return what was seen at once."""
    with children(rig) as forks:
        quiet = forks.run(job=rig.enqueue(task, "quiet"), queue=task.queue_name)
        assert quiet.answer.told == ["Retry" if task is unsteady else "Succeeded"]
        points = range(len(quiet.answer.points))
        wanted = [(point, when, how) for point in points for when, how in HARM]
        keys = [f"{point} {when} {how}" for point, when, how in wanted]
        jobs = rig.enqueue_many(task, [((key,), {}) for key in keys])
        return [
            forks.run(job=job, queue=task.queue_name, point=point, when=when, how=how)
            for job, (point, when, how) in zip(jobs, wanted, strict=True)
        ]


def wrong_at_once(cases: list[Case]) -> list[str]:
    """Say where harm did not come, and where a child told what the table does not say."""
    wrong = []
    for case in cases:
        answer = case.answer
        if not answer.harm or answer.status != (DIED if case.order.how == "exit" else 0):
            wrong.append(f"{case}: no harm was done ({answer})")
        if answer.told and [case.state] != [STATES[told] for told in answer.told]:
            wrong.append(f"{case}: told {answer.told}, is {case.state}")
        if case.order.how == "close" and not answer.told and case.state != "running":
            wrong.append(f"{case}: told nothing, lost {answer.lost}, is {case.state}")
    return wrong


def finish_the_rest(rig: Rig) -> None:
    """Let a healthy worker find and run what is left."""
    rig.settings(modules=unsteady.func.__module__, lease=0.6, heartbeat=0.15, poll_interval=0.1)
    rig.worker()
    rig.wait_quiet()


@pytest.mark.parametrize("task", [*KINDS, unsteady], ids=lambda task: task.name)
def test_no_point_loses_or_doubles_a_job(rig, task):
    cases = crash_everywhere(rig, task)
    assert wrong_at_once(cases) == []
    left = Job.objects.exclude(state="succeeded").count()
    finish_the_rest(rig)

    keys = [f"{case.order.point} {case.order.when} {case.order.how}" for case in cases]
    report = rig.check(committed=["quiet", *keys])
    print(f"{len(cases)} crash points, {left} jobs left to the healthy worker, {report}")
    assert report.violations == []
    assert report.states["succeeded"] == len(cases) + 1
    assert report.plain_again == 0 or task is plain
    assert left > len(cases) / 3
    assert report.crashes > 0
