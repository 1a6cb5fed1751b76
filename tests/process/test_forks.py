"""Worker processes are forks where that is safe: light, and with nothing of their parent's."""

import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.app.chores import plain
from tests.app.models import Effect
from tests.process.forked import look_around, say_goodbye
from tests.process.rig import STOPPED, Rig, Tree, is_alive, states
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
NO_FORKS = "Worker processes are new Pythons and no forks: "
# In a module of tasks: what a project may do when it is loaded.
THREAD = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
UNSEEN_THREAD = "import _thread, time; _thread.start_new_thread(time.sleep, (1000,))"
CONNECTION = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
"""
DATAGRAMS = "import socket; log = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
QUERY = "from django.db import connection; connection.ensure_connection()"
INPUT = "import os; os.dup2(os.open('/proc/version', os.O_RDONLY), 0)"
PARTING = """
import atexit, sys
from tests.app.notes import note
atexit.register(note, "parent_left")
sys.stdout.write("half a thought, ")
"""
# It would lose its lock if its connection were closed.
LOCK = """
import django
django.setup()
from django.core.management import call_command
from django.db import connection
connection.ensure_connection()
before = connection.connection
call_command("aftercommit", "worker", "--drain", "--backend", "default")
assert connection.connection is before
"""
# Work beside the supervisor that does not end, and of which there can be no fork.
ASIDES = """
import os, time
from datetime import timedelta
import django
django.setup()
from aftercommit.worker.processes.aside import Aside
from tests.app.notes import note

hangs = Aside(lambda over: (note("hangs"), time.sleep(1000)), name="hangs", may_fork=True)
assert not hangs.ended_within(timedelta(seconds=1))
hangs.end(timedelta(0))
note("ended", ended=hangs.ended_within(timedelta(0)))

def refuse():
    raise BlockingIOError

