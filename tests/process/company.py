"""Loaded into workers by a test: they stand still while several jobs share a transaction.

``AFTERCOMMIT_TEST_SHARED`` names the place. Whatever the machine is doing, runs may join
for as long as it takes.
"""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from aftercommit.worker import durations
from aftercommit.worker.running.atomic import shared
from aftercommit.worker.running.atomic.shared import SharedTransaction
from tests.app.notes import note, pass_gate

PLACE = os.environ.get("AFTERCOMMIT_TEST_SHARED", "")


def stand_still(batch: SharedTransaction, place: str) -> None:
    """Say which jobs share the transaction, and wait for the end."""
    if place == PLACE and len(batch.good_runs) > 1:
        note("shared", jobs=[str(run.claim.job_id) for run in batch.good_runs])
        pass_gate("shared")


def around_record(record: Callable[..., Any]) -> Callable[..., Any]:
    """Stand still when bodies are over, or when their outcomes are written as well."""

    def standing(batch: SharedTransaction, *given: Any) -> None:
        stand_still(batch, "before the outcomes")
        record(batch, *given)
        stand_still(batch, "before COMMIT")

    return standing


def before_settling(settle: Callable[..., Any]) -> Callable[..., Any]:
    """Stand still when all is committed and nobody has been told."""

    def standing(batch: SharedTransaction) -> Any:
        stand_still(batch, "after COMMIT")
        return settle(batch)

    return standing


def before_body(add: Callable[..., Any]) -> Callable[..., Any]:
    """Say who shares a transaction with a body that begins."""

    def saying(batch: SharedTransaction, work: Any) -> None:
        note("joins", job=str(work.run.claim.job_id), company=len(batch.good_runs))
        add(batch, work)

    return saying


SharedTransaction.record = around_record(SharedTransaction.record)  # type: ignore[method-assign]
SharedTransaction.settle = before_settling(SharedTransaction.settle)  # type: ignore[method-assign]
SharedTransaction._add = before_body(SharedTransaction._add)  # type: ignore[method-assign]
shared.BUDGET = shared.LONGEST = durations.SHORT = timedelta(minutes=1)
