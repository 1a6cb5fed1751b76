"""Sends Django's ``task_finished`` for jobs that end outside a run of this process."""

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import transaction

from aftercommit import events
from aftercommit._compat import task_backends
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.discovery import task_at
from aftercommit.enqueue.results import result_of
from aftercommit.enqueue.signals import finished
from aftercommit.enqueue.transactions import is_open
from aftercommit.values import Ended

if TYPE_CHECKING:
    from aftercommit.store.base import Rescued, Store

READY, CANCELLED = "ready", "cancelled"
AT_A_TIME = 500  # rows read by one statement


def send_finished(store: "Store", ended: Iterable[Ended]) -> None:
    """Send ``task_finished`` for each of these jobs, as soon as its end is committed.

    For jobs that ended without a run: a ready job was cancelled, or a job has failed because
    too many worker processes died with it. Jobs that are ready again are left out. In a
    transaction that Django does not know (autocommit off, or a raw BEGIN) nothing is sent:
    its commit would not be noticed.
    """
    job_ids = [one.job_id for one in ended if one.state != READY]
    if not job_ids or not finished.any(logging.ERROR):
        return
    if store.connection.in_atomic_block or not is_open(store.connection):
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
    for start in range(0, len(job_ids), AT_A_TIME):
        for job in store.jobs(job_ids[start : start + AT_A_TIME]):
            task = task_at(job.task_path)
            if task is not None and job.finished_at is not None:  # else it was retried meanwhile
                result = result_of(job, task, ended_by_a_run=False)
                send = finished.send_decided if job.state == CANCELLED else finished.send
                send(sender=sender_of(job.backend), task_result=result)
