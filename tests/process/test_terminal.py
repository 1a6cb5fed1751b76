"""What a person sees: a live line on a terminal, and a worker that follows the code."""

import signal

import pytest
from django.db import connection  # noqa: F401 - read by the condition below

from tests.app.chores import first_line_after, plain
from tests.process.rig import STARTED
from tests.waiting import wait_until

# No database has a part in this, so it is seen on one.
pytestmark = pytest.mark.skipif("connection.vendor != 'sqlite'")


def test_a_terminal_shows_a_line_that_counts(rig, screen):
    rig.enqueue_many(plain, [((str(number),), {}) for number in range(12)])
    arguments = ("-m", "django", "aftercommit", "worker", "--backend", "default")
    worker = rig.run(*arguments, terminal=screen.theirs, TERM="xterm", COLUMNS="120")

    wait_until(lambda: "12 done" in screen.text, deadline=STARTED)
    wait_until(lambda: " 0 running · 0 ready" in screen.text, deadline=STARTED)

    assert "1 process, 4 threads each. Ctrl-C stops." in screen.text
    worker.signal(signal.SIGINT)
    assert worker.wait() == 0


def test_a_change_of_the_code_starts_the_worker_again(rig):
    version = rig.folder / "version.py"
    version.write_text("one = 1\n")
    rig.on_path()
    rig.settings(modules="version")
    worker = rig.worker("--reload")
    rig.enqueue(first_line_after, "before")
    rig.wait_quiet()

    version.write_text("two = 22\n")
    rig.wait_started(worker, processes=2)
    rig.enqueue(first_line_after, "after")
    rig.wait_quiet()

    first, second = rig.notes("version")
    assert (first["loaded"], second["loaded"]) == (["one"], ["two"])
    worker.signal(signal.SIGINT)
    assert worker.wait() == 0


def test_a_module_that_a_change_has_broken_is_named_and_its_next_change_is_seen(rig):
    tasks = rig.folder / "broken_shop" / "tasks.py"
    tasks.parent.mkdir()
    (tasks.parent / "__init__.py").touch()
    tasks.write_text("one = 1\n")
    rig.settings_module('INSTALLED_APPS = [*INSTALLED_APPS, "broken_shop"]')
    worker = rig.worker("--reload")

    tasks.write_text("one = (\n")
    said = "No job is run here before the code changes; Ctrl-C ends this worker."
    wait_until(lambda: said in worker.output, deadline=STARTED)
    assert "The module 'broken_shop.tasks' cannot be imported: SyntaxError" in worker.output
    assert "Traceback" not in worker.output

    tasks.write_text("one = 111\n")
    rig.wait_started(worker, processes=2)
    rig.enqueue(plain, "after")
    rig.wait_quiet()
    worker.signal(signal.SIGINT)
    assert worker.wait() == 0


def test_what_is_wrong_at_the_start_ends_a_worker_that_follows_the_code(rig):
    worker = rig.worker("--reload", "--backend", "nosuch", ready=False)

    assert worker.wait() == 1
    said = "CommandError: --backend nosuch: no aftercommit.DatabaseBackend of this name in TASKS"
    assert said in worker.output
    assert "Traceback" not in worker.output


def test_so_does_a_database_that_is_not_migrated(rig):
    rig.settings_module(f'DATABASES["default"]["NAME"] = {str(rig.folder / "empty.sqlite3")!r}')

    worker = rig.worker("--reload", ready=False)

    assert worker.wait() == 3
    assert "Run 'manage.py migrate --database default'." in worker.output


@pytest.mark.parametrize(
    ("debug", "arguments", "reloads"),
    [
        ("True", [], True),
        ("True", ["--no-reload"], False),
        ("True", ["--drain"], False),
        ("False", [], False),
    ],
)
def test_it_follows_the_code_by_default_while_debugging(rig, debug, arguments, reloads):
    rig.settings_module(f"DEBUG = {debug}")
    worker = rig.worker(*arguments)

    (started,) = rig.notes("worker_started")

    assert (started["reloader"] == "true") is reloads
    worker.signal(signal.SIGINT)
    assert worker.wait() == 0
