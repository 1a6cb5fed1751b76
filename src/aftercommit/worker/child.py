"""What every child process of a worker begins with."""

import contextlib
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import Connection

from asgiref.sync import async_to_sync
from django.db import connections

from aftercommit import log as telemetry
from aftercommit.enqueue.policy import policy_of
from aftercommit.options.conf import WorkerConfig
from aftercommit.store import store_for
from aftercommit.values import Claim, Ran, Released
from aftercommit.worker.config import served, task_of
from aftercommit.worker.running.connections import Session
from aftercommit.worker.running.executor import Executor
from aftercommit.worker.running.timeouts import Overseer
from aftercommit.worker.runs import Runs
from aftercommit.worker.upkeep.announcer import Announcer
from aftercommit.worker.upkeep.loop import Rounds

logger = logging.getLogger("aftercommit")


def end_with_parent(orphaned: Callable[[], None] | None = None) -> None:
    """Watch over the parent: when it is gone, call ``orphaned``, or end at once."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        if orphaned is None:
            os._exit(1)
        orphaned()

    threading.Thread(target=watch, name="aftercommit-parent", daemon=True).start()


class SoloChild:
    """Runs one claim after the other, as its parent sends them."""

    def __init__(self, pipe: Connection, using: str) -> None:
        telemetry.show_log()
        telemetry.write_log()
        served(WorkerConfig())  # imports the tasks
        self._pipe = pipe
        self._runs = Runs(lease=timedelta(days=1))  # the parent renews, and fences
        self._session = Session()
        self._executor = Executor(
            using=using,
            hold=store_for(using).hold,
            record=store_for(using).finish,
            task_of=task_of,
            started=Announcer().started,
        )
        self._overseer = Overseer([self._runs], give_up=lambda _run: None)
        Rounds("overseer", self._overseer.step).start()

    def serve(self) -> None:
        """Go on until the parent closes the pipe, or is gone."""
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                claim: Claim = self._pipe.recv()
                task, options = task_of(claim)
                self._pipe.send(policy_of(task, options).timeout)
                self._pipe.send(self._run(claim))

    def _run(self, claim: Claim) -> Ran:
        run = self._runs.add(claim)
        self._session.prepare()
        try:
            if self._executor.is_async(run):
                ran: Ran = async_to_sync(self._executor.arun)(run)
            else:
                ran = self._executor.run(run)
        except BaseException as error:
            ran = Ran(outcome=Released(), exception=error)
        finally:
            self._runs.remove(claim)
        try:
            self._session.tidy()
            connections.close_all()
        except Exception:  # the job has ended all the same
            logger.exception("Job %s left a connection that cannot be closed", claim.job_id)
        return replace(ran, exception=None)  # an exception may not survive the pipe
