"""How often each queue comes first in a fetch, by its weight."""

from collections.abc import Sequence

from aftercommit.options.choice import QueueChoice


class Shares:
    """A queue of weight 3 comes first three times while one of weight 1 does so once.

    Who comes first may fill the whole fetch; the others get what it leaves. So while all have
    more due jobs than a worker can run, their jobs are run in proportion to the weights.
    """

    def __init__(self, choice: QueueChoice) -> None:
        self._choice = choice
        self._credit: dict[str, int] = {}

    def order(self, queues: Sequence[str]) -> Sequence[str]:
        """Return the queues, the one whose turn it is first.

        Each gains its weight at each turn, and the first pays for all: turns of a heavy queue
        are spread, and one that comes anew has no old claims.
        """
        weights = {queue: self._choice.weight(queue) for queue in queues}
        self._credit = {one: self._credit.get(one, 0) + weights[one] for one in queues}
        ordered = sorted(queues, key=self._credit.__getitem__, reverse=True)
        if ordered:
            self._credit[ordered[0]] -= sum(weights.values())
        return ordered
