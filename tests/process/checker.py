"""Looks at everything that is left when all is quiet: I1 to I6 of a task queue.

I1  a committed enqueue is a job, a rolled-back one never was
I2  an atomic effect exists once if its job succeeded, and otherwise not
I3  a plain effect exists at least once, and at most once for each claim
I4  tokens rise by one with each claim; only the holder of a claim ends its run
I5  what has ended stays as it is
I6  nothing is left running or waiting
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from aftercommit.models import Job
from tests.app.models import Effect
from tests.process.ledger import Event

ENDED = ("succeeded", "failed", "cancelled")
ONCE = {
    f"tests.app.chores.{name}"
    for name in ("atomic", "committed", "act_atomically", "act_and_commit", "atomic_elsewhere")
} | {"tests.app.batched.many_atomic"}


@dataclass(slots=True, kw_only=True)
class Report:
    """What was found; a test asserts its counters, and that there is no violation."""

    violations: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    claims: int = 0
    crashes: int = 0  # runs taken from a dead or silent worker
    workers_hit: int = 0  # workers that lost at least one run so
    released: int = 0  # runs given back without a crash, or retried
    fenced: int = 0  # outcomes that came too late
    plain_again: int = 0  # plain effects beyond the first, which are allowed

    def __str__(self) -> str:
        """Return the counters in one line, for the test's output."""
        shown = {name: getattr(self, name) for name in self.__slots__ if name != "violations"}
        return f"{shown | {'violations': len(self.violations)}}"


def check(
    events: list[Event],
    notes: Callable[[str], list[dict[str, Any]]],
    *,
    using: str,
    committed: Collection[str],
    rolled_back: Collection[str] = (),
    expect: str = "succeeded",
) -> Report:
    """Check all jobs of a database; ``committed`` are the keys that must have become jobs."""
    report = Report()
    jobs = list(Job.objects.using(using).all())
    begun = Counter(str(one["job"]) for one in notes("begin"))
    report.fenced = len(notes("fenced"))
    _check_existence(jobs, set(committed), set(rolled_back), report)
    _check_effects(jobs, using, report)
    _check_jobs(jobs, begun, expect, report)
    _check_events(jobs, events, report)
    return report


def key_of(job: Job) -> str:
    """Return the key that a chore was given."""
    call = json.loads(job.payload)
    return str(call["args"][0] if call["args"] else call["kwargs"]["key"])


def _check_existence(
    jobs: list[Job], committed: set[str], rolled_back: set[str], report: Report
) -> None:
    keys = Counter(key_of(job) for job in jobs)
    report.violations += [f"I1: {key} was committed and is lost" for key in committed - set(keys)]
    report.violations += [f"I1: {key} was rolled back" for key in rolled_back & set(keys)]
    report.violations += [f"I1: {key} is {n} jobs" for key, n in keys.items() if n > 1]


def _check_effects(jobs: list[Job], using: str, report: Report) -> None:
    rows = Effect.objects.using(using).exclude(job_id=None).values_list("job_id", flat=True)
    effects = Counter(rows)
    for job in jobs:
        found = effects.pop(job.id, 0)
        done = job.state == "succeeded"
        if job.task_path in ONCE:
            if found != int(done):
                report.violations.append(f"I2: {job} is {job.state} with {found} effects")
        elif done and not 1 <= found <= job.token:
            report.violations.append(f"I3: {job} has {found} effects in {job.token} claims")
        else:
            report.plain_again += max(0, found - 1)
    report.violations += [f"I1: an effect of {job_id}, which is no job" for job_id in effects]


def _check_jobs(jobs: list[Job], begun: Counter[str], expect: str, report: Report) -> None:
    for job in jobs:
        report.states[job.state] += 1
        report.claims += job.token
        report.crashes += job.crashes
        if job.state not in ENDED:
            report.violations.append(f"I6: {job} is {job.state}")
        elif job.state != expect:
            report.violations.append(f"I6: {job} is {job.state}: {job.errors[-300:]}")
        if begun[str(job.id)] > job.token:
            report.violations.append(f"I4: {job} began {begun[str(job.id)]} of {job.token} runs")


def _check_events(jobs: list[Job], events: list[Event], report: Report) -> None:
    by_job: dict[UUID, list[Event]] = defaultdict(list)
    for event in events:
        by_job[event.job_id].append(event)
        if event.wrong:
            report.violations.append(f"{event.wrong}: {event}")
    report.workers_hit = len({event.worker for event in events if event.crashed})
    for job in jobs:
        claims = sum(event.claimed for event in by_job[job.id])
        if claims != job.token:
            report.violations.append(f"I4: {job} has token {job.token} after {claims} claims")
        _follow(by_job[job.id], report)


def _follow(events: list[Event], report: Report) -> None:
    """Walk through one job's life: only who has claimed it may change it, or a rescuer."""
    claimant: str | None = None
    for event in events:
        if event.claimed:
            claimant = event.tree
        elif event.old_state == "running" and not event.crashed:
            report.released += event.new_state == "ready"
            if event.tree != claimant:
                report.violations.append(f"I4: {event} changed a run of tree {claimant}")
