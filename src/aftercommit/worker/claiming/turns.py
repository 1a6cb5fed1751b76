"""In which order a fetch asks the queues with due jobs."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice

from aftercommit.options.choice import QueueChoice
from aftercommit.values import Group
from aftercommit.worker.claiming.shares import Shares

MOST_IN_VAIN = 20  # queues in one fetch, from which the last claim got nothing
MOST_COUNTED = 10_000  # queues of which a choice remembers its turns
MOST_AHEAD = 5  # of these queues, after each look: one in a fetch goes before all others


def groups_in_turn(found: Sequence[Group], number: int) -> list[tuple[str, int]]:
    """Return the groups of a queue: by priority, and by backend in turn."""
    backends = sorted({group.backend for group in found})

    def place(group: Group) -> tuple[int, int]:
        turn = backends.index(group.backend) + number
        return -group.priority, turn % len(backends)

    return [(one.backend, one.priority) for one in sorted(found, key=place)]


class TurnsOfQueues:
    """Numbers the turns of one choice, for each queue by itself.

    Two choices that took turns by the same number would always coincide, and of four
    combinations two would never come.
    """

    def __init__(self) -> None:
        self._next: Counter[str] = Counter()

    def next(self, queue: str) -> int:
        """Return the number of this turn: 0, 1, 2 and so on."""
        if len(self._next) > MOST_COUNTED:
            self._next.clear()
        self._next[queue] += 1
        return self._next[queue] - 1


class Turns:
    """Begins with another queue in each fetch, so that no queue starves another.

    All due jobs of a queue may be of tasks that this process does not have, or locked, and there
    may be a thousand such queues. So of the queues where the last claim got nothing, a few are
    asked, the longest unasked first, and behind the others. These may have so many jobs that a
    fetch never gets behind them, while the locks are gone or new jobs have arrived: after each
    look for due jobs, some go ahead.
    """

    def __init__(
        self, *, may_ask: Callable[[str], bool], choice: QueueChoice | None = None
    ) -> None:
        self._may_ask = may_ask
        self._choice = choice
        self._shares = Shares(choice) if choice is not None and choice.is_weighted else None
        self.number = 0  # of fetches
        self._in_vain: dict[str, None] = {}  # queues with due jobs; the last claim got none
        self._ahead = 0  # how many of these may go ahead until the next look

    def begin(self) -> None:
        """Note that a new fetch begins."""
        self.number += 1

    def looked(self, due: Collection[str]) -> None:
        """Note the queues with due jobs. The next due job of another is claimed at once."""
        self._in_vain = {queue: None for queue in self._in_vain if queue in due}
        self._ahead = min(len(self._in_vain), MOST_AHEAD)

    def asked(self, queue: str, *, in_vain: bool) -> None:
        """Note the answer to a claim."""
        self._in_vain.pop(queue, None)
        if in_vain:
            self._in_vain[queue] = None  # at the end

    def order(self, queues: Sequence[str]) -> Iterator[str]:
        """Yield the queues to claim from; whether one may be asked is determined at its turn."""
        if self._choice is None or not self._choice.strict:
            yield from self._in_turn(queues)
            return
        ranks: dict[int, list[str]] = {}
        for queue in queues:
            rank = self._choice.rank(queue)
            ranks.setdefault(len(self._choice.parts) if rank is None else rank, []).append(queue)
        for rank in sorted(ranks):
            yield from self._in_turn(ranks[rank])

    def _in_turn(self, queues: Sequence[str]) -> Iterator[str]:
        others = [queue for queue in queues if queue not in self._in_vain]
        present = set(queues)
        in_vain = [queue for queue in self._in_vain if queue in present]
        few = islice(filter(self._may_ask, in_vain), MOST_IN_VAIN)
        if self._ahead:
            for queue in self._put_off(islice(few, 1)):
                self._ahead -= 1
                yield queue
        yield from filter(self._may_ask, self._beginning_with_another(others))
        yield from self._put_off(few)

    def _beginning_with_another(self, queues: Sequence[str]) -> Sequence[str]:
        if self._shares is not None:
            return self._shares.order([queue for queue in queues if self._may_ask(queue)])
        first = self.number % max(len(queues), 1)
        return [*queues[first:], *queues[:first]]

    def _put_off(self, queues: Iterable[str]) -> Iterator[str]:
        """Yield queues, each moved to the end first: its claim may raise an error each time."""
        for queue in queues:
            self.asked(queue, in_vain=True)
            yield queue
