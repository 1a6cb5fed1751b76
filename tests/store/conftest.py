"""Tables to write in, and callers beside the test."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models
from django.db.backends.signals import connection_created
from django.dispatch import receiver

from aftercommit.enqueue import registry
from aftercommit.models import Job
from tests.store.callers import Caller

COMMITS = pytest.mark.django_db(transaction=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let all tests of this folder commit, if they do not say otherwise."""
    for item in items:
        here = item.path.is_relative_to(Path(__file__).parent)
        if here and not item.get_closest_marker("django_db"):
            item.add_marker(COMMITS)


@receiver(connection_created)
def wait_for_no_disk(connection: Any, **_: Any) -> None:
    """Let PostgreSQL's commits return before the disk does: no test here pulls the plug."""
    if connection.vendor == "postgresql":
        connection.connection.execute("SET synchronous_commit = off")


@pytest.fixture(autouse=True)
def _no_fair_tasks_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the fair tasks of other rooms: a worker that has some asks for their lines."""
    others = "tests.app.fair"
    known = {one: it for one, it in registry._declared.items() if not one.startswith(others)}
    monkeypatch.setattr(registry, "_declared", known)


@pytest.fixture
def new_caller(transactional_db: None) -> Iterator[Callable[[], Caller]]:
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


@pytest.fixture
def receipts(request: pytest.FixtureRequest, transactional_db: None) -> Iterator[Any]:
    """Return a model that points at jobs, for as long as the test runs."""

    class Receipt(models.Model):
        job = models.ForeignKey(Job, on_delete=request.param)

        class Meta:
            app_label = "app"

        def __str__(self) -> str:
            return str(self.job_id)

    apps.clear_cache()
    with connection.schema_editor() as editor:
        editor.create_model(Receipt)
    yield Receipt.objects
    with connection.schema_editor() as editor:
        editor.delete_model(Receipt)
    del apps.all_models["app"]["receipt"]
    apps.clear_cache()
