"""Capacity and tickets: how many jobs a process may hold, and how many it may still take."""

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
from aftercommit.worker.slots import RunQuota
tickets = RunQuota(int(sys.argv[1]))
print(sum(iter(lambda: tickets.take(3), 0)))
"""
DEAD_TAKER = """
import fcntl, os, sys
fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)
os._exit(9)
"""


@pytest.fixture
def tickets() -> Iterator[RunQuota]:
    """Return three tickets."""
    with RunQuota.new_file(3) as file:
        yield RunQuota(file.fileno())


def nobody():
    """Wait for nothing."""


def test_slots_are_free_until_they_are_occupied():
    slots = Capacity(3)
    assert slots.free(otherwise=nobody) == 3
    assert slots.all_free

    slots.occupy(2)

    assert slots.free(otherwise=nobody) == 1
    assert not slots.all_free


def test_who_found_no_slot_is_told_once_when_there_is_one():
    told = []
    slots = Capacity(1)
    slots.occupy(1)

    def tell():
        told.append(slots.free(otherwise=nobody))

    assert slots.free(otherwise=tell) == 0
    assert slots.free(otherwise=tell) == 0
    assert told == []
    slots.vacate()
    slots.vacate()

    assert told == [1]


def test_all_who_found_no_slot_are_told():
    told = []
    slots = Capacity(1)
    slots.occupy(1)
    others = [lambda name=name: told.append(name) for name in ("one", "other")]
    for tell in others:
        slots.free(otherwise=tell)

    slots.vacate()

    assert told == ["one", "other"]


def test_with_jobs_ahead_there_is_room_for_more_than_the_threads():
    slots = Capacity(2)
    assert slots.free(ahead=10, otherwise=nobody) == 12

    slots.occupy(3)

    assert slots.free(ahead=10, otherwise=nobody) == 9
    assert slots.open == -1


def test_who_claims_ahead_is_told_only_when_half_of_that_is_free():
    told = []
    slots = Capacity(2)
    slots.occupy(12)

    def tell():
        told.append(slots.free(ahead=10, otherwise=nobody))

    slots.vacate(4)
    assert slots.free(ahead=10, otherwise=tell) == 0
    assert told == []
    slots.vacate()

    assert told == [5]


def test_who_claims_nothing_ahead_waits_for_a_thread():
    told = []
    slots = Capacity(2)
    slots.occupy(12)
    assert slots.free(otherwise=lambda: told.append(slots.free(otherwise=nobody))) == 0

    slots.vacate(10)
    assert told == []
    slots.vacate()

    assert told == [1]


def test_who_found_a_slot_is_not_told():
    told = []
    slots = Capacity(2)
    slots.occupy(1)
    slots.free(otherwise=lambda: told.append("needlessly"))

    slots.vacate()

    assert told == []


def test_more_jobs_than_slots_are_no_negative_number_of_slots():
    slots = Capacity(1)
    slots.occupy(3)  # two databases answered at once
    free = [slots.free(otherwise=nobody)]

    for _number in range(3):
        slots.vacate()
        free.append(slots.free(otherwise=nobody))

    assert free == [0, 0, 0, 1]
    assert slots.all_free


def test_without_a_limit_there_are_always_tickets():
    tickets = RunQuota(None)

    assert tickets.take(MANY) == MANY
    tickets.give(1)
    assert not tickets.used_up


def test_tickets_are_used_up(tickets):
    taken = [tickets.take(2), tickets.take(2), tickets.take(2)]

    assert taken == [2, 1, 0]
    assert tickets.used_up


def test_tickets_that_were_given_back_can_be_taken(tickets):
    tickets.take(3)

    tickets.give(2)

    assert not tickets.used_up
    assert tickets.take(9) == 2


def test_many_takers_take_no_more_than_there_is():
    with RunQuota.new_file(MANY) as file, ThreadPoolExecutor(SEVERAL) as threads:
        tickets = RunQuota(file.fileno())
        taken = list(threads.map(tickets.take, [3] * MANY))

        assert sum(taken) == MANY
        assert tickets.used_up


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
