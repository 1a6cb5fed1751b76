"""RabbitMQ's confirms: many messages are sent before the first confirm is awaited."""

from collections.abc import Callable


class Confirms:
    """The messages of a channel that RabbitMQ has not confirmed yet.

    RabbitMQ numbers the messages of a channel after ``confirm.select``, from 1. An answer
    has the number of one message, or means all messages up to that number.
    """

    def __init__(self) -> None:
        self._published = 0
        self._waiting: dict[int, Callable[[bool], None]] = {}

    def expect(self, answered: Callable[[bool], None]) -> None:
        """Note a published message; ``answered`` is called with whether the broker has it."""
        self._published += 1
        self._waiting[self._published] = answered

    def acked(self, tag: int, multiple: bool) -> None:
        """Process basic.ack: the broker has the message."""
        self._answer(tag, multiple, True)

    def nacked(self, tag: int, multiple: bool) -> None:
        """Process basic.nack: the broker does not have the message."""
        self._answer(tag, multiple, False)

    def _answer(self, tag: int, multiple: bool, good: bool) -> None:
        tags = [one for one in self._waiting if one <= tag] if multiple else [tag]
        for one in tags:
            if answered := self._waiting.pop(one, None):
                answered(good)

    def __len__(self) -> int:
        return len(self._waiting)