os.fork = refuse
Aside(lambda over: note("in_thread"), name="thread", may_fork=True).end(timedelta(seconds=10))
"""


@pytest.fixture
def loaded(rig):
    """Return a rig whose tasks say what their process has of its parent."""
    rig.settings(modules="tests.process.forked")
    return rig


def test_a_fork_has_its_memory_from_the_supervisor(loaded):
    fork = loaded.worker("--fork", "--queues", "fork")
    python = loaded.worker("--no-fork", "--queues", "python")

    loaded.enqueue(look_around.using(queue_name="fork"), "fork")
    loaded.enqueue(look_around.using(queue_name="python"), "python")
    light, heavy = (loaded.wait_note("looked", key=key) for key in ("fork", "python"))

    print(f"kB of its own: a fork {light['private']}, a new Python {heavy['private']}")
    assert light["private"] < heavy["private"] / 2
    assert (light["parent"], heavy["parent"]) == (fork.pid, python.pid)
    assert is_fork(light)
    assert not is_fork(heavy)


def test_no_two_processes_share_a_socket_or_a_pipe(loaded):
    worker = loaded.worker("--fork", processes=3)
    os.kill(loaded.children(worker)[1], signal.SIGKILL)
    loaded.wait_started(worker, processes=4)

    processes = pids(worker)
    shared = Counter(one for pid in processes for one in connections_of(pid))

    assert len(processes) >= 5  # the command, its line, and three
    assert [one for one, number in shared.items() if number > 1] == []


def test_forks_read_nothing_and_draw_numbers_of_their_own(loaded):
    load(loaded, INPUT)
    workers = loaded.worker("--fork", "--threads", "1", processes=2)
    for number in range(20):
        loaded.enqueue(look_around, str(number), rest=0.05)
    loaded.wait_quiet()

    looks = loaded.notes("looked")

    assert len({one["pid"] for one in looks}) == 2
    assert len({one["number"] for one in looks}) == 20
    assert {one["stdin"] for one in looks} == {"/dev/null"}
    assert {one["parent"] for one in looks} == {workers.pid}


def test_a_process_that_was_killed_is_replaced_by_a_fork(loaded):
    worker = loaded.worker("--fork")
    loaded.enqueue(plain, "hit", gate="go")
    begin = loaded.wait_note("begin")

    os.kill(begin["pid"], signal.SIGKILL)
    loaded.open_gate("go")
    loaded.wait_started(worker, processes=2)
    loaded.enqueue(look_around, "after")

    assert is_fork(loaded.wait_note("looked"))
    loaded.wait_quiet()
    assert Effect.objects.filter(key="hit").count() == 1
    assert "ended with signal SIGKILL; it is replaced" in worker.output
    wait_until(lambda: "Z" not in states(worker.pid), deadline=STOPPED, why="all are buried")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (THREAD, "this program has 2 threads (of Python: MainThread, Thread-1 (wait))"),
        (UNSEEN_THREAD, "this program has 2 threads (of Python: MainThread)"),
        (CONNECTION, "this program has an open connection"),
    ],
    ids=["thread", "unseen thread", "connection"],
)
def test_where_a_fork_could_do_harm_there_is_none(loaded, code, reason):
    load(loaded, code)
    loaded.enqueue(look_around, "one")

    worker = loaded.worker("--fork", "--drain", processes=2)

    assert worker.wait() == 0
    assert not is_fork(loaded.wait_note("looked"))
    assert worker.output.count(NO_FORKS + reason) == 1


@pytest.mark.parametrize("code", [DATAGRAMS, QUERY], ids=["datagrams", "query"])
def test_what_can_be_shared_or_closed_is_in_nobodys_way(loaded, code):
    load(loaded, code)
    loaded.enqueue(look_around, "one")

    worker = loaded.worker("--fork", "--drain")

    assert worker.wait() == 0
    assert is_fork(loaded.wait_note("looked"))
    assert NO_FORKS not in worker.output


def test_a_program_that_calls_the_command_keeps_its_connection(loaded):
    loaded.enqueue(look_around, "one")

    worker = loaded.run("-c", LOCK)

    assert worker.wait() == 0
    assert not is_fork(loaded.wait_note("looked"))
    assert NO_FORKS + "this program has a connection to a database" in worker.output


def test_a_fork_leaves_to_its_parent_what_is_the_parents(loaded):
    loaded.environment.pop("PYTHONUNBUFFERED", None)
    load(loaded, PARTING)
    loaded.enqueue(say_goodbye, "one")

    worker = loaded.worker("--fork", "--drain")

    assert worker.wait() == 0
    assert [one["pid"] for one in loaded.notes("parent_left")] == [worker.pid]
    (goodbye,) = loaded.notes("left")
    assert goodbye["pid"] == loaded.children(worker)[0]
    assert (worker.output.count("half a thought"), worker.output.count("half a line")) == (1, 1)


def test_work_beside_the_supervisor_keeps_it_from_nothing(loaded):
    command = loaded.run("-c", ASIDES)

    assert command.wait() == 0, command.last_words
    (hangs,), (in_thread,) = loaded.notes("hangs"), loaded.notes("in_thread")
    assert hangs["pid"] != command.pid == in_thread["pid"]
    assert loaded.notes("ended", ended=True)
    assert not is_alive(hangs["pid"])


# ---- what these sentences are made of -------------------------------------------


def load(rig: Rig, code: str) -> None:
    """Let the project do this when it is loaded."""
    (rig.folder / "loaded.py").write_text(code)
    rig.on_path()
    rig.settings(modules="loaded")


def is_fork(look: dict) -> bool:
    """Tell whether a process has the command line of the command itself."""
    return not any("processes.child" in word for word in look["command"])


def pids(worker: Tree) -> list[int]:
    """Return the processes of a session."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) == worker.pid:
                found.append(int(process.name))
        except ProcessLookupError:  # it has ended
            continue
    return found


def connections_of(pid: int) -> set[str]:
    """Return the ends of sockets and pipes that a process has, but for what all may write to."""
    files = [one for one in Path(f"/proc/{pid}/fd").iterdir() if int(one.name) > 2]
    links = {os.readlink(one) for one in files if one.is_symlink()}
    return {one for one in links if one.startswith(("socket:", "pipe:"))}
