"""From what a run raised to what becomes of its job."""

import logging
from datetime import timedelta
from typing import Protocol

from aftercommit.enqueue.outcomes import Cancel, Discard, Snooze
from aftercommit.enqueue.outcomes import Retry as AskedForRetry
from aftercommit.enqueue.policy import Policy
from aftercommit.errors import (
    ClaimLost,
    PayloadError,
    PayloadTooLarge,
    Stopped,
    TransactionBroken,
)
from aftercommit.options.backoff import Exponential
from aftercommit.values import Cancelled, Failed, Outcome, Released, Retry
from aftercommit.worker.running.failure import run_error

logger = logging.getLogger("aftercommit")

MOST_CONFLICTS = 10  # runs given back because of deadlocks and lost connections
# Short, and random, so that those who collided do not collide again.
AFTER_CONFLICT = Exponential(base=timedelta(milliseconds=20), maximum=timedelta(seconds=2))


class Attempts(Protocol):
    """How often a job may run, and has run; a claim knows."""

    @property
    def max_attempts(self) -> int: ...
    @property
    def failed_runs(self) -> int: ...
    @property
    def conflicts(self) -> int: ...


def outcome_of(
    error: BaseException, claim: Attempts, policy: Policy, *, conflict: bool
) -> Outcome:
    """Say how a run ended that raised ``error``.

    ``conflict``: the database broke off a transaction whose effects are all undone, so
    the run may be given back instead of counted, ``MOST_CONFLICTS`` times.
    """
    asked = _asked_for(error)
    if asked is not None:
        return asked
    # A lost claim is given back to nobody: the fence holds. One that only looks lost (the
    # task has changed the search path, say) must not run again and again for nothing.
    conflict = conflict or isinstance(error, ClaimLost)
    if conflict and claim.conflicts < MOST_CONFLICTS:
        return Released(AFTER_CONFLICT(claim.conflicts + 1), conflict=True)
    failed_runs = claim.failed_runs + 1
    if failed_runs >= claim.max_attempts or not _is_worth_a_retry(error, policy):
        return Failed(run_error(error))
    return Retry(run_error(error), _delay(error, policy, failed_runs))


def _asked_for(error: BaseException) -> Outcome | None:
    """Return the outcome that an exception names, if it does."""
    match error:
        case Snooze(delay=delay):
            return Released(delay)
        case Stopped():
            return Released()
        case Cancel():
            return Cancelled(run_error(error))
        case Discard() | TransactionBroken() | PayloadError() | PayloadTooLarge():
            return Failed(run_error(error))  # again would be no better
        case _:
            return None


def _is_worth_a_retry(error: BaseException, policy: Policy) -> bool:
    if isinstance(error, AskedForRetry):
        return True
    return isinstance(error, policy.retry_on) and not isinstance(error, policy.discard_on)


def _delay(error: BaseException, policy: Policy, failed_runs: int) -> timedelta:
    if isinstance(error, AskedForRetry) and error.delay is not None:
        return error.delay
    try:
        return policy.backoff(failed_runs)
    except Exception:
        logger.exception("A backoff function failed; the default is used instead")
        return Exponential()(failed_runs)
