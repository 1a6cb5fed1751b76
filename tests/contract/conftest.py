"""Fetches nothing for a run that does not take these tests."""

from pathlib import Path

import pytest
from django.conf import settings

from tests import tiers


@pytest.fixture
def backends(settings):
    """Let a test say what TASKS is."""

    def set_backends(**tasks):
        settings.TASKS = tasks

    return set_backends


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files that the part of this run does not take: to load them is to download."""
    name = config.getoption("part")
    if not name or not collection_path.name.startswith("test_"):
        return None
    file = collection_path.relative_to(tiers.TESTS).as_posix()
    return None if tiers.part_named(name, settings.DATABASE_KIND).takes(file) else True
