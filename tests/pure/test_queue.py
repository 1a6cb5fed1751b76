"""What a thread does next: short runs together, all others one by one, as they came."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from aftercommit.worker.facts import Batch
from aftercommit.worker.in_flight import MOST
from aftercommit.worker.running import queue as run_queue
from aftercommit.worker.running.queue import RunQueue

THREADS = 2


@dataclass
class Group:
    """Stands for ``SharedTransactions``: knows which runs are short."""

    short: set = field(default_factory=set)
    smaller: dict = field(default_factory=dict)  # the company of those that have failed before

    def accepts(self, run):
        return run.name in self.short

    def most(self, run):
        if run.facts.batch is None:
            return None
        return self.smaller.get(run.name, run.facts.batch.size)


@dataclass(eq=False)
class Facts:
    """What is known of the task of a run."""

    group: Group | None
    batch: Batch | None = None


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
    held_since: float = 0.0


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


def test_messages_in_order_and_others_are_not_published_together(waiting):
    task = facts(range(10), size=MOST)
    queues = ["relay.rq"] + ["relay.rq.in_order"] * 8 + ["relay.rq"]
    waiting.add([Run(name, task, Claim(queue)) for name, queue in enumerate(queues)])

    assert [names(waiting.take()) for _ in range(2)] == [[0, 9], list(range(1, 9))]


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


# ---- batches ---------------------------------------------------------------------------


def facts(names, *, size=3, wait=None, **company):
    """Return what is known of a task with ``batch_size`` and jobs of these names."""
    return Facts(Group(set(names), company), Batch.of(size, wait))


def of(facts, names):
    return [Run(name, facts) for name in names]


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose only element is the present moment."""
    moment = [0.0]
    monkeypatch.setattr(run_queue, "now", lambda: moment[0])
    return moment


def test_a_batch_is_of_one_task_wherever_its_runs_are(waiting):
    one, other = facts("ace"), facts("bdf")
    waiting.add(
        [run for two in zip(of(one, "ace"), of(other, "bdf"), strict=True) for run in two]
    )
    waiting.add(runs("x"))

    assert [names(waiting.take()) for _ in range(4)] == [list("ace"), list("bdf"), ["x"], []]


def test_a_batch_is_full_before_another_thread_gets_any(waiting):
    waiting.add(of(facts("abcdefg", size=5), "abcdefg"))

    assert [names(waiting.take()) for _ in range(3)] == [list("abcde"), list("fg"), []]


def test_no_run_is_looked_at_for_a_batch_that_is_full(waiting, monkeypatch):
    task, asked = facts("abcdefg", size=2), []
    monkeypatch.setattr(task.group, "accepts", lambda run: asked.append(run.name) or True)
    waiting.add(of(task, "abcdefg"))

    assert names(waiting.take()) == ["a", "b"]
    assert asked == ["a", "b"]


def test_the_smallest_company_decides(waiting):
    waiting.add(of(facts("abcde", size=5, a=2), "abcde"))
    assert names(waiting.take()) == ["a", "b"]
    assert names(waiting.take()) == ["c", "d", "e"]

    waiting.add(of(facts("abcde", size=5, c=2), "abcde"))
    assert names(waiting.take()) == ["a", "b", "d", "e"]  # without the one that is to have less
    assert names(waiting.take()) == ["c"]


def test_a_batch_waits_until_it_is_full(waiting, clock):
    task = facts("abcd", wait=timedelta(seconds=1))
    waiting.add(of(task, "ab"))
    assert waiting.take() == []
    assert waiting.pause == 1.0

    waiting.add(of(task, "cd"))

    assert names(waiting.take()) == ["a", "b", "c"]
    assert waiting.take() == []


def test_a_batch_waits_no_longer_than_its_task_says(waiting, clock):
    task = facts("ab", wait=timedelta(seconds=1))
    waiting.add(of(task, "a"))
    clock[0] = 0.75
    assert (waiting.take(), waiting.pause) == ([], 0.25)

    clock[0] = 1.0

    assert names(waiting.take()) == ["a"]
    assert waiting.pause is None


def test_a_batch_that_waits_holds_nobody_up(waiting, clock):
    waiting.add([*of(facts("ab", wait=timedelta(seconds=1)), "ab"), *runs("x")])

    assert names(waiting.take()) == ["x"]
    assert waiting.oldest is None  # for its own time it does not wait for a thread
    assert waiting.take() == []


def test_the_wait_for_a_thread_begins_when_that_for_the_batch_ends(waiting, clock):
    waiting.add(of(facts("a", wait=timedelta(seconds=1)), "a"))
    clock[0] = 5.0
    waiting.add(runs("x"))
    taken = waiting.take()
    left = waiting.oldest

    assert (names(taken), left.name, left.held_since) == (["x"], "a", 5.0)


def test_one_that_must_be_alone_waits_for_nobody(waiting, clock):
    task = facts("a", wait=timedelta(seconds=1))  # "b" is not accepted
    waiting.add(of(task, "ba"))

    assert names(waiting.take()) == ["b"]
    assert waiting.take() == []


def test_what_waits_for_its_batch_can_be_taken_away_as_well(waiting, clock):
    waiting.add([*of(facts("a", wait=timedelta(seconds=1)), "a"), *runs("x")])

    assert names(waiting.clear(filling=False)) == ["x"]
    assert names(waiting.clear()) == ["a"]
    assert waiting.pause is None


@pytest.mark.parametrize(
    ("size", "weight"), [(1, 1), (2, 1 / 2), (3, 1 / 4), (500, 1 / 512), (1000, 1 / 1024)]
)
def test_the_jobs_of_a_batch_weigh_no_more_than_one(size, weight):
    assert Batch.of(size, None).weight == weight
    assert size * weight <= 1
