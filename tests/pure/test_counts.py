"""Counts of a worker: they add up, go on part by part, and have bounded names."""

import json

import pytest

from aftercommit.tallies import OTHER, Key, Tally
from aftercommit.windows.metrics.names import OF_DATABASE, OF_WORKER
from aftercommit.worker import counts as module
from aftercommit.worker.counts import Counts, Place


def tally(jobs, wait=0.5, run=2.0):
    made = Tally(jobs)
    made.waits.add(wait)
    made.runs.add(run)
    return made


def key(task, queue="q", outcome="succeeded"):
    return Key(task, queue, outcome)


def filled(number):
    counts = Counts()
    counts.add("default", [(key(f"t{one}"), tally(1)) for one in range(number)])
    return counts


def test_what_is_handed_on_adds_up_at_the_other_end():
    source, sink = Counts(), Counts()
    for _time in range(2):
        source.add("default", [(key("a"), tally(3))])
        source.hand_on(lambda rows: sink.add_rows(json.loads(json.dumps(rows))) is None)

    (sums,) = sink.sums().values()
    assert (sums.jobs, sum(sums.waits.buckets), sums.runs.seconds) == (6, 2, 4.0)
    assert source.sums() == {}


def test_what_is_refused_is_handed_on_later_with_what_has_come_since():
    source, sink, parts = filled(50), Counts(), []

    def one_part_only(rows):
        parts.append(len(rows))
        return len(parts) == 1 and sink.add_rows(rows) is None

    source.hand_on(one_part_only)
    assert parts == [module.ONE_PART, module.ONE_PART]
    source.add("default", [(key("t49"), tally(1))])
    source.hand_on(lambda rows: sink.add_rows(rows) is None)

    jobs = {place.key.task_path: one.jobs for place, one in sink.sums().items()}
    assert jobs == {**{f"t{one}": 1 for one in range(49)}, "t49": 2}


def test_tasks_and_queues_beyond_a_number_are_one_together(monkeypatch):
    monkeypatch.setattr(module, "MOST_TASKS", 2)
    monkeypatch.setattr(module, "MOST_QUEUES", 1)
    counts = filled(4)
    counts.add("other", [(key("t9"), tally(1))])  # each database has its own names
    counts.add("default", [(key("t0", queue="r"), tally(1)), (key("", "q", "claimed"), Tally(5))])

    assert {place: one.jobs for place, one in counts.sums().items()} == {
        Place("default", key("t0")): 1,
        Place("default", key("t1")): 1,
        Place("default", key(OTHER)): 2,
        Place("other", key("t9")): 1,
        Place("default", key("t0", queue=OTHER)): 1,
        Place("default", key("", "q", "claimed")): 5,
    }


@pytest.mark.parametrize("row", [[], ["default", "t", "q", "succeeded", 1, [1], 0, [1], 0], None])
def test_what_is_no_row_counts_nothing(row):
    counts, good = Counts(), []
    filled(1).hand_on(lambda rows: good.extend(rows) is None)

    with pytest.raises((TypeError, ValueError)):
        counts.add_rows([*good, row])

    assert counts.sums() == {}


def test_no_name_of_a_port_is_one_of_the_page():
    assert not {one.name for one in OF_DATABASE} & {one.name for one in OF_WORKER}
