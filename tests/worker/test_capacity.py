"""Capacity and quota: how many jobs a process may hold, and how many it may still take."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from aftercommit.worker.claiming.capacity import Capacity
from aftercommit.worker.quota import RunQuota

MANY = 2000
SEVERAL = 8  # threads


TAKER = """
import sys
from aftercommit.worker.quota import RunQuota
quota = RunQuota(int(sys.argv[1]))
print(sum(iter(lambda: quota.take(3), 0)))
"""
DEAD_TAKER = """
import fcntl, os, sys
fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)
os._exit(9)
"""


@pytest.fixture
def quota() -> Iterator[RunQuota]:
    """Return a quota of three runs."""
    with RunQuota.new_file(3) as file:
        yield RunQuota(file.fileno())


def nobody():
    """Wait for nothing."""


def test_capacity_is_free_until_it_is_occupied():
    capacity = Capacity(3)
    assert capacity.free(otherwise=nobody) == 3
    assert capacity.all_free

    capacity.occupy(2)

    assert capacity.free(otherwise=nobody) == 1
    assert not capacity.all_free


def test_who_found_no_capacity_is_told_once_when_there_is_some():
    told = []
    capacity = Capacity(1)
    capacity.occupy(1)

    def tell():
        told.append(capacity.free(otherwise=nobody))

    assert capacity.free(otherwise=tell) == 0
    assert capacity.free(otherwise=tell) == 0
    assert told == []
    capacity.vacate()
    capacity.vacate()

    assert told == [1]


def test_all_who_found_no_capacity_are_told():
    told = []
    capacity = Capacity(1)
    capacity.occupy(1)
    others = [lambda name=name: told.append(name) for name in ("one", "other")]
    for tell in others:
        capacity.free(otherwise=tell)

    capacity.vacate()

    assert told == ["one", "other"]


def test_with_prefetching_there_is_room_for_more_than_the_threads():
    capacity = Capacity(2)
    assert capacity.free(prefetch=10, otherwise=nobody) == 12

    capacity.occupy(3)

    assert capacity.free(prefetch=10, otherwise=nobody) == 9
    assert capacity.free(otherwise=nobody) == 0  # and none that a thread has time for


def test_who_prefetches_is_told_only_when_half_of_that_is_free():
    told = []
    capacity = Capacity(2)
    capacity.occupy(12)

    def tell():
        told.append(capacity.free(prefetch=10, otherwise=nobody))

    capacity.vacate(4)
    assert capacity.free(prefetch=10, otherwise=tell) == 0
    assert told == []
    capacity.vacate()

    assert told == [5]


def test_who_prefetches_nothing_waits_for_a_thread():
    told = []
    capacity = Capacity(2)
    capacity.occupy(12)
    assert capacity.free(otherwise=lambda: told.append(capacity.free(otherwise=nobody))) == 0

    capacity.vacate(10)
    assert told == []
    capacity.vacate()

    assert told == [1]


def test_who_found_capacity_is_not_told():
    told = []
    capacity = Capacity(2)
    capacity.occupy(1)
    capacity.free(otherwise=lambda: told.append("needlessly"))

    capacity.vacate()

    assert told == []


def test_more_jobs_than_threads_are_no_negative_capacity():
    capacity = Capacity(1)
    capacity.occupy(3)  # two databases answered at once
    free = [capacity.free(otherwise=nobody)]

    for _number in range(3):
        capacity.vacate()
        free.append(capacity.free(otherwise=nobody))

    assert free == [0, 0, 0, 1]
    assert capacity.all_free


def test_jobs_of_a_batch_are_parts_of_one_and_leave_room_for_the_rest_of_it():
    capacity = Capacity(1)
    capacity.occupy(3 / 512)
    assert capacity.free(otherwise=nobody) == 1 - 3 / 512

    capacity.occupy(509 / 512)
    assert capacity.free(otherwise=nobody) == 0

    capacity.vacate(512 / 512)
    assert capacity.all_free


def test_who_found_no_capacity_is_told_when_a_part_is_free():
    told = []
    capacity = Capacity(1)
    capacity.occupy(1)
    assert capacity.free(otherwise=lambda: told.append(capacity.free(otherwise=nobody))) == 0

    capacity.vacate(1 / 512)

    assert told == [1 / 512]


def test_without_a_limit_the_quota_is_never_used_up():
    quota = RunQuota(None)

    assert quota.take(MANY) == MANY
    quota.give(1)
    assert not quota.used_up


def test_a_quota_is_used_up(quota):
    taken = [quota.take(2), quota.take(2), quota.take(2)]

    assert taken == [2, 1, 0]
    assert quota.used_up


def test_what_was_given_back_to_the_quota_can_be_taken(quota):
    quota.take(3)

    quota.give(2)

    assert not quota.used_up
    assert quota.take(9) == 2


def test_many_takers_take_no_more_than_there_is():
    with RunQuota.new_file(MANY) as file, ThreadPoolExecutor(SEVERAL) as threads:
        quota = RunQuota(file.fileno())
        taken = list(threads.map(quota.take, [3] * MANY))

        assert sum(taken) == MANY
        assert quota.used_up


def test_many_processes_take_no_more_than_there_is():
    with RunQuota.new_file(MANY) as file:
        takers = [
            subprocess.Popen(
                [sys.executable, "-c", TAKER, str(file.fileno())],
                pass_fds=[file.fileno()],
                stdout=subprocess.PIPE,
            )
            for _number in range(3)
        ]
        taken = [int(taker.communicate()[0]) for taker in takers]

        assert sum(taken) == MANY
        assert RunQuota(file.fileno()).used_up


def test_a_taker_that_dies_keeps_nobody_waiting():
    with RunQuota.new_file(3) as file:
        dead = [sys.executable, "-c", DEAD_TAKER, str(file.fileno())]
        subprocess.run(dead, pass_fds=[file.fileno()], check=False)

        assert RunQuota(file.fileno()).take(9) == 3
