"""What a thread does next: short runs together, all others one by one, as they came."""

from dataclasses import dataclass, field

import pytest

from aftercommit.worker.in_flight import MOST
from aftercommit.worker.running.queue import RunQueue

THREADS = 2


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


@dataclass(frozen=True)
class Claim:
    """What is known of the job of a run."""

    queue: str = "default"


@dataclass(eq=False)
class Run:
    """A run by its name."""

    name: object
    facts: Facts
    claim: Claim = Claim()


def runs(names, group=None):
    return [Run(name, Facts(group)) for name in names]


def short(names):
    return runs(names, Group(set(names)))


@pytest.fixture
def waiting():
    return RunQueue(threads=THREADS)


def names(runs):
    return [run.name for run in runs]


def test_runs_are_handed_out_one_by_one_as_they_came(waiting):
    waiting.add(runs("abc"))

    assert [names(waiting.take()) for _ in range(4)] == [["a"], ["b"], ["c"], []]


def test_short_ones_are_taken_together_a_share_for_each_thread(waiting):
    waiting.add(short("abcdef"))

    assert names(waiting.take()) == list("abcd")  # one, and half of the six
    assert names(waiting.take()) == list("ef")


def test_one_thread_takes_all_that_have_to_be_in_order(waiting):
    """And none with them that another thread can do."""
    group = Group(set(range(10)))
    queues = ["relay.rq"] + ["relay.rq.in_order"] * 8 + ["relay.rq"]
    waiting.add([Run(name, Facts(group), Claim(queue)) for name, queue in enumerate(queues)])

    assert [names(waiting.take()) for _ in range(3)] == [[0], list(range(1, 9)), [9]]


def test_one_thread_takes_all_of_them():
    waiting = RunQueue(threads=1)
    waiting.add(short("abcdef"))

    assert names(waiting.take()) == list("abcdef")


def test_no_more_than_so_many_are_taken_together(waiting):
    waiting.add(short(range(10 * MOST)))

    assert len(waiting.take()) == MOST


def test_those_of_another_group_and_long_ones_are_not_taken_with_them(waiting):
    waiting.add(short("ab") + runs("c", Group()) + short("de"))

    assert names(waiting.take()) == ["a", "b"]
    assert names(waiting.take()) == ["c"]
    assert names(waiting.take()) == ["d", "e"]


def test_one_that_may_join_no_longer_is_done_by_itself(waiting):
    group = Group({"a", "b"})
    waiting.add(runs("ab", group))
    group.short.discard("b")

    assert names(waiting.take()) == ["a"]
    assert names(waiting.take()) == ["b"]


def test_what_is_put_back_comes_first_and_in_order(waiting):
    waiting.add(short("abcdefgh"))
    taken = waiting.take()
    waiting.put_back(taken[2:])

    assert waiting.oldest.name == "c"
    assert names(waiting.take()) == list("cdef")


def test_all_of_it_can_be_taken_away_the_oldest_first(waiting):
    waiting.add(short("ab"))
    waiting.add(runs("c"))

    assert names(waiting.clear()) == ["a", "b", "c"]
    assert waiting.oldest is None
    assert len(waiting) == 0
