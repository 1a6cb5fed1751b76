"""What an outcome changes in the row of its job."""

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Self
from uuid import UUID

from django.db.models import F

from aftercommit.models import State
from aftercommit.store.clock import DatabaseNow, in_future
from aftercommit.values import (
    Cancelled,
    Claim,
    Failed,
    Outcome,
    Released,
    Retry,
    RunError,
    Succeeded,
)

TRACEBACKS_KEPT = 10  # of the latest failed runs; older entries keep class and worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """An outcome in terms of columns, the same for every database."""

    state: str
    result: str | None = None
    errors: str | None = None  # None: as they are
    delay: timedelta | None = None  # None: run_after as it is
    refund: int = 0  # attempts given back
    conflicts: int = 0  # conflicts added
    keeps_worker: bool = False

    def cancelled(self) -> Self:
        """Return what is written instead if the job's cancellation was requested."""
        return replace(self, state=State.CANCELLED, delay=None)


RELEASED = Ending(state=State.READY, refund=1)  # at once


def ending(claim: Claim, outcome: Outcome) -> Ending:
    """Translate how a run ended into what its row shall hold."""
    match outcome:
        case Succeeded(result):
            return Ending(state=State.SUCCEEDED, result=result, keeps_worker=True)
        case Retry(error, delay):
            return Ending(state=State.READY, errors=_errors(claim, error), delay=delay)
        case Failed(error):
            return Ending(state=State.FAILED, errors=_errors(claim, error))
        case Cancelled(error):
            return Ending(state=State.CANCELLED, errors=_errors(claim, error))
        case Released(delay, conflict):
            return Ending(
                state=State.READY,
                delay=delay or None,
                refund=1,
                conflicts=int(conflict),
            )


def changes(end: Ending) -> dict[str, Any]:
    """Return the same as the arguments of an ``update()``."""
    update: dict[str, Any] = {"state": end.state, "lease_until": None, "slot": None}
    if end.state != State.READY:
        update |= {"finished_at": DatabaseNow(), "unique_lock": None}
    if end.result is not None:
        update["result"] = end.result
    if end.errors is not None:
        update["errors"] = end.errors
    if end.delay is not None:
        update["run_after"] = in_future(end.delay)
    if end.refund:
        update["attempts"] = F("attempts") - end.refund
    if end.conflicts:
        update["conflicts"] = F("conflicts") + end.conflicts
    if not end.keeps_worker:
        update["worker_id"] = None
    return update


def with_error(errors: str, error: RunError, *, worker_id: UUID | None) -> str:
    """Return the JSON list ``errors`` with one more entry."""
    entries = json.loads(errors)
    for entry in entries[: -TRACEBACKS_KEPT + 1]:
        entry["traceback"] = ""
    entries.append(
        {
            "exception_class_path": error.exception_class_path,
            "traceback": error.traceback,
            "worker_id": str(worker_id),
        }
    )
    return json.dumps(entries)  # ASCII: NUL and lone surrogates arrive as escapes


def _errors(claim: Claim, error: RunError) -> str:
    return with_error(claim.errors, error, worker_id=claim.worker_id)
