"""The demo's two commands, as a person starts them."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from threading import Thread

import httpx
import pytest
from processes import Demo, Process, any_free_port, wait_until

from tests.demo.conftest import DEMO

SECONDS = 60


class Running:
    """A started ``run.py`` and what it has printed."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(DEMO / "run.py"), "--no-browser", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self._lines: Queue[str] = Queue()
        self.printed = ""
        self._reader = Thread(target=self._read)
        self._reader.start()

    def wait_for(self, words: str) -> str:
        """Return the line that has these words, as soon as it is printed."""
        while True:
            line = self._lines.get(timeout=SECONDS)
            assert line, f"{words!r} never came:\n{self.printed}"
            if words in line:
                return line

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        status = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGTERM)
        self._reader.join(SECONDS)
        self.process.stdout.close()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.printed += line
            self._lines.put(line)
        self._lines.put("")


@pytest.fixture
def start(kind, tmp_path, monkeypatch) -> Iterator[Callable[..., Running]]:
    if kind != "sqlite":
        pytest.skip("once is enough: how it starts and ends does not depend on the database")
    started = []
    monkeypatch.setenv("COLUMNS", "120")  # long lines are not folded

    def start(*arguments: str) -> Running:
        running = Running("--db", "sqlite", "--data", str(tmp_path), *arguments)
        started.append(running)
        return running

    yield start
    for running in started:
        running.close()


def alive(groups: set[int]) -> set[int]:
    """Return the process groups that have a living process."""
    # Not killpg(group, 0): it finds zombies, too, which nobody may have collected yet.
    listing = subprocess.check_output(["ps", "-A", "-o", "pgid=", "-o", "stat="], text=True)
    processes = [line.split() for line in listing.splitlines()]
    return groups & {int(group) for group, state in processes if state[0] != "Z"}


def origin_of(line: str) -> str:
    return re.search(r"http://127\.0\.0\.1:\d+", line)[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_shows_where_to_look_and_stops_with_all_its_processes(start, tmp_path, number):
    running = start("--port", str(any_free_port()))
    origin = origin_of(running.wait_for("Open"))
    assert httpx.get(origin, trust_env=False).status_code == 200
    assert "password demo" in running.wait_for("Admin")
    running.wait_for("Ctrl-C")
    groups = {int(file.read_text()) for file in tmp_path.glob("*.pid")}
    assert len(alive(groups)) == 2

    status = running.end(number)

    assert status == 0
    assert "Stopped." in running.printed
    wait_until(lambda: not alive(groups), why="web server and worker are gone")


def test_a_taken_port_is_told_and_the_next_is_used(start):
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        taken = occupant.getsockname()[1]

        running = start("--port", str(taken))

        running.wait_for(f"Port {taken} is taken")
        assert origin_of(running.wait_for("Open")) != f"http://127.0.0.1:{taken}"


def test_a_killed_worker_is_replaced(start, tmp_path):
    running = start("--port", str(any_free_port()))
    running.wait_for("Ctrl-C")
    pid_file: Path = tmp_path / "worker.pid"
    first = int(pid_file.read_text())

    os.killpg(first, signal.SIGKILL)

    running.wait_for("The worker was killed (signal 9)")
    wait_until(lambda: pid_file.read_text() not in ("", f"{first}\n"), why="a new one")


def test_a_worker_that_ends_by_itself_ends_the_demo(start, tmp_path):
    running = start("--port", str(any_free_port()))
    running.wait_for("Ctrl-C")
    log = tmp_path / "worker.log"
    wait_until(lambda: "serves" in log.read_text(), why="the worker listens to signals")

    os.kill(int((tmp_path / "worker.pid").read_text()), signal.SIGTERM)

    running.wait_for("The worker ended")
    assert running.process.wait(SECONDS) == 1


@pytest.mark.long  # on each change .ci/run does the same by `make demo-check`
def test_the_check_holds(kind):
    done = subprocess.run(
        [sys.executable, str(DEMO / "check.py"), "--db", kind],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_what_visitors_write_is_not_for_other_users(tmp_path):
    data = tmp_path / "data"
    older = tmp_path / "older"
    older.mkdir()
    older.joinpath("demo.sqlite3").touch(mode=0o644)
    former = os.umask(0o022)
    try:
        for folder in (data, older):
            demo = Demo(data=folder, database="sqlite", variables={}, port=any_free_port())
            demo.prepare()
            Process("worker", [sys.executable, "-c", ""], demo=demo).stop()
    finally:
        os.umask(former)

    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    for folder in (data, older):
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
        secret = {name: mode for name, mode in modes.items() if not name.endswith(".pid")}
        assert {"demo.sqlite3", "worker.log", "secret_key"} <= secret.keys()
        assert {mode & 0o077 for mode in secret.values()} == {0}, modes
