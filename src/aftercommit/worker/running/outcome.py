"""Which outcome a run has, by the exception that it raised."""

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
    TimedOut,
    TransactionBroken,
)
from aftercommit.options.backoff import Exponential
from aftercommit.safe_log import log_error
from aftercommit.values import NO_TIME, Cancelled, Failed, Outcome, Released, Retry
from aftercommit.worker.running.failure import has_a, is_a, parts_of, run_error

# A retry would fail in the same way.
NOT_AGAIN = (Discard, TransactionBroken, PayloadError, PayloadTooLarge)
MOST_CONFLICTS = 10  # of one job; then a deadlock or a lost connection is a failed run
# Short, and random, so that jobs that were in conflict do not meet again.
AFTER_CONFLICT = Exponential(base=timedelta(milliseconds=20), maximum=timedelta(seconds=2))


class Attempts(Protocol):
    """How often a job may run, and has run: the part of a claim that decides on a retry."""

    @property
    def max_attempts(self) -> int: ...
    @property
    def failed_runs(self) -> int: ...
    @property
    def conflicts(self) -> int: ...


def outcome_of(
    error: BaseException, claim: Attempts, policy: Policy, *, conflict: bool
) -> Outcome:
    """Return the outcome of a run that raised ``error``.

    ``conflict``: the database ended the transaction and all its effects are rolled back. The
    job is then released and the run is not counted, up to ``MOST_CONFLICTS`` times.
    """
    asked = asked_for(error)
    if asked is not None:
        return asked
    _say_how_long(error, policy.timeout)
    # If the claim is really lost, the fence makes the release a no-op. If it only looks lost
    # (for example, the task has changed the search path), the job must not run without end.
    conflict = conflict or has_a(error, ClaimLost)
    if conflict and claim.conflicts < MOST_CONFLICTS:
        return Released(AFTER_CONFLICT(claim.conflicts + 1), conflict=True)
    failed_runs = claim.failed_runs + 1
    if failed_runs >= claim.max_attempts or not _is_worth_a_retry(error, policy):
        return Failed(run_error(error))
    return Retry(run_error(error), _delay(error, policy, failed_runs))


def _say_how_long(error: BaseException, timeout: timedelta | None) -> None:
    """Complete what a timeout says: it was raised by its class, which knows no number."""
    for one in parts_of(error):
        if type(one) is TimedOut and one.args == TimedOut().args:
            one.args = TimedOut(timeout).args


def asked_for(error: BaseException) -> Outcome | None:
    """Return the outcome that the kind of an exception determines, if it does.

    In a group, of a TaskGroup say, what ends the job outranks everything else, whichever
    errors are beside it. Snooze needs a group of its own: an error must not be hidden by it.
    """
    parts = parts_of(error)
    delays = [getattr(one, "delay", None) for one in parts if is_a(one, Snooze)]
    if any(is_a(one, Stopped) for one in parts):
        return Released()
    if any(is_a(one, Cancel) for one in parts):
        return Cancelled(run_error(error))
    if any(is_a(one, NOT_AGAIN) for one in parts):
        return Failed(run_error(error), discarded=any(is_a(one, Discard) for one in parts))
    if len(delays) == len(parts) and None not in delays:
        return Released(max(filter(None, delays), default=NO_TIME))
    return None


def _is_worth_a_retry(error: BaseException, policy: Policy) -> bool:
    """Return whether each error, also each of a group, is one to be tried again."""
    errors = [one for one in parts_of(error) if not is_a(one, (AskedForRetry, Snooze))]
    return all(
        (is_a(one, policy.retry_on) or is_a(error, policy.retry_on))
        and not (is_a(one, policy.discard_on) or is_a(error, policy.discard_on))
        for one in errors
    )


def _delay(error: BaseException, policy: Policy, failed_runs: int) -> timedelta:
    asked: list[timedelta | None] = [
        getattr(one, "delay", None) for one in parts_of(error) if is_a(one, AskedForRetry)
    ]
    if delays := [delay for delay in asked if delay is not None]:
        return max(delays)
    try:
        return policy.backoff(failed_runs)
    except BaseException as raised:
        log_error("A backoff function failed; the default is used instead", error=raised)
        return Exponential()(failed_runs)
