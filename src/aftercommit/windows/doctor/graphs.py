"""Jobs that wait for other jobs, and will wait for ever."""

from collections.abc import Iterator
from uuid import UUID

from aftercommit.relay.neglected import SEEN_WITHIN
from aftercommit.store.base import Store
from aftercommit.windows.doctor.finding import Ailment, Finding
from aftercommit.wording import counted

MOST_LOOKED_AT = 10_000
MOST_NAMED = 3


def graphs(store: Store) -> Iterator[Finding]:
    """Say which jobs wait for what cannot end, among the first of those that wait."""
    stuck = store.stuck_jobs(most=MOST_LOOKED_AT)
    if stuck.without_edges:
        yield _wrong(
            store,
            "waits-for-nothing",
            f"{_jobs(stuck.without_edges)} for other jobs, and no row of aftercommit_dependency "
            "says for which: they were deleted.",
            "Cancel and retry them: then they run, with null in place of results.",
        )
    if stuck.in_circles:
        yield _wrong(
            store,
            "waits-in-a-circle",
            f"{_jobs(stuck.in_circles)} for each other, or for such jobs.",
            "Cancel one of them.",
        )
    if stuck.for_ended and not store.workers.count_seen(within=SEEN_WITHIN):
        yield _wrong(
            store,
            "end-not-noticed",
            f"{_jobs(stuck.for_ended)} for jobs that have ended or are gone. A worker would "
            "notice that, and none is there.",
            "Run 'manage.py aftercommit worker'.",
        )


def _jobs(job_ids: list[UUID]) -> str:
    named = ", ".join(map(str, job_ids[:MOST_NAMED]))
    more = ", …" * (len(job_ids) > MOST_NAMED)
    return f"{counted(len(job_ids), 'job')} ({named}{more}) {_wait(job_ids)}"


def _wait(job_ids: list[UUID]) -> str:
    return "waits" if len(job_ids) == 1 else "wait"


def _wrong(store: Store, check: str, text: str, cure: str) -> Finding:
    return Finding(store.alias, check, text, cure, ailment=Ailment.NOBODY)
