"""Importers of tables: the row goes in the transaction in which its job comes."""

import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

from aftercommit.errors import ConfigurationError
from aftercommit.importing.source import Source
from aftercommit.importing.values import Message
from aftercommit.store.other_tables import OtherTable, WaitingRows


class TableSource(Source):
    """The waiting rows of a library's table, which is in the database of the jobs."""

    table: ClassVar[OtherTable]
    may_come_again = False

    def __init__(self, using: str) -> None:
        self._rows = WaitingRows(using, self.table)
        if not self._rows.exist():
            raise ConfigurationError(
                f"The database {using!r} has no table {self.table.name!r}. Nothing was "
                "imported.\n"
                "A row is removed in the transaction that inserts its job, so both must be in "
                "one database.\n"
                "Fix: name it by --database, or copy the table there."
            )

    def read(self, limit: int) -> list[Message]:
        """See ``Source.read``; the rows are locked."""
        return [self.message(row) for row in self._rows.read(limit)]

    def take(self, messages: Sequence[Message]) -> list[Message]:
        """See ``Source.take``; rows that were read are locked, so all of them are ours."""
        self._rows.take([one.raw for one in messages])
        return list(messages)

    def remove(self, messages: Sequence[Message]) -> None:
        """See ``Source.remove``; the transaction has done it."""

    def close(self) -> None:
        """See ``Source.close``; the connection is Django's."""

    def elsewhere(self) -> Counter[str]:
        """Return how many rows workers hold."""
        held = self._rows.held()
        return Counter({"held by workers of the other queue": held} if held else {})

    @abstractmethod
    def message(self, row: dict[str, Any]) -> Message:
        """Return what a row says."""


def parsed(value: Any) -> Any:
    """Return JSON of a column as values; drivers return text, or have parsed it.

    None for what is no JSON: a source says of it that it is unfit.
    """
    if not isinstance(value, (str, bytes)):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None
