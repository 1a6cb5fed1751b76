"""Loaded by every process of a rig: connections say whose they are, events become notes.

A worker imports it through ``OPTIONS['task_modules']``. The triggers of the ledger read
what a connection says, so each change of a job names the process tree that made it.
"""

import os
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created

from aftercommit import events
from tests.app.notes import note

TREE = os.getsid(0)  # the session, which is named after its first process
SAY = {
    "postgresql": f"SELECT set_config('rig.tree', '{TREE}', false)",
    "mysql": f"SET @rig_tree = {TREE}",
}
HEAR = {  # in SQL, inside a trigger
    "postgresql": "current_setting('rig.tree', true)",
    "mysql": "@rig_tree",
    "sqlite": "rig_tree()",
}


def wear(connection: Any, **_: Any) -> None:
    """Make a new connection tell its tree."""
    if connection.vendor == "sqlite":
        connection.connection.create_function("rig_tree", 0, lambda: TREE)
        return
    raw = connection.connection.cursor()  # not Django's: nobody is to notice
    raw.execute(SAY[connection.vendor])
    raw.close()


def _started(worker_id: Any, using: str, **_: Any) -> None:
    reloader = os.environ.get("RUN_MAIN")  # as Django's reloader tells its child
    note("worker_started", worker=str(worker_id), using=using, reloader=reloader)


def _stopped(worker_id: Any, using: str, **_: Any) -> None:
    note("worker_stopped", worker=str(worker_id), using=using)


def _lost(claim: Any, **_: Any) -> None:
    note("fenced", job=str(claim.job_id), token=claim.token)


def _rescued(rescued: Any, **_: Any) -> None:
    note("rescued", job=str(rescued.job_id), crashes=rescued.crashes, state=rescued.state)


def _ended(claim: Any, ran: Any, **_: Any) -> None:
    outcome = type(ran.outcome).__name__
    note("ended", job=str(claim.job_id), token=claim.token, outcome=outcome)


def _away(using: str, **_: Any) -> None:
    note("database_away", using=using)


def _back(using: str, **_: Any) -> None:
    note("database_back", using=using)


connection_created.connect(wear, dispatch_uid="rig")
for _connection in connections.all(initialized_only=True):
    if _connection.connection is not None:
        wear(_connection)
events.worker_started.connect(_started, dispatch_uid="rig")
events.worker_stopped.connect(_stopped, dispatch_uid="rig")
events.claim_lost.connect(_lost, dispatch_uid="rig")
events.job_rescued.connect(_rescued, dispatch_uid="rig")
events.job_ended.connect(_ended, dispatch_uid="rig")
events.database_away.connect(_away, dispatch_uid="rig")
events.database_back.connect(_back, dispatch_uid="rig")
