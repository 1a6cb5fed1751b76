"""What an importer reads from another library, and what it says at the end."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A queued call, as the other library has stored it."""

    key: str  # names it there; no other message has it, and it stays the same
    task: str  # the name of the task there
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    queue: str | None = None  # None: that of the task here
    priority: int | None = None  # None: that of the task here
    run_after: datetime | None = None
    unfit: str | None = None  # why it cannot become a job
    raw: Any = None  # what its source needs to take it


@dataclass(slots=True, kw_only=True)
class Report:
    """What was imported, and what was left where it is."""

    imported: Counter[str] = field(default_factory=Counter)  # by the name of the task here
    again: int = 0  # are jobs already: only removed there
    left: Counter[tuple[str, str]] = field(default_factory=Counter)  # by name there, and why
    elsewhere: Counter[str] = field(default_factory=Counter)  # not read at all, and why


class Place(NamedTuple):
    """Where the messages of a broker are."""

    url: str | None
    queues: Sequence[str] = ()  # none: the one that the library has by default
    prefix: str | None = None  # of all keys; None: the one that the library has by default
    held: bool = False  # those as well that dead workers held
