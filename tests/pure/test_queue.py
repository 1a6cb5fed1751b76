"""Who may do what next: short orders in few threads, all others as they came."""

from dataclasses import dataclass, field

import pytest

from aftercommit.worker.in_flight import MOST
from aftercommit.worker.running import queue as module
from aftercommit.worker.running.queue import LANES, Order, RunQueue


@dataclass
class Sharing:
    """Stands for ``SharedTransactions``: knows which runs are short."""

    short: set = field(default_factory=set)

    def accepts(self, run):
        return run in self.short


def orders(names, sharing=None):
    return [Order(name, None, None, sharing) for name in names]


def short(names):
    return orders(names, Sharing(set(names)))


@pytest.fixture
def backlog():
    return RunQueue()


def names(turn):
    return None if turn is None else [order.run for order in turn.orders]


def test_orders_are_handed_out_one_by_one_as_they_came(backlog):
    backlog.add(orders("abc"))

    assert [names(backlog.take()) for _ in range(4)] == [["a"], ["b"], ["c"], None]


def test_short_ones_are_taken_together_a_share_for_each_lane(backlog):
    backlog.add(short("abcdef"))

    assert names(backlog.take()) == list("abcd")  # one, and half of the others


def test_one_thread_takes_all_of_them():
    backlog = RunQueue(lanes=1)
    backlog.add(short("abcdef"))

    assert names(backlog.take()) == list("abcdef")


def test_no_more_than_so_many_are_taken_together(backlog):
    backlog.add(short(range(10 * MOST)))

    assert len(backlog.take().orders) == MOST


def test_those_of_another_alias_and_long_ones_are_not_taken_with_them(backlog):
    mixed = short("ab") + orders("c", Sharing()) + short("de")

    backlog.add(mixed)

    assert names(backlog.take()) == ["a", "b"]
    assert names(backlog.take()) == ["c"]
    assert names(backlog.take()) == ["d", "e"]


def fill_the_lanes(backlog):
    for _ in range(LANES):
        backlog.add(short("x"))
    return [backlog.take() for _ in range(LANES)]


def test_with_all_lanes_taken_the_others_do_what_is_not_short(backlog):
    lanes = fill_the_lanes(backlog)
    backlog.add([*short("ab"), *orders("c")])

    assert names(backlog.take()) == ["c"]
    assert backlog.take() is None
    assert len(backlog) == 2
    backlog.over(lanes[0])
    backlog.add(orders("d"))
    assert names(backlog.take()) == ["a", "b"]  # they have waited for longest
    assert names(backlog.take()) == ["d"]


def test_a_lane_that_takes_long_is_not_waited_for(backlog, monkeypatch):
    monkeypatch.setattr(module, "now", lambda: 0.0)
    fill_the_lanes(backlog)
    backlog.add(short("a"))
    assert backlog.take() is None

    monkeypatch.setattr(module, "now", lambda: module.OVERDUE.total_seconds() + 0.01)

    assert names(backlog.take()) == ["a"]


def test_one_that_may_join_no_longer_is_done_by_itself(backlog):
    lanes = fill_the_lanes(backlog)
    sharing = Sharing({"a", "b"})
    backlog.add(orders("ab", sharing))
    assert backlog.take() is None
    sharing.short.clear()
    backlog.over(lanes[0])

    assert names(backlog.take()) == ["a"]


def test_what_is_put_back_comes_first_and_in_order(backlog):
    backlog.add(short("abcdefgh"))
    turn = backlog.take()
    backlog.put_back(turn.orders[2:])
    backlog.over(turn)

    assert backlog.oldest.run == "c"
    assert names(backlog.take()) == list("cdef")


def test_all_of_it_can_be_taken_away_the_oldest_first(backlog):
    fill_the_lanes(backlog)
    backlog.add(short("ab"))
    assert backlog.take() is None
    backlog.add(orders("c"))

    assert [order.run for order in backlog.clear()] == ["a", "b", "c"]
    assert backlog.oldest is None
    assert len(backlog) == 0
