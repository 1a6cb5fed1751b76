"""Which queues a worker serves, with what weight or in what order: ``--queues`` as a value."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from aftercommit.errors import ConfigurationError
from aftercommit.options.queues import LONGEST_NAME, QUEUE_PREFIX, is_stored_name

MOST = 100  # the largest weight: with more, a queue of weight 1 would wait for long
ANY = "*"
WEIGHTED = re.compile(r"(?P<name>.+):(?P<weight>[0-9]+)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A queue, or those that a pattern matches, each of them with this weight."""

    pattern: str
    weight: int = 1
    literal: bool = False  # a star in the name of a queue is a star

    @property
    def is_pattern(self) -> bool:
        """Whether it may match several queues."""
        return ANY in self.pattern and not self.literal


@dataclass(frozen=True, kw_only=True)
class QueueChoice:
    """The queues that a worker serves. A queue belongs to the first part that matches it."""

    parts: tuple[Part, ...]
    strict: bool = False  # the parts are in the order of their urgency

    @classmethod
    def of(cls, names: Iterable[str]) -> Self:
        """Return a choice of queues by their very names."""
        return cls(parts=tuple(Part(pattern=name, literal=True) for name in names))

    @classmethod
    def parsed(cls, texts: Iterable[str], *, strict: bool) -> Self:
        """Read ``mail`` or ``reports*:2``.

        Raises ``ConfigurationError`` for what is no name and no weight, for a part that is
        named twice, and for weights in a strict order.
        """
        parts = tuple(map(_part, texts))
        names = [one.pattern for one in parts]
        if twice := next((one for one in names if names.count(one) > 1), None):
            raise ConfigurationError(f"queues: {twice!r} is named twice; only one would count.")
        if strict and not parts:
            raise ConfigurationError(
                "strict: there is no order without queues. Name them, the most urgent first."
            )
        if strict and any(one.weight != 1 for one in parts):
            raise ConfigurationError(
                "strict: a weight has no meaning in a strict order, where a queue is asked when "
                "those before it have no due job. Leave out the weights, or strict."
            )
        return cls(parts=parts, strict=strict)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The queues, if there is no pattern among them."""
        if any(one.is_pattern for one in self.parts):
            return None
        return tuple(one.pattern for one in self.parts)

    @property
    def is_weighted(self) -> bool:
        """Whether a queue has a weight of its own."""
        return any(one.weight != 1 for one in self.parts)

    def __contains__(self, queue: object) -> bool:
        return isinstance(queue, str) and self.rank(queue) is not None

    def rank(self, queue: str) -> int | None:
        """Return the number of the first part that matches a queue; None if there is none."""
        found = self._pattern.fullmatch(queue)
        return None if found is None else int(found.lastindex or 0) - 1

    def unused(self, queues: Iterable[str]) -> set[str]:
        """Return the parts that match none of these queues."""
        names = list(queues)
        alone = [(one, QueueChoice(parts=(one,))) for one in self.parts]
        return {one.pattern for one, choice in alone if not any(map(choice.__contains__, names))}

    def weight(self, queue: str) -> int:
        """Return the weight of a queue."""
        rank = self.rank(queue)
        return 1 if rank is None else self.parts[rank].weight

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(f"({_regex(one)})" for one in self.parts) or "(?!)", re.DOTALL)


def _part(text: str) -> Part:
    found = WEIGHTED.fullmatch(text)
    name, weight = (found["name"], int(found["weight"])) if found else (text, 1)
    if not is_stored_name(name):
        raise ConfigurationError(
            f"queues: a queue's name has 1 to {LONGEST_NAME} printable characters, got {name!r}."
        )
    if not 1 <= weight <= MOST:
        raise ConfigurationError(
            f"queues: a weight is a whole number from 1 to {MOST}, got {text!r}."
        )
    return Part(pattern=name, weight=weight)


def _regex(part: Part) -> str:
    if not part.is_pattern:
        return re.escape(part.pattern)
    words = [re.escape(word) for word in part.pattern.split(ANY)]
    # As a shell does not match hidden files: messages for brokers must be meant.
    meant = part.pattern.startswith(QUEUE_PREFIX)
    return ("" if meant else f"(?!{re.escape(QUEUE_PREFIX)})") + ".*".join(words)
