"""However the command was started, its processes start, and run nothing of its main module.

They are new Pythons here; ``test_forks`` is about the others.
"""

import signal
import zipapp
from textwrap import dedent

import pytest

from tests.app.chores import plain
from tests.app.models import Effect
from tests.process.rig import ROOT, STARTED, Job, Rig
from tests.process.spawning import spawn
from tests.waiting import wait_until

NOTED_MAIN = f"""
import os, sys
sys.path[:0] = [{str(ROOT)!r}, os.path.dirname(os.path.abspath(__file__))]
from tests.app.notes import note
note("main")
"""
MANAGE = f"""
{NOTED_MAIN}
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rig_settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
CONFIGURE = f"""
{NOTED_MAIN}
from django.conf import settings
from tests import settings as ours
settings.configure(**{{name: value for name, value in vars(ours).items() if name.isupper()}})
"""
ONE_FILE = f"""
{CONFIGURE}
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
NO_COMMAND_LINE = f"""
{CONFIGURE}
import django
from django.core.management import call_command
django.setup()
call_command("aftercommit", "worker", "--drain", "--backend", "default", *sys.argv[1:])
"""
ZIPPED_TASK = """
from aftercommit import task
from tests.app.notes import note

@task
def zipped(key):
    note("zipped", key=key)
"""
FORKING = """
import os, sys, threading
import django
django.setup()
from django.core.management import call_command
from tests.app.models import Effect
from tests.app.notes import note
Effect.objects.create(key="before")

def work():
    call_command("aftercommit", "worker", "--drain", "--backend", "default")
    note("drained")

note("main")
if child := os.fork():
    os.waitpid(child, 0)
    Effect.objects.create(key="after")
else:
    try:
        if sys.argv[1] == "thread":
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        else:
            work()
    finally:
        os._exit(0)
"""
SLOW_PYTHON = """
import os, sys, time
from pathlib import Path
if any("processes.child" in word for word in sys.orig_argv):
    folder = Path(os.environ["AFTERCOMMIT_TEST_NOTES"])
    (folder / "python-has-started").touch()
    while not (folder / "go-on").exists():
        time.sleep(0.01)
"""
DRAIN = ("aftercommit", "worker", "--drain", "--no-fork", "--backend", "default")


@pytest.fixture
def bare(rig: Rig) -> Rig:
    """Return a rig whose settings nobody names, and are in no folder that Python knows."""
    rig.settings_module()
    rig.environment.pop("DJANGO_SETTINGS_MODULE")
    rig.environment.pop("PYTHONPATH")
    return rig


@pytest.mark.parametrize("flags", [(), ("-I",), ("-E", "-X", "dev")], ids=str)
def test_a_manage_py_without_a_guard(bare, flags):
    script = write(bare, "manage.py", MANAGE)
    bare.enqueue(plain, "one")

    worker = bare.run(*flags, script, *DRAIN)

    assert_drained(bare, worker)


def test_djangos_own_command_with_settings_in_a_folder_of_their_own(bare):
    bare.enqueue(plain, "one")
    where = ("--settings", "rig_settings", "--pythonpath", str(bare.folder))

    worker = bare.django(*DRAIN, *where)

    assert_drained(bare, worker, main=0)


def test_a_zipapp(bare):
    source = bare.folder / "source"
    source.mkdir()
    (bare.folder / "rig_settings.py").rename(source / "rig_settings.py")
    (source / "__main__.py").write_text(MANAGE)
    (source / "zipped_tasks.py").write_text(ZIPPED_TASK)
    zipapp.create_archive(source, bare.folder / "site.pyz")
    bare.settings(modules="zipped_tasks")
    bare.change_job(bare.enqueue(plain, "one"), task_path="zipped_tasks.zipped")

    worker = bare.run(str(bare.folder / "site.pyz"), *DRAIN)

    assert worker.wait() == 0
    assert [one["key"] for one in bare.notes("zipped")] == ["one"]
    assert len(bare.notes("main")) == 1


@pytest.mark.parametrize("where", ["main thread", "thread"])
def test_a_server_that_has_forked(rig, where):
    script = write(rig, "server.py", FORKING)
    rig.environment["PYTHONPATH"] = str(ROOT)
    rig.enqueue(plain, "one")

    worker = rig.run(script, where)

    assert worker.wait() == 0
    assert len(rig.notes("drained")) == 1
    assert len(rig.notes("main")) == 1
    assert sorted(effect.key for effect in Effect.objects.all()) == ["after", "before", "one"]


def test_settings_that_a_program_has_configured_by_itself(bare):
    script = write(bare, "site.py", ONE_FILE)
    bare.enqueue(plain, "one")

    worker = bare.run(script, *DRAIN)

    assert_drained(bare, worker, main=2)  # nobody else could configure them again


def test_settings_that_no_command_line_would_configure_again(bare):
    worker = bare.run(write(bare, "site.py", NO_COMMAND_LINE), "--no-fork")

    assert worker.wait() == 1
    assert "CommandError: Worker processes cannot be started: the settings" in worker.output
    assert len(bare.notes("main")) == 1


def test_settings_that_a_fork_has(bare):
    bare.enqueue(plain, "one")

    worker = bare.run(write(bare, "site.py", NO_COMMAND_LINE), "--fork")

    assert_drained(bare, worker)


def test_a_process_sees_the_arguments_and_the_path_of_the_command(rig):
    rig.settings(modules="seen")
    (rig.folder / "seen.py").write_text(
        dedent("""
        import os, sys
        from tests.app.notes import note
        hidden = [name for name in os.environ if name.startswith("AFTERCOMMIT_SYS")]
        note("seen", argv=sys.argv, path=sys.path, hidden=hidden)
        """)
    )
    rig.on_path()

    assert rig.worker("--drain", "--no-fork").wait() == 0

    command, process = rig.notes("seen")
    assert command["pid"] != process["pid"]
    assert (process["argv"], process["path"]) == (command["argv"], command["path"])
    assert process["hidden"] == []


def test_ctrl_c_does_not_hit_a_process_that_does_not_hear_it_yet(rig):
    (rig.folder / "sitecustomize.py").write_text(SLOW_PYTHON)
    rig.on_path()
    worker = rig.worker("--no-fork", ready=False)
    wait_until((rig.folder / "python-has-started").exists, deadline=STARTED)

    worker.signal_all(signal.SIGINT)
    rig.open_gate("go-on")

    assert worker.wait() == 0
    assert worker.output == ""


@pytest.mark.parametrize("way", ["--fork", "--no-fork"])
def test_a_task_may_start_processes_in_its_turn(rig, way):
    rig.settings(modules="tests.process.spawning")
    rig.enqueue(spawn, 7)

    assert rig.worker("--drain", way).wait() == 0

    assert Job.objects.get().state == "succeeded"


def write(rig: Rig, name: str, text: str) -> str:
    """Write a script; return its path."""
    (rig.folder / name).write_text(text)
    return str(rig.folder / name)


def assert_drained(rig: Rig, worker, *, main: int = 1) -> None:
    """Assert that the job was run, and how often the main module was."""
    assert worker.wait() == 0, worker.last_words
    assert [effect.key for effect in Effect.objects.all()] == ["one"]
    assert len(rig.notes("main")) == main
