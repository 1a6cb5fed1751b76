"""Encrypts the secrets of queued jobs anew, after a change of the keys."""

from typing import NamedTuple
from uuid import UUID

from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.sealing import resealed
from aftercommit.errors import SecretsUnreadable
from aftercommit.jobs.asked import database
from aftercommit.store import store_for

AT_A_TIME = 100
FIRST_ID = UUID(int=0)


class Reencrypted(NamedTuple):
    """What was done about the jobs of a database that have secrets."""

    changed: int
    unreadable: int  # no key of theirs is there, or they were changed


def reencrypt(*, using: str | None = None) -> Reencrypted:
    """Encrypt the secrets of all jobs that may run again with the first of ``secret_keys``.

    Each job by itself, beside working workers, which need the old keys until it is done.
    """
    store = store_for(database(using))
    keys = {one.alias: one.config.secret_keys for one in our_backends()}
    changed = unreadable = 0
    last: UUID | None = FIRST_ID
    while last is not None:
        page = store.jobs_with_secrets(after=last, limit=AT_A_TIME)
        for job in page:
            try:
                payload = resealed(job.payload, keys.get(job.backend, ()), job.id)
            except SecretsUnreadable:
                unreadable += 1
                continue
            if payload != job.payload:
                before = job.payload
                changed += store.exchange_payload(job.id, before=before, after=payload)
        last = page[-1].id if page else None
    return Reencrypted(changed, unreadable)
