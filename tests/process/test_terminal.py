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
