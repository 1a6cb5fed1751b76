"""What a schedule says, whoever declares it: as a frozen value, as text, and as columns."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from typing import Any, NamedTuple

from aftercommit.timing import LAST, QUEUE, Timing

SPANS = ("every", "catch_up_within", "jitter")
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a schedule says: the task, its arguments, and when it is due."""

    task_path: str
    backend: str
    payload: str  # JSON text, as of a job
    queue: str = ""  # empty: that of the task
    priority: int | None = None  # None: that of the task
    cron: str = ""
    every: timedelta | None = None
    timezone: str = ""  # of cron
    catch_up: str = LAST
    catch_up_within: timedelta | None = None
    overlap: str = QUEUE
    jitter: timedelta | None = None

    @property
    def timing(self) -> Timing:
        """When it is due."""
        return Timing(
            cron=self.cron,
            timezone=self.timezone or "UTC",
            every=self.every,
            catch_up=self.catch_up,
            catch_up_within=self.catch_up_within,
            jitter=self.jitter,
        )

    def as_json(self) -> str:
        """Return it as text, the same for equal ones."""
        found = asdict(self)
        for name in SPANS:
            if found[name] is not None:
                found[name] = found[name] // MICROSECOND
        return json.dumps(found, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Spec":
        """Return what ``as_json`` has written; what only a later version knows is left out."""
        found = {name: one for name, one in json.loads(text).items() if name in COLUMNS}
        for name in SPANS:
            if found.get(name) is not None:
                found[name] = found[name] * MICROSECOND
        return cls(**found)

    @classmethod
    def of(cls, row: Any) -> "Spec":
        """Return what a row says."""
        return cls(**{name: getattr(row, name) for name in COLUMNS})

    def columns(self) -> dict[str, Any]:
        """Return the columns of a row that says the same."""
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS = tuple(one.name for one in fields(Spec))


class Declared(NamedTuple):
    """A schedule that code or settings declare."""

    name: str
    source: str  # code or settings
    spec: Spec

    @property
    def digest(self) -> str:
        """The same for equal declarations."""
        text = f"{self.name}|{self.source}|{self.spec.as_json()}"
        return hashlib.sha256(text.encode()).hexdigest()
