"""Modules with tasks that cannot be imported are named, and can be left out."""

import sys

import pytest
from django.core.management import CommandError, call_command

from aftercommit._compat import task_backends
from aftercommit.enqueue.discovery import discover
from aftercommit.errors import ConfigurationError

pytestmark = pytest.mark.django_db(transaction=True)
BROKEN = {
    "no such module": "import no_such_library",
    "mistake": "1 / 0",
    "syntax": "def (",
    "no such name": "from django.db import no_such_name",
}


@pytest.fixture
def app(tmp_path, monkeypatch, settings):
    """Return a function that installs an app with such a module of tasks."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(text):
        package = tmp_path / "legacy"
        package.mkdir()
        (package / "__init__.py").write_text("")
        if text is not None:
            (package / "tasks.py").write_text(text)
        settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "legacy"]

    yield install
    for name in ("legacy.tasks", "legacy"):
        sys.modules.pop(name, None)


def with_options(settings, **options):
    """Set the options of the backend."""
    default = settings.TASKS["default"]
    settings.TASKS = {"default": {**default, "OPTIONS": {**default["OPTIONS"], **options}}}
    assert task_backends["default"] is not None


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_the_module_is_named_with_the_reason(app, text):
    app(text)

    with pytest.raises(ConfigurationError, match=r"legacy\.tasks") as raised:
        discover()
    assert "Error: " in str(raised.value)
    assert "skip_task_modules" in str(raised.value)
    for command in (["aftercommit", "worker", "--drain"], ["flush_queue"]):
        with pytest.raises((CommandError, ConfigurationError), match=r"legacy\.tasks"):
            call_command(*command)


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_it_can_be_left_out(app, settings, text):
    app(text)
    with_options(settings, skip_task_modules=["legacy.tasks"])

    discover()


def test_one_of_task_modules_can_be_left_out_as_well(settings):
    with pytest.raises(ConfigurationError, match="no_such_tasks"):
        discover(["no_such_tasks"])

    with_options(settings, skip_task_modules=["no_such_tasks"])
    discover(["no_such_tasks"])


def test_an_app_needs_no_tasks(app):
    app(None)

    discover()
