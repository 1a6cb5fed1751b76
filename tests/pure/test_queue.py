"""What a thread does next: short runs together in few threads, all others as they came."""

from dataclasses import dataclass, field

import pytest

from aftercommit.worker.in_flight import MOST
from aftercommit.worker.running import queue as module
from aftercommit.worker.running.queue import LANES, RunQueue


@dataclass
class Group:
    """Stands for ``SharedTransactions``: knows which runs are short."""

    short: set = field(default_factory=set)

    def accepts(self, run):
        return run.name in self.short


@dataclass
class Facts:
    """What is known of the task of a run."""

    group: Group | None


@dataclass(eq=False)
class Run:
    """A run by its name."""

    name: object
    facts: Facts
    in_lane: bool = False


def runs(names, group=None):
    return [Run(name, Facts(group)) for name in names]


def short(names):
    return runs(names, Group(set(names)))


@pytest.fixture
def waiting():
    return RunQueue()


def names(assignment):
    return None if assignment is None else [run.name for run in assignment.runs]


def test_runs_are_handed_out_one_by_one_as_they_came(waiting):
    waiting.add(runs("abc"))

    assert [names(waiting.take()) for _ in range(4)] == [["a"], ["b"], ["c"], None]


def test_short_ones_are_taken_together_a_share_for_each_lane(waiting):
    waiting.add(short("abcdef"))

    assert names(waiting.take()) == list("abcd")  # one, and half of the others


def test_one_thread_takes_all_of_them():
    waiting = RunQueue(lanes=1)
    waiting.add(short("abcdef"))

    assert names(waiting.take()) == list("abcdef")


def test_no_more_than_so_many_are_taken_together(waiting):
    waiting.add(short(range(10 * MOST)))

    assert len(waiting.take().runs) == MOST


def test_those_of_another_group_and_long_ones_are_not_taken_with_them(waiting):
    mixed = short("ab") + runs("c", Group()) + short("de")

    waiting.add(mixed)

    assert names(waiting.take()) == ["a", "b"]
    assert names(waiting.take()) == ["c"]
    assert names(waiting.take()) == ["d", "e"]


def test_a_run_knows_whether_it_is_in_a_lane(waiting):
    """There few bodies run at once, so what they take can be believed."""
    waiting.add([*short("ab"), *runs("c")])
    in_lane, alone = waiting.take(), waiting.take()

    assert [run.in_lane for run in in_lane.runs] == [True, True]
    assert [run.in_lane for run in alone.runs] == [False]


def fill_the_lanes(waiting):
    for _ in range(LANES):
        waiting.add(short("x"))
    return [waiting.take() for _ in range(LANES)]


def test_with_all_lanes_taken_the_others_do_what_is_not_short(waiting):
    lanes = fill_the_lanes(waiting)
    waiting.add([*short("ab"), *runs("c")])

    assert names(waiting.take()) == ["c"]
    assert waiting.take() is None
    assert len(waiting) == 2
    waiting.over(lanes[0])
    waiting.add(runs("d"))
    assert names(waiting.take()) == ["a", "b"]  # they have waited for longest
    assert names(waiting.take()) == ["d"]


def test_a_lane_that_takes_long_is_not_waited_for(waiting, monkeypatch):
    monkeypatch.setattr(module, "now", lambda: 0.0)
    fill_the_lanes(waiting)
    waiting.add(short("a"))
    assert waiting.take() is None

    monkeypatch.setattr(module, "now", lambda: module.OVERDUE.total_seconds() + 0.01)

    assert names(waiting.take()) == ["a"]


def test_one_that_may_join_no_longer_is_done_by_itself(waiting):
    lanes = fill_the_lanes(waiting)
    group = Group({"a", "b"})
    waiting.add(runs("ab", group))
    assert waiting.take() is None
    group.short.clear()
    waiting.over(lanes[0])

    assert names(waiting.take()) == ["a"]


def test_what_is_put_back_comes_first_and_in_order(waiting):
    waiting.add(short("abcdefgh"))
    assignment = waiting.take()
    waiting.put_back(assignment.runs[2:])
    waiting.over(assignment)

    assert waiting.oldest.name == "c"
    assert names(waiting.take()) == list("cdef")


def test_all_of_it_can_be_taken_away_the_oldest_first(waiting):
    fill_the_lanes(waiting)
    waiting.add(short("ab"))
    assert waiting.take() is None
    waiting.add(runs("c"))

    assert [run.name for run in waiting.clear()] == ["a", "b", "c"]
    assert waiting.oldest is None
    assert len(waiting) == 0
