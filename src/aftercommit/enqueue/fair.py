"""Fairness: jobs with equal values of some arguments share a turn, however many they are."""

import json
from dataclasses import replace
from typing import Any

from aftercommit._compat import BaseTask
from aftercommit.enqueue.keys import arguments_of, check_names_of_arguments
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.registry import declared_tasks, option
from aftercommit.errors import ConfigurationError
from aftercommit.options.checked import names_in
from aftercommit.options.fair import fair_key
from aftercommit.values import NewJob


def kinds_of_fair_tasks() -> frozenset[bool]:
    """Return of the tasks with ``fair_by`` in this process whether they have limits or rates."""
    fair = [task for task in declared_tasks() if option(task, "fair_by") is not None]
    return frozenset(
        option(task, "limit") is not None or option(task, "rate") is not None for task in fair
    )


def is_fair(task_path: str) -> bool:
    """Return whether the jobs of a task take turns, as this process knows it."""
    return option(known_task(task_path), "fair_by") is not None


def in_turn(job: NewJob, task: BaseTask) -> NewJob:
    """Return the job of a task with ``fair_by`` with the key of its line.

    All tasks of a queue share the turn of equal values of the same arguments: it belongs to the
    tenant, not to the task. Only one with a limit or a rate has lines of its own, or its jobs
    would hold up the others of the tenant.

    Without another limit the job has its fair key as limit key: so no program that does not
    know lines claims it as it comes.
    """
    names = option(task, "fair_by")
    if names is None:
        return job
    chosen = arguments_of(task, job.payload)
    gated = job.limit_key is not None or job.rate_key is not None
    values = [task.module_path if gated else None, {name: chosen.get(name) for name in names}]
    key = fair_key(job.backend, job.queue, json.dumps(values, sort_keys=True), gated=gated)
    return replace(job, fair_key=key, limit_key=job.limit_key or key)


def check_fair(task: Any) -> None:
    """Check the option of a task; raises ``ConfigurationError``."""
    if task.fair_by is None:
        return
    object.__setattr__(task, "fair_by", names_in("fair_by", task.fair_by))
    check_names_of_arguments(task, "fair_by")
    if not task.fair_by:
        raise ConfigurationError(
            "fair_by: name at least one argument, such as fair_by=('tenant_id',): jobs take "
            "turns by its values."
        )
    if task.ordered:
        raise ConfigurationError(
            "fair_by cannot be combined with ordered=True: jobs that run in the order of the "
            "calls take no turns. Leave one of the two out."
        )
