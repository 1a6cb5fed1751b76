"""Which tasks have paused their rates, by ``context.rate_limited_until()``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from aftercommit.queues.named import aliases
from aftercommit.store import store_for


@dataclass(frozen=True, slots=True, kw_only=True)
class PausedRate:
    """A task of which jobs do not start, because a run has said that a provider refuses."""

    using: str
    task: str | None  # its path; None: no job of these keys waits or runs
    keys: int  # how many: with ``rate_by``, one for each choice of values
    until: datetime  # the latest end


def paused_rates(using: str | None = None) -> Sequence[PausedRate]:
    """Return them, by database and task; ``resume(task=…)`` ends such pauses."""
    return [one for alias in aliases(using) for one in _paused_in(alias)]


def _paused_in(alias: str) -> Iterator[PausedRate]:
    until: dict[str, list[datetime]] = {}
    for one in store_for(alias).paused_rates():
        until.setdefault(one.task_path or "", []).append(one.until)
    for path, ends in sorted(until.items()):
        yield PausedRate(using=alias, task=path or None, keys=len(ends), until=max(ends))
