"""RabbitMQ's confirms: messages go out one after the other, and are waited for together."""

from collections.abc import Callable


class Confirms:
    """Which messages of a channel RabbitMQ has not confirmed yet.

    It counts what is published on a channel since ``confirm.select``, from 1, and names that
    count in its answers, alone or as "all up to".
    """

    def __init__(self) -> None:
        self._published = 0
        self._waiting: dict[int, Callable[[bool], None]] = {}

    def expect(self, answered: Callable[[bool], None]) -> None:
        """Note that a message was published; ``answered`` is called with whether it is there."""
        self._published += 1
        self._waiting[self._published] = answered

    def acked(self, tag: int, multiple: bool) -> None:
        """Hear basic.ack."""
        self._answer(tag, multiple, True)

    def nacked(self, tag: int, multiple: bool) -> None:
        """Hear basic.nack: the broker could not or would not keep it."""
        self._answer(tag, multiple, False)

    def _answer(self, tag: int, multiple: bool, good: bool) -> None:
        tags = [one for one in self._waiting if one <= tag] if multiple else [tag]
        for one in tags:
            if answered := self._waiting.pop(one, None):
                answered(good)

    def __len__(self) -> int:
        return len(self._waiting)
