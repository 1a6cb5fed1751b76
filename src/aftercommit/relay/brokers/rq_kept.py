"""What RQ's jobs do while they are kept in a transaction, so that Redis does not know them."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from rq.job import Job

from aftercommit.relay.brokers.unsent import is_unsent, refusing


def prepare_jobs() -> None:
    """Replace the methods of ``Job`` that would ask Redis, or write there."""
    for name in ("cancel", "delete", "refresh", "save_meta"):
        setattr(Job, name, refusing(getattr(Job, name), _id))
    Job.latest_result = refusing(Job.latest_result, _id, unless=_does_not_wait)
    Job.get_status = _known(Job.get_status)


def _id(job: Job) -> list[str]:
    return [job.id] if job._id else []


def _does_not_wait(timeout: int = 0) -> bool:
    return not timeout


def _known(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def get_status(self: Job, *args: Any, **options: Any) -> Any:
        if self._id and is_unsent(self._id):
            return self._status
        return original(self, *args, **options)

    return get_status
