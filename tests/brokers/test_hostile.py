"""A row of the table is data: no byte of it is unpickled, imported or evaluated in the relay."""

import pytest

from tests.apart import seen_by

LIBRARIES = ("celery", "django_q", "dramatiq", "huey", "rq", "tasks")


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Return what a tripwire has noticed while hostile rows were published."""
    mark = tmp_path_factory.mktemp("hostile") / "mark"
    return seen_by("tests.brokers.hostile", str(mark))


def test_nothing_of_a_row_is_unpickled_imported_or_evaluated(redis, seen):
    assert seen["noticed"] == []
    assert not seen["mark"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_hostile_rows_reach_each_library(library, redis, seen):
    """Else the tripwire has nothing to notice."""
    assert seen["taken"][library] > 10
    assert seen["refused"][library] > 5


def test_the_tripwire_notices_what_a_consumer_does(redis, seen):
    """What was published is still what would run there."""
    assert "pickle.find_class" in seen["control"]
