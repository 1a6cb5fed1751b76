"""The pytest plugin: the functions of ``aftercommit.testing``, the guard, the reproducer.

pytest loads it wherever this package is installed, so it imports neither Django nor anything of
the package before a test asks for a fixture, or the command line for the option.
"""

from importlib import import_module
from typing import Any

import pytest

GUARD = "aftercommit-guard"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the guard and of the reproducer."""
    group = parser.getgroup("aftercommit")
    modes = ("raise", "warn", "log", "defer")
    help_text = "report what is sent inside open transactions"
    group.addoption(f"--{GUARD}", choices=modes, metavar="MODE", help=help_text)
    group.addoption(
        f"--{GUARD}-baseline", metavar="FILE", help="write what the guard finds, to accept it"
    )
    parser.addini("aftercommit_guard", f"as --{GUARD}", default="")
    group.addoption(
        "--aftercommit-race",
        action="store_true",
        help="run each test that dispatches a task again, with a quick worker and so on",
    )
    schedules = "names of schedules, with commas: early, rollback, crash, twice, stale, or all"
    group.addoption("--aftercommit-race-schedules", metavar="NAMES", help=schedules)
    parser.addini("aftercommit_race_schedules", schedules, default="early,rollback")


def pytest_configure(config: pytest.Config) -> None:
    """Load the guard or the reproducer if it is asked for."""
    mode = config.getoption(GUARD.replace("-", "_")) or config.getini("aftercommit_guard")
    if mode:
        watching = import_module("aftercommit.guard.in_pytest").Watching
        file = config.getoption(f"{GUARD}-baseline".replace("-", "_"))
        config.pluginmanager.register(watching(config, mode, file), "aftercommit_guard")
    if config.getoption("aftercommit_race"):
        plugin = import_module("aftercommit.reproduce.pytest_race").RacePlugin(config)
        config.pluginmanager.register(plugin, "aftercommit-race")


@pytest.fixture(name="run_jobs")
def _run_jobs() -> Any:
    """Run the jobs that are due: ``aftercommit.testing.run_jobs``."""
    return _word("run_jobs")


@pytest.fixture(name="assert_enqueued")
def _assert_enqueued() -> Any:
    """Assert that jobs were enqueued: ``aftercommit.testing.assert_enqueued``."""
    return _word("assert_enqueued")


@pytest.fixture(name="refute_enqueued")
def _refute_enqueued() -> Any:
    """Assert that no job was enqueued: ``aftercommit.testing.refute_enqueued``."""
    return _word("refute_enqueued")


@pytest.fixture(name="assert_effects_once")
def _assert_effects_once() -> Any:
    """Assert that a task survives a crash: ``aftercommit.testing.assert_effects_once``."""
    return _word("assert_effects_once")


@pytest.fixture(name="capture_jobs")
def _capture_jobs() -> Any:
    """Collect the jobs of a block: ``aftercommit.testing.capture_jobs``."""
    return _word("capture_jobs")


@pytest.fixture(name="travel")
def _travel() -> Any:
    """Move the clock in a block: ``aftercommit.testing.travel``."""
    return _word("travel")


@pytest.fixture(name="context_for")
def _context_for() -> Any:
    """Make a context for a call of a task: ``aftercommit.testing.context_for``."""
    return _word("context_for")


def _word(name: str) -> Any:
    return getattr(import_module("aftercommit.testing"), name)
