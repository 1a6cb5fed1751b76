"""What waits for a thread of the pool, and which of it is done together."""

from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol

from aftercommit.values import Ran
from aftercommit.worker.board import MOST
from aftercommit.worker.executor import Executor
from aftercommit.worker.runs import AtWork, Run, now

# So many are enough to keep the interpreter busy while the database writes. More threads
# would only wait for the interpreter, with rows locked.
LANES = 2
OVERDUE = timedelta(milliseconds=100)  # after which a lane is no longer waited for


class Together(Protocol):
    """Does several runs in one go: in one transaction, or in one call."""

    def may_join(self, run: Run) -> bool:
        """Tell whether a run may be one of several."""

    def run(self, runs: Sequence[Run], at_work: AtWork) -> list[tuple[Run, Ran]]:
        """Run the first of ``runs``, as many as there is time for, one at least; never raises.

        ``at_work`` surrounds what is done for certain runs.
        """


class Order(NamedTuple):
    """A run, who is to run it, and who is to know how it ended, after how many seconds."""

    run: Run
    executor: Executor
    ended: Callable[[Run, Ran, float], None]
    together: Together | None = None  # None: it is always done by itself

    @property
    def may_join(self) -> bool:
        """Whether it may be done with others."""
        return self.together is not None and self.together.may_join(self.run)


class Turn:
    """What a thread does next: one order, or several that go together."""

    def __init__(self, orders: list[Order], *, in_lane: bool) -> None:
        self.orders = orders
        self.in_lane = in_lane
        self.began = now()


class Backlog:
    """Hands out orders as they came, but those that go together to ``lanes`` threads at a time.

    The caller sees to it that one thread at a time is in here.
    """

    def __init__(self, *, lanes: int = LANES) -> None:
        self.lanes = lanes
        self._orders: deque[Order] = deque()
        self._joining: deque[Order] = deque()  # found in front of a thread, with no lane free
        self._lanes: list[Turn] = []

    def __len__(self) -> int:
        return len(self._orders) + len(self._joining)

    def add(self, orders: Sequence[Order]) -> None:
        """Put orders behind all others."""
        self._orders.extend(orders)

    def put_back(self, orders: Sequence[Order]) -> None:
        """Put the end of a turn, for which there was no time, in front of all others."""
        self._joining.extendleft(reversed(orders))

    def clear(self) -> list[Order]:
        """Take all of it away."""
        taken = [*self._joining, *self._orders]
        self._joining.clear()
        self._orders.clear()
        return taken

    @property
    def oldest(self) -> Order | None:
        """The one that has waited for longest."""
        waiting = self._joining or self._orders
        return waiting[0] if waiting else None

    def take(self) -> Turn | None:
        """Return what a thread may do now."""
        if self._joining and self._lane_is_free:
            return self._together()
        while self._orders:
            if not self._orders[0].may_join:
                return Turn([self._orders.popleft()], in_lane=False)
            if self._lane_is_free:
                return self._together()
            self._joining.append(self._orders.popleft())
        return None

    def over(self, turn: Turn) -> None:
        """Note that a turn has ended."""
        if turn.in_lane:
            self._lanes.remove(turn)

    @property
    def _lane_is_free(self) -> bool:
        if len(self._lanes) < self.lanes:
            return True
        since = now() - OVERDUE.total_seconds()
        return sum(turn.began > since for turn in self._lanes) < self.lanes

    def _together(self) -> Turn:
        """Begin a turn with the first ones, a lane's share of them."""
        most = min(MOST, 1 + len(self) // self.lanes)
        taken: list[Order] = []
        for waiting in (self._joining, self._orders):  # these have come later
            while waiting and len(taken) < most and self._fits(waiting[0], taken):
                taken.append(waiting.popleft())
        turn = Turn(taken, in_lane=True)
        self._lanes.append(turn)
        return turn

    def _fits(self, order: Order, taken: list[Order]) -> bool:
        return not taken or (order.together is taken[0].together and order.may_join)
