"""What the tests of the rooms share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.dispatch import Signal

from aftercommit import events, task
from aftercommit.enqueue import registry
from aftercommit.worker.running.atomic import shared
from tests.worker.rig import Rig
from tests.worker.together import Together


@pytest.fixture(autouse=True)
def _no_fair_tasks_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the fair tasks of other rooms: a worker that has some asks for their lines."""
    others = "tests.app.fair"
    known = {one: it for one, it in registry._declared.items() if not one.startswith(others)}
    monkeypatch.setattr(registry, "_declared", known)


@pytest.fixture(autouse=True)
def _same_wrappers_afterwards() -> Iterator[None]:
    """Take off what a test has left on the connections, which later tests use as well.

    A task may leave an ``execute_wrapper()``. One around a run removes the last wrapper, which is
    that of the run by then, and stays itself.
    """
    before = {one.alias: list(one.execute_wrappers) for one in connections.all()}
    yield
    for one in connections.all():
        one.execute_wrappers[:] = before.get(one.alias, [])


@pytest.fixture
def one_backend(settings: Any) -> None:
    """Let there be one backend only."""
    settings.TASKS = {"default": settings.TASKS["default"]}


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that declares a task anew, for this test."""
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))

    def declare(function: Any, **options: Any) -> Any:
        registry._declared.pop(f"{function.__module__}.{function.__qualname__}", None)
        return task(**options)(function)

    return declare


@pytest.fixture
def rig(transactional_db: None) -> Iterator[Rig]:
    """Return the rooms of a worker around this thread."""
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture(params=["alone", "in company"])
def alone_and_in_company(
    rig: Rig, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Run atomic jobs in a transaction of their own, and in one shared with others."""
    monkeypatch.setattr(shared, "BUDGET", timedelta(minutes=1))
    monkeypatch.setattr(shared, "LONGEST", timedelta(minutes=1))
    rig.in_company = request.param == "in company"
    yield
    rig.check_company()


@pytest.fixture
def together(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Together:
    """Return jobs that share a transaction, however slow the machine is."""
    monkeypatch.setattr(shared, "BUDGET", timedelta(minutes=1))
    monkeypatch.setattr(shared, "LONGEST", timedelta(minutes=1))
    return Together(rig)


@pytest.fixture
def flush_queue(transactional_db: None, settings: Any) -> Iterator[Callable[..., int]]:
    """Return a function that runs the command here, on one alias, and returns what it says."""
    settings.TASKS = {"default": settings.TASKS["default"]}

    def run(**options: object) -> int:
        said = StringIO()
        call_command("flush_queue", stdout=said, **options)
        number, *words = said.getvalue().split()
        assert words in (["job", "was", "run."], ["jobs", "were", "run."])
        return int(number)

    with ExitStack() as silence:
        for signal in vars(events).values():
            if isinstance(signal, Signal):
                silence.callback(signal.disconnect, dispatch_uid=events.LOG_RECEIVER)
        yield run
