"""The rig of the process tests serves here as well."""

from pathlib import Path

import pytest

from tests.databases import ALIASES
from tests.process.conftest import rig

__all__ = ["rig"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers are other processes: everything here is committed."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.django_db(transaction=True, databases=ALIASES))
