"""Ids: unique, in order, and of the form that databases like."""

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122, UUID

import pytest

from aftercommit.ids import new_job_id, new_job_ids

MILLISECOND = 1_000_000  # nanoseconds


@pytest.fixture
def clock(monkeypatch):
    """Let the test say what time it is, in nanoseconds."""

    def set_clock(nanoseconds):
        monkeypatch.setattr(time, "time_ns", lambda: nanoseconds)

    return set_clock


def test_an_id_is_a_uuid_of_version_7():
    ids = [new_job_id() for _ in range(500)]

    assert {one.version for one in ids} == {7}
    assert {one.variant for one in ids} == {RFC_4122}
    assert len(set(ids)) == 500


def test_an_id_begins_with_the_milliseconds_of_its_making(clock):
    # The example of RFC 9562, appendix A.6: 2022-02-22 14:22:22 at UTC-5.
    clock(0x017F22E279B0 * MILLISECOND)

    assert str(new_job_id()).startswith("017f22e2-79b0-7")


def test_later_ids_sort_later_as_values_and_as_text(clock):
    ids = []
    for milliseconds in (0, 1, 255, 256, 2**32, 2**47, 2**48 - 1):
        clock(milliseconds * MILLISECOND)
        ids.append(new_job_id())

    assert sorted(ids) == ids
    assert sorted(map(str, ids)) == [str(one) for one in ids]


def test_every_random_bit_is_used(clock):
    clock(0)

    ids = [new_job_id().int for _ in range(500)]

    ever, always = 0, (1 << 128) - 1
    for one in ids:
        ever, always = ever | one, always & one
    assert (ever & ~always) % (1 << 62) == (1 << 62) - 1


def test_ids_made_at_the_same_moment_sort_as_they_were_made(clock):
    clock(1_700_000_000_000 * MILLISECOND)

    ids = [new_job_id() for _ in range(10_000)]

    assert sorted(ids) == ids


def test_a_clock_that_is_set_back_a_little_does_not_turn_the_order_round(clock):
    clock(1_700_000_000_500 * MILLISECOND)
    before = new_job_id()
    clock(1_700_000_000_100 * MILLISECOND)

    assert new_job_id() > before


def test_threads_make_no_id_twice_and_each_makes_its_own_in_order():
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: [new_job_id() for _ in range(2_000)], range(4)))

    assert all(sorted(ids) == ids for ids in made)
    moments = {one.int >> 64 for ids in made for one in ids}
    assert len(moments) == 8_000


def test_many_made_at_once_are_as_those_made_one_by_one(clock):
    clock(1_700_000_000_000 * MILLISECOND)
    first = new_job_id()

    texts = new_job_ids(5_000)
    ids = [UUID(text) for text in texts]

    assert texts == [str(one) for one in ids]
    assert {one.version for one in ids} == {7}
    assert {one.variant for one in ids} == {RFC_4122}
    made = [first, *ids, new_job_id()]
    assert sorted(set(made)) == made
    assert new_job_ids(0) == []
