"""What every test may ask for."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.db import connection

from tests import services, tiers
from tests.databases import name_of_this_run, remove_sqlite_files

if TYPE_CHECKING:
    from aftercommit.store.base import Store


TESTS = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let tests/run.py run a part of the tests, as its plan has it."""
    parser.addoption("--part", choices=tiers.names(), help="see tests/tiers.py")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file of which the wanted part takes no test."""
    name = config.getoption("part")
    if not name or not collection_path.name.startswith("test_"):
        return None
    part = tiers.part_named(name, settings.DATABASE_KIND)
    file = collection_path.relative_to(TESTS).as_posix()
    return True if not part.takes(file, tiers.marks_of_file(collection_path.name)) else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what its file's name marks."""
    for mark in tiers.marks_of_file(item.path.name):
        item.add_marker(mark)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of the wanted part."""
    if name := config.getoption("part"):
        part = tiers.part_named(name, settings.DATABASE_KIND)
        unwanted = [item for item in items if not _is_in(part, item)]
        config.hook.pytest_deselected(items=unwanted)
        items[:] = [item for item in items if item not in unwanted]


def _is_in(part: tiers.Part, item: pytest.Item) -> bool:
    file = item.path.relative_to(TESTS).as_posix()
    return part.takes(file, {mark.name for mark in item.iter_markers()})


def pytest_configure(config: pytest.Config) -> None:
    """Stop with one clear line when the database under test is not there.

    A run in the background is started deaf to Ctrl-C, and so would be all that it starts.
    """
    if not tiers.measures_children(config.getoption("part"), settings.DATABASE_KIND):
        os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        services.find(os.environ.get("AFTERCOMMIT_DB", "sqlite"))
    except services.NoServer as error:
        pytest.exit(
            f"{error}; tests/run.py runs on what is there and starts what it can",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )


def pytest_report_header(config: pytest.Config) -> str:
    """Name what is needed to repeat this run; pytest-randomly prints the seed."""
    server = services.find(settings.DATABASE_KIND)
    return f"database: {server.kind} {server.version}, {name_of_this_run()}"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the SQLite files, with what killed workers left beside them."""
    remove_sqlite_files(name_of_this_run())


@pytest.fixture
def vendor() -> str:
    """Return the database under test in Django's words: sqlite, postgresql, mysql."""
    return connection.vendor


@pytest.fixture
def store() -> "Store":
    """Return the store of the database under test."""
    from aftercommit.store import store_for

    return store_for("default")
