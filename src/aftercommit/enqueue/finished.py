"""Sends Django's ``task_finished`` for jobs that end outside a run of this process."""

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import transaction

from aftercommit import events
from aftercommit._compat import task_backends, task_finished
from aftercommit.enqueue.backend import DatabaseBackend, task_at
from aftercommit.enqueue.results import result_of
from aftercommit.enqueue.signals import listeners_of
from aftercommit.values import Ended

if TYPE_CHECKING:
    from aftercommit.store.base import Rescued, Store

READY = "ready"
listeners = listeners_of(task_finished, "task_finished")


def send_finished(store: "Store", ended: Iterable[Ended]) -> None:
    """Send ``task_finished`` for each of these jobs, as soon as its end is committed.

    For jobs that ended without a run: a ready job was cancelled, or a job has failed because
    too many worker processes died with it. Jobs that are ready again are left out.
    """
    job_ids = [one.job_id for one in ended if one.state != READY]
    if job_ids and listeners.any(logging.ERROR):
        send = partial(_send, store, job_ids)
        transaction.on_commit(send, using=store.alias, robust=True)


def send_rescued(store: "Store", rescued: "Rescued") -> None:
    """Send ``job_rescued``; if the rescue has ended the job, send ``task_finished`` as well."""
    events.send(events.job_rescued, sender=DatabaseBackend, rescued=rescued)
    send_finished(store, [Ended(rescued.job_id, rescued.state)])


def sender_of(backend: str) -> type:
    """Return the sender of Django's task signals: the class of the backend."""
    known = backend in task_backends.settings
    return type(task_backends[backend]) if known else DatabaseBackend


def _send(store: "Store", job_ids: Sequence[UUID]) -> None:
    for job_id in job_ids:
        job = store.job(job_id)
        task = None if job is None else task_at(job.task_path)
        if job is None or task is None:
            continue
        result = result_of(job, task)
        events.send(task_finished, sender=sender_of(job.backend), task_result=result)
