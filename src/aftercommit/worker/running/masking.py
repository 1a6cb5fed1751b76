"""Hides the secrets of a run in what is stored, logged and sent about it."""

from collections.abc import Sequence
from dataclasses import replace

from aftercommit.values import Cancelled, Failed, Outcome, Retry, RunResult
from aftercommit.worker.running.failure import (
    Unreadable,
    class_path,
    has_a,
    run_error,
)
from aftercommit.worker.runs import Run
from aftercommit.worker.secret_texts import masked


class HiddenError(Exception):
    """Stands in for an exception of a run that has secrets: its text may contain them.

    So may the local variables of its frames, which error trackers collect. It names the class,
    and says what the exception said, without the secrets.
    """


def hiding(run: Run, result: RunResult) -> RunResult:
    """Return the result of a run without its secrets, which may be in what it raised."""
    secrets, error = run.secrets, result.exception
    if not secrets:  # mostly
        return result
    if error is not None and not has_a(error, KeyboardInterrupt):  # which ends an inline worker
        error = hidden(error, secrets)
    return replace(result, outcome=_masked_outcome(result.outcome, secrets), exception=error)


def hidden(error: BaseException, secrets: Sequence[str]) -> BaseException:
    """Return what stands in for an exception of a run that has secrets."""
    if isinstance(error, (HiddenError, Unreadable)):
        return error
    said = run_error(error)
    message = masked(said.message, secrets)
    return HiddenError(f"{class_path(type(error))}: {message}".removesuffix(": "))


def _masked_outcome(outcome: Outcome, secrets: Sequence[str]) -> Outcome:
    if not isinstance(outcome, (Retry, Failed, Cancelled)) or outcome.error is None:
        return outcome
    changed = replace(
        outcome.error,
        traceback=masked(outcome.error.traceback, secrets),
        message=masked(outcome.error.message, secrets),
        place=masked(outcome.error.place, secrets),
    )
    return replace(outcome, error=changed)
