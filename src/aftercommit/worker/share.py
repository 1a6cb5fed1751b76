"""A part of all jobs, for inline workers that divide them."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from uuid import UUID, uuid5

from aftercommit.errors import ConfigurationError
from aftercommit.options.checked import check_counts
from aftercommit.store import store_for

LOCKS = UUID("0e4c8f0a-55d4-4d4e-9a44-4a6c6e8f7a10")


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One of several equal parts of all jobs, by their ids.

    They are numbered from 0; the last may be called ``outof`` as well, so that a count from 1
    is right, too. Raises ``ConfigurationError`` unless ``0 <= which <= outof``.
    """

    which: int = 0
    outof: int = 1

    def __post_init__(self) -> None:
        check_counts(outof=self.outof)
        whole = isinstance(self.which, int) and not isinstance(self.which, bool)
        if not whole or not 0 <= self.which <= self.outof:
            raise ConfigurationError(
                f"--which {self.which} --outof {self.outof}: expected 0 <= which <= outof."
            )

    @property
    def number(self) -> int:
        """Which of the parts, from 0."""
        return self.which % self.outof

    def holds(self, job_id: UUID) -> bool:
        """Return whether a job belongs to this part."""
        return job_id.int % self.outof == self.number

    def lock_id(self, database: str) -> UUID:
        """Return what the lock of this part is called; MySQL has one space of names a server."""
        return uuid5(LOCKS, f"{self.number}/{self.outof} {database}")


@contextmanager
def alone(share: Share, aliases: Iterable[str]) -> Iterator[bool]:
    """Hold the lock of a share in each of these databases; False if somebody else has one.

    The locks are released when the process ends, however it ends. Raises ``ConfigurationError``
    where there are no session locks.
    """
    with ExitStack() as held:
        for alias in aliases:
            store = store_for(alias)
            lock_id = share.lock_id(str(store.connection.settings_dict["NAME"]))
            if not store.free_locks({lock_id}):
                yield False
                return
            presence = held.enter_context(
                closing(store.open_presence(lock_id, session_locks=True))
            )
            if presence.pooled or (not presence.locked and store.free_locks({lock_id})):
                raise ConfigurationError(
                    f"--serial needs session locks, and the database {alias!r} gives none: a "
                    "pooler in transaction mode has none. Leave --serial out; no job is run "
                    "twice without it."
                )
            if not presence.locked:
                yield False
                return
        yield True
