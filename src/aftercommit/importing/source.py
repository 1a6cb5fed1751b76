"""What every importer can do: read messages, and take them so that nobody else runs them."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from aftercommit.importing.values import Message


class Source(ABC):
    """The queued calls of one library. The methods are called in this order, again and again."""

    name: ClassVar[str]
    # Whether a message may be found again after its job was committed, because it is not
    # removed in the transaction of the job. If so, the job's transaction records its key.
    may_come_again: ClassVar[bool]
    # Whether another message may have the key of one that was removed. If so, the record of a key
    # goes when its message is removed, and no two messages of one ``read()`` have the same key.
    keys_come_again: ClassVar[bool] = False

    def taken(self, limit: int) -> list[Message]:
        """Return up to ``limit`` messages that a run took which ended before it removed them."""
        return []

    @abstractmethod
    def read(self, limit: int) -> list[Message]:
        """Return the next messages, the oldest first; none: there are no more.

        A message that is not taken is not returned again by this object.
        """

    @abstractmethod
    def take(self, messages: Sequence[Message]) -> list[Message]:
        """Take those that nobody else has taken meanwhile; return them."""

    @abstractmethod
    def remove(self, messages: Sequence[Message]) -> None:
        """Remove messages that were taken: the transaction with their jobs is committed."""

    def elsewhere(self) -> Counter[str]:
        """Return what is not read, such as messages that workers hold: numbers, by why."""
        return Counter()

    @abstractmethod
    def close(self) -> None:
        """Give connections back."""
