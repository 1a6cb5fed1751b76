"""The databases of a test run, for processes that its tests start.

A test runner changes the names of databases in its own process only. A worker that a test starts
by ``subprocess`` loads the settings anew, and would serve the real databases. So the names are
put into the environment, which children inherit.
"""

import json
import os
import sys
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate

from aftercommit.errors import ConfigurationError

VARIABLE = "AFTERCOMMIT_TEST_DATABASES"  # JSON: aliases and names
MEMORY = ("mode=memory", ":memory:")
NOBODY = "django.db.backends.dummy"  # raises when it is used


def announce_test_databases(sender: Any) -> None:
    """Let child processes know the databases, as soon as a test runner has migrated them.

    ``sender``: the configuration of this app.
    """
    post_migrate.connect(_migrated, sender=sender, dispatch_uid="aftercommit.under_test")
    if VARIABLE in os.environ:  # perhaps a process of a test runner that runs tests in parallel
        connection_created.connect(_connected, dispatch_uid="aftercommit.under_test")


def use_test_databases() -> list[str]:
    """Use the databases of the test run that has started this process; return their aliases.

    Nothing is changed, and nothing returned, if this is the test run or if there is none. An
    alias that the test run does not have is made unusable; one that only the test run has is left
    out. Raises ``ConfigurationError`` if one
    is in the memory of the test's process.
    """
    announced = _announced()
    if not announced or is_test_run():
        return []
    if memory := [one for one, name in announced.items() if any(key in name for key in MEMORY)]:
        raise ConfigurationError(
            f"A test has started this command, and its database {memory[0]!r} is SQLite in the "
            "memory of the test's process.\n"
            "This process cannot reach it, and would serve the real database of the settings; "
            "nothing was run.\n"
            "Fix: call aftercommit.testing.run_jobs() in the test, or give "
            f"DATABASES[{memory[0]!r}]['TEST']['NAME'] a file."
        )
    if all(_is_already(alias, name) for alias, name in announced.items()):
        return []
    connections.close_all()
    for connection in connections.all():
        settings, alias = connection.settings_dict, connection.alias
        mirrored = (settings.get("TEST") or {}).get("MIRROR")
        name = announced.get(alias) or announced.get(mirrored or "")
        if name is None:
            settings["ENGINE"] = NOBODY
        else:
            settings["NAME"] = name
        del connections[alias]  # made anew with these settings
    return sorted(alias for alias in announced if alias in connections)


def _is_already(alias: str, name: str) -> bool:
    return alias in connections and str(connections[alias].settings_dict["NAME"]) == name


def _announced() -> dict[str, str]:
    try:
        found = json.loads(os.environ.get(VARIABLE) or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigurationError(
            f"{VARIABLE} is set by test runs, to JSON of aliases and names of databases; here "
            f"it is {os.environ[VARIABLE]!r:.100}. Nothing was run. Fix: unset it."
        )
    return {str(alias): str(name) for alias, name in found.items()}


def refuse_without_test_run(what: str) -> None:
    """Raise ``ConfigurationError`` if no test run is on: the databases are the real ones."""
    if not is_test_run():
        raise ConfigurationError(
            f"{what} was called where no test run is on: in a shell, or in a test without "
            "Django's test runner or pytest-django.\n"
            "The databases are those of the settings, perhaps those of production; it would run "
            "and change their jobs. Nothing was done.\n"
            "Fix: call it in a test of manage.py test or pytest-django; another runner calls "
            "django.test.utils.setup_test_environment() and setup_databases() first."
        )


def is_test_run() -> bool:
    """Return whether Django's test environment is set up in this process."""
    state = getattr(sys.modules.get("django.test.utils"), "_TestState", None)
    return hasattr(state, "saved_data")


def _migrated(using: str, **_: Any) -> None:
    if is_test_run():
        _announce(using)
        connection_created.connect(_connected, dispatch_uid="aftercommit.under_test")


def _connected(connection: Any, **_: Any) -> None:
    """Note the copy of a database that a process of a parallel test run has been given."""
    if is_test_run() and connection.alias in _announced():
        _announce(connection.alias)


def _announce(alias: str) -> None:
    names = _announced()
    names[alias] = str(connections[alias].settings_dict["NAME"])
    os.environ[VARIABLE] = json.dumps(names)
