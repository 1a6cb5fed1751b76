"""What was found, and what it means for the exit status."""

from dataclasses import asdict, dataclass
from enum import IntFlag
from typing import Any


class Ailment(IntFlag):
    """What kind of problem it is: one bit of the exit status each; 1 and 2 are mistakes."""

    NONE = 0
    WORK = 4  # a worker could not work: tables, rights, the connection
    NOBODY = 8  # jobs or messages wait, and nobody takes them
    APART = 16  # workers differ in their version, or clocks in their time
    DATABASE = 32  # dead rows, an index, long transactions, a pooler
    SECURITY = 64  # a password that everybody knows


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about a database, and the cure."""

    database: str
    check: str  # a name, for programs
    text: str
    cure: str = ""
    ailment: Ailment = Ailment.NONE

    @property
    def is_problem(self) -> bool:
        """Whether something should be done."""
        return self.ailment is not Ailment.NONE

    def __str__(self) -> str:
        return f"{self.database}: {self.text}{f' {self.cure}' * bool(self.cure)}"

    def as_json(self) -> dict[str, Any]:
        """Return it as values of JSON; ``exit_status``: its bit."""
        found = asdict(self)
        bit = int(found.pop("ailment"))
        return {**found, "is_problem": self.is_problem, "exit_status": bit}
