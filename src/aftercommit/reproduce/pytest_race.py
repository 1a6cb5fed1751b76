"""``pytest --aftercommit-race``: each test that dispatches runs again, under each schedule."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from django.core import mail
from django.db import connections
from django.test import TransactionTestCase

from aftercommit.errors import ConfigurationError
from aftercommit.reproduce.bodies import body_of_case, body_of_function, capturing
from aftercommit.reproduce.comparing import Comparison
from aftercommit.reproduce.connection import watched_callbacks
from aftercommit.reproduce.copies import (
    Base,
    base_of,
    copy_of,
    drop_copies,
    mirrors,
    prepare_copies,
    usable_aliases,
)
from aftercommit.reproduce.dispatches import error_text
from aftercommit.reproduce.libraries import loaded, watched
from aftercommit.reproduce.reproducing import Findings, races_on
from aftercommit.reproduce.rows import comparable
from aftercommit.reproduce.runs import Body, Stage
from aftercommit.reproduce.schedules import schedules_named

USES_DATABASE = "_django_db_helper"  # a fixture of pytest-django, of each test with a database


class RacePlugin:
    """Registered if the option is given."""

    def __init__(self, config: pytest.Config) -> None:
        given = config.getoption("aftercommit_race_schedules")
        names = given or config.getini("aftercommit_race_schedules")
        try:
            self._schedules = schedules_named([one.strip() for one in names.split(",")])
        except ConfigurationError as error:
            raise pytest.UsageError(str(error)) from error
        self._tried = self._found = 0
        self._not_judged: list[str] = []
        self._capturing = ExitStack()
        self._capturing.enter_context(capturing())  # before fixtures take what it replaces

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: Any, request: pytest.FixtureRequest
    ) -> Iterator[None]:
        """Make the copies once the test databases are there, and no transaction is open."""
        result = yield
        if fixturedef.argname == "django_db_setup":
            with request.getfixturevalue("django_db_blocker").unblock():
                prepare_copies()
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Iterator[None]:
        """Run a test, and again if it has passed and dispatched a task.

        A callback may dispatch one, too: a plain TestCase calls none, since it never commits.
        """
        if not _uses_database(item):
            return (yield)
        body = None if _is_case(item) else body_of_function(item)
        state = _State(is_case=_is_case(item))
        dispatches: list[bool] = []  # True: seen; False: a callback may be one
        with (
            watched(lambda: dispatches.append(True), loaded()),
            watched_callbacks(lambda: dispatches.append(False)),
        ):
            result = yield
        # What a TestCase raises is kept by pytest, and not raised here.
        if dispatches and not getattr(item, "_excinfo", None):
            with _logs_forgotten():
                found = self._try(body or body_of_case(item), state.base())
            if any(dispatches) or found.dispatched or found.expected.error is not None:
                self._tried += 1
                self._judge(item, found)
        return result

    def pytest_sessionfinish(self) -> None:
        """Remove the copies."""
        self._capturing.close()
        drop_copies()

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say how many tests were tried, and which could not be judged."""
        terminalreporter.section("aftercommit-race")
        terminalreporter.write_line(
            f"{self._tried} tests may dispatch tasks: {self._found} with a race, "
            f"{len(self._not_judged)} not judged"
        )
        for line in self._not_judged:
            terminalreporter.write_line(line)

    def _try(self, body: Body, base: Base) -> Findings:
        copies = [copy_of(alias) for alias in base.rows]
        stage = Stage(copies=copies, base=base, effects={"mail": mail.outbox}, replicas=mirrors())
        compare = Comparison(copies, comparable(wanted=None, ignore=()))
        return races_on(stage, body, self._schedules, compare)

    def _judge(self, item: Any, findings: Findings) -> None:
        if (error := findings.expected.error) is not None:
            why = f"fails when tasks and callbacks run after the commit: {error_text(error)}"
            self._not_judged.append(f"{item.nodeid}: {why}")
        elif findings.races:
            self._found += 1
            pytest.fail(str(findings), pytrace=False)


@contextmanager
def _logs_forgotten() -> Iterator[None]:
    """Take from the log that pytest shows what the block adds: it belongs to no run of the test.

    Not switched off: a test may read its own log.
    """
    handlers: list[Any] = logging.getLogger().handlers
    pytests = [one for one in handlers if hasattr(one, "records") and hasattr(one, "stream")]
    kept = [(one.records, len(one.records), one.stream, one.stream.tell()) for one in pytests]
    try:
        yield
    finally:
        for records, length, stream, end in kept:
            del records[length:]
            stream.seek(end)
            stream.truncate()


class _State:
    """The rows from which a test began; made before it."""

    def __init__(self, *, is_case: bool) -> None:
        self._before: Base | None = None
        self._points: dict[str, Any] = {}
        if is_case:
            return  # Django undoes what the test did before it returns
        aliases = usable_aliases()
        if all(connections[one].in_atomic_block for one in aliases):
            self._points = {one: connections[one].savepoint() for one in aliases}
        else:
            self._before = base_of([copy_of(one) for one in aliases])

    def base(self) -> Base:
        """Return the rows from which the test began; may undo what it did."""
        for alias, point in self._points.items():
            connection = connections[alias]
            connection.needs_rollback = False
            connection.savepoint_rollback(point)
        return self._before or base_of([copy_of(one) for one in usable_aliases()])


def _is_case(item: Any) -> bool:
    return isinstance(getattr(item, "cls", None), type) and issubclass(
        item.cls, TransactionTestCase
    )


def _uses_database(item: Any) -> bool:
    return _is_case(item) or USES_DATABASE in getattr(item, "fixturenames", ())
