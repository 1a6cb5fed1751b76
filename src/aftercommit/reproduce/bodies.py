"""The body of a test, so that it can be run again and again outside the transaction of a test."""

import copy
import unittest
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from inspect import iscoroutinefunction, signature
from typing import Any

from asgiref.sync import async_to_sync
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model
from django.test import TestCase
from django.test.client import AsyncClient, Client

from aftercommit.reproduce.connection import is_watched
from aftercommit.reproduce.libraries import patched
from aftercommit.reproduce.runs import Body


def body_of_function(item: Any) -> Body:
    """Return the body of a test function: it gets objects as they are now each time."""
    kept = {name: _kept(item.funcargs[name]) for name in signature(item.obj).parameters}
    function = async_to_sync(item.obj) if iscoroutinefunction(item.obj) else item.obj

    def body() -> None:
        function(**{name: _kept(value) for name, value in kept.items()})

    return body


def _kept(value: Any) -> Any:
    """Return a copy of what a test changes: of rows, and of a client that is logged in."""
    if isinstance(value, Model):
        return copy.deepcopy(value)
    if isinstance(value, Client | AsyncClient):
        client = copy.copy(value)
        client.cookies = copy.deepcopy(value.cookies)
        return client
    return value


def body_of_case(item: Any) -> Body:
    """Return the body of a method of a TestCase, with its setUp(), tearDown() and cleanups."""

    def body() -> None:
        case = item.cls(item.name)
        case.client, case.async_client = case.client_class(), case.async_client_class()
        method = getattr(case, item.name)
        if iscoroutinefunction(method):
            setattr(case, item.name, async_to_sync(method))
        if not isinstance(case, TestCase):  # of that the fixtures are there for the whole class
            case._fixture_setup()
        outcome = _Outcome()
        unittest.TestCase.run(case, outcome)
        if outcome.raised is not None:
            raise outcome.raised

    return body


class _Outcome(unittest.TestResult):
    """Keeps the first exception of a test."""

    raised: BaseException | None = None

    def addError(self, _test: Any, err: Any) -> None:
        """Keep it."""
        self.raised = self.raised or err[1]

    def addFailure(self, test: Any, err: Any) -> None:
        """Keep it."""
        self.addError(test, err)

    def addSubTest(self, _test: Any, _subtest: Any, err: Any) -> None:
        """Keep it, if there is one."""
        if err is not None:
            self.raised = self.raised or err[1]


@contextmanager
def capturing() -> Iterator[None]:
    """Let ``captureOnCommitCallbacks()`` yield callbacks that a real commit has called."""
    original = TestCase.captureOnCommitCallbacks

    def capture(
        _cls: Any, *, using: str = DEFAULT_DB_ALIAS, execute: bool = False
    ) -> AbstractContextManager[list[Any]]:
        connection = connections[using]
        if is_watched(connection):  # they are called in any case, as in production
            return _capture(connection)
        return original(using=using, execute=execute)

    with patched(TestCase, captureOnCommitCallbacks=classmethod(capture)):
        yield


@contextmanager
def _capture(connection: Any) -> Iterator[list[Any]]:
    callbacks: list[Any] = []
    original = connection.on_commit

    def on_commit(func: Any, robust: bool = False) -> None:
        callbacks.append(func)
        original(func, robust)

    with patched(connection, on_commit=on_commit):
        yield callbacks
