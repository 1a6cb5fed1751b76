"""What the test of crash points and its children say to each other."""

from dataclasses import dataclass, field

DIED = 77  # exit status of a child that was ended at its point


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Which job to run, and what is to go wrong."""

    job: str
    queue: str
    point: int | None = None  # None: count the points, do no harm
    when: str = "before"  # or "after"
    how: str = "exit"  # or "close"


@dataclass(slots=True, kw_only=True)
class Answer:
    """What became of it."""

    status: int = 0
    points: list[str] = field(default_factory=list)
    harm: str = ""  # the point at which it came
    told: list[str] = field(default_factory=list)  # outcomes announced as written
    lost: int = 0  # claims announced as lost
