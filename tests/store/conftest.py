"""Tables to write in, and callers beside the test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from tests.store.callers import Caller
from tests.store.given import wipe

# Without apps no table is truncated after a test, which takes longer than most of these
# tests; see empty_tables.
COMMITS = pytest.mark.django_db(transaction=True, available_apps=[])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let all tests of this folder commit."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(COMMITS)


@receiver(connection_created)
def wait_for_no_disk(connection: Any, **_: Any) -> None:
    """Let PostgreSQL's commits return before the disk does: no test here pulls the plug."""
    if connection.vendor == "postgresql":
        connection.connection.execute("SET synchronous_commit = off")


@pytest.fixture(autouse=True)
def empty_tables(transactional_db: None) -> Iterator[None]:
    """Remove what the test has written."""
    yield
    wipe()


@pytest.fixture
def new_caller(empty_tables: None) -> Iterator[Callable[[], Caller]]:
    """Make callers beside the test, each with a connection of its own."""
    watcher = connection.copy()
    callers: list[Caller] = []

    def make() -> Caller:
        callers.append(Caller(watcher))
        return callers[-1]

    yield make
    for one in callers:
        one.close()
    watcher.close()


@pytest.fixture
def other(new_caller: Callable[[], Caller]) -> Caller:
    """Return someone else."""
    return new_caller()
