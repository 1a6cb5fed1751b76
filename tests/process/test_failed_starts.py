"""A process that dies at its start again and again: said once, with pauses, and with an end."""

import signal
from datetime import timedelta

import pytest

from tests.app.chores import plain
from tests.app.models import Effect
from tests.app.poison import swallow
from tests.process.rig import Rig

AT_ONCE = timedelta(seconds=10)  # on a busy machine
# The first import is that of the command, which must succeed, or nothing is started.
BRITTLE = """
import os, signal
from pathlib import Path
from tests.app.notes import FOLDER, note, pass_gate
tries = len(list(Path(os.environ[FOLDER]).glob("try-*")))
Path(os.environ[FOLDER], f"try-{{tries}}").touch()
if tries:
    note("try")
    {fault}
"""
IMPORT_ERROR = "raise ImportError('cannot import\\n name gone')"
FEW_TRIES = """
import django
from datetime import timedelta
django.setup()
from aftercommit.worker.processes import slot, supervisor
from django.core.management import call_command
supervisor.MOST_FAILED_STARTS = 3
slot.FIRST_PAUSE = timedelta(seconds=1)
call_command("aftercommit", "worker", "--backend", "default", "--processes", "1", "--no-fork")
"""
FAULTS = [
    (IMPORT_ERROR, "aftercommit.errors.ConfigurationError: The module 'brittle' cannot"),
    ("os.kill(os.getpid(), signal.SIGSEGV)", "it ended with signal SIGSEGV"),
    ("os._exit(0)", "it ended with exit status 0"),
    ("raise SystemExit('no key')", "SystemExit: no key"),
]


def brittle(rig: Rig, fault: str) -> None:
    """Let this happen whenever a worker process imports the tasks."""
    (rig.folder / "brittle.py").write_text(BRITTLE.format(fault=fault))
    rig.on_path()
    rig.settings(modules="brittle")


@pytest.mark.parametrize(("fault", "reason"), FAULTS)
def test_a_drain_ends_at_the_first_failed_start(rig, fault, reason):
    brittle(rig, fault)
    rig.enqueue(plain, "one")

    worker = rig.worker("--drain", "--no-fork", ready=False)

    assert worker.wait() == 1
    assert len(rig.notes("try")) == 1
    assert worker.output.count(f"did not get to its first job: {reason}") == 1
    assert "Traceback" not in worker.output
    assert rig.open_jobs() == 1


def test_others_end_after_so_many_failed_starts_in_a_row(rig):
    brittle(rig, IMPORT_ERROR)

    worker = rig.run("-c", FEW_TRIES)

    assert worker.wait() == 1
    first, second, third = (one["at"] for one in rig.notes("try"))
    assert second - first >= 1
    assert third - second >= 2
    assert worker.output.count("cannot import name gone") == 1
    assert worker.output.count("failed starts of a process in a row: 3") == 1


def test_a_start_that_succeeds_at_last_is_no_end(rig):
    brittle(rig, "if tries < 4: raise ImportError('not yet')")
    rig.enqueue(plain, "one")

    worker = rig.worker("--no-fork")

    rig.wait_quiet()
    assert len(rig.notes("try")) == 4
    assert worker.output.count("not yet") == 1
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_process_that_hangs_at_its_start_keeps_nobody_from_stopping(rig):
    brittle(rig, "pass_gate('never')")
    worker = rig.worker("--no-fork", ready=False)
    rig.wait_note("try")

    worker.signal(signal.SIGTERM)

    assert worker.wait(AT_ONCE) == 0


def test_a_task_that_ends_its_process_with_status_0_does_not_end_a_drain(rig):
    rig.settings(modules="tests.app.poison")
    rig.enqueue(swallow, "exit_as_if_all_was_well")
    for number in range(3):
        rig.enqueue(plain, str(number))

    worker = rig.worker("--drain", "--threads", "1")

    assert worker.wait() == 0
    assert Effect.objects.count() == 3
    assert not rig.open_jobs()
