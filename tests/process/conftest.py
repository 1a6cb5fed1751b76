"""A rig for each test, on the database under test."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from tests.databases import ALIASES
from tests.process.rig import Rig
from tests.process.screen import Screen, open_screen


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers are other processes: everything here is committed.

    Tests with a server of their own (``torn``) leave the test databases alone.
    """
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and "torn" not in item.fixturenames:
            item.add_marker(pytest.mark.django_db(transaction=True, databases=ALIASES))


def seed_of_this_test() -> int:
    """Return a fresh seed, or the one that a failed run has printed."""
    return int(os.environ.get("AFTERCOMMIT_TEST_SEED") or random.SystemRandom().randrange(10**6))


@pytest.fixture
def rig(tmp_path: Path, transactional_db: None) -> Iterator[Rig]:
    """Return a rig whose processes are gone when the test ends."""
    rig = Rig(tmp_path, seed=seed_of_this_test())
    rig.ledger.install()
    try:
        yield rig
    finally:
        rig.close()
        rig.ledger.remove()
        if connection.vendor == "sqlite":  # of workers that were killed
            shutil.rmtree(f"{connection.settings_dict['NAME']}-workers", ignore_errors=True)


@pytest.fixture
def screen() -> Iterator[Screen]:
    """Return a terminal for one test."""
    with open_screen() as screen:
        yield screen
