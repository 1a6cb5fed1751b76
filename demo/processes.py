"""The processes of the demo: a web server and a worker on one database."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOON = timedelta(seconds=20)
GRACE = timedelta(seconds=10)
LAST_LINES = 20
OURS = 0o077  # umask: what visitors write is not for the other users of this computer


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


class Process:
    """A child in a process group of its own, so that Ctrl-C reaches only its parent."""

    def __init__(self, name: str, command: list[str], *, demo: "Demo") -> None:
        self.name = name
        self.log = demo.data / f"{name}.log"
        with open(self.log, "ab", opener=_for_us_alone) as log:
            self._child = subprocess.Popen(
                command,
                env=demo.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=OURS,
            )
        # Beside the log, for who wants to kill it.
        (demo.data / f"{name}.pid").write_text(f"{self._child.pid}\n")

    @property
    def returncode(self) -> int | None:
        """How it ended: None while it runs, negative for a signal."""
        return self._child.poll()

    def kill(self) -> None:
        """Kill -9 it with all its children, as a power cut would."""
        self._send_to_group(signal.SIGKILL)
        self._child.wait()

    def stop(self) -> int:
        """Ask it to end, wait, insist; return how it ended."""
        if self.returncode is None:
            self._child.terminate()
        try:
            self._child.wait(GRACE.total_seconds())
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()
        return self._child.returncode

    def last_words(self) -> str:
        """Return the end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LAST_LINES:])

    def _send_to_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._child.pid, number)
        except (ProcessLookupError, PermissionError):
            return  # nobody is left; macOS says the latter of zombies


class Demo:
    """A web server and a worker, with a data directory and a database."""

    def __init__(
        self,
        *,
        data: Path,
        database: str,
        variables: Mapping[str, str],
        port: int,
        queue: str = "aftercommit",
    ) -> None:
        self.data = data
        self.origin = f"http://127.0.0.1:{port}"
        self._port = port
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        for file in (*data.glob("*.sqlite3*"), *data.glob("*.log")):  # of an earlier version
            file.chmod(0o600)
        self.environment = {
            **os.environ,
            **variables,
            "DB": database,
            "QUEUE": queue,
            "DEMO_DATA": str(data),
            "DEMO_PORT": str(port),
            "DEMO_SECRET_KEY": _secret_key(data),
            "DJANGO_SETTINGS_MODULE": "demosite.settings",
            "PYTHONUNBUFFERED": "1",
        }
        self.queue = queue
        self.web: Process
        self.worker: Process
        self._relay: Process | None = None

    def prepare(self) -> None:
        """Make the tables and what the rooms start with."""
        made = subprocess.run(
            _manage("prepare_demo"),
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            umask=OURS,
        )
        if made.returncode:
            raise DemoFailed(f"The database could not be prepared:\n{made.stderr}")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run web server and worker while the block lasts."""
        # Without DEBUG, Django serves static files only if it is told twice.
        address = f"127.0.0.1:{self._port}"
        command = _manage("runserver", address, "--noreload", "--insecure")
        self.web = Process("web", command, demo=self)
        self.start_worker()
        if self.queue != "aftercommit":
            self._relay = Process("relay", _manage("aftercommit", "relay"), demo=self)
        try:
            wait_until(self._answers, why="the web server answers")
            yield
        except DemoFailed as failure:
            words = self.worker.last_words()
            raise DemoFailed(f"{failure}\nThe worker's last words:\n{words}") from failure
        finally:
            others = [self._relay] if self._relay is not None else []
            _stop_undisturbed([self.worker, self.web, *others])

    def start_worker(self) -> None:
        """Start a worker, the first one or the next."""
        self.worker = Process("worker", _worker(self.queue), demo=self)

    def _answers(self) -> bool:
        for process in (self.web, self.worker):
            if process.returncode is not None:
                raise DemoFailed(f"The {process.name} process ended:\n{process.last_words()}")
        try:
            with urllib.request.urlopen(self.origin, timeout=5):  # noqa: S310 - our own
                return True
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False


def wait_until(condition: Callable[[], bool], *, why: str, within: timedelta = SOON) -> None:
    """Wait for what announces itself nowhere: another process, a row.

    Raises ``DemoFailed`` when it does not happen in time.
    """
    ends = time.monotonic() + within.total_seconds()
    while not condition():
        if time.monotonic() > ends:
            raise DemoFailed(f"Not within {within.total_seconds():g} seconds: {why}.")
        time.sleep(0.05)


def is_free(port: int) -> bool:
    """Say whether a server could listen on this port of the loopback address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def any_free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _manage(*arguments: str) -> list[str]:
    return [sys.executable, str(HERE / "manage.py"), *arguments]


def _worker(queue: str) -> list[str]:
    """Return the command of the worker that each library brings."""
    if queue == "celery":
        options = ["--pool", "threads", "--concurrency", "8", "--loglevel", "info"]
        program = [sys.executable, "-m", "celery", "--workdir", str(HERE), "-A", "demosite"]
        return [*program, "worker", *options]
    if queue == "rq":
        name = os.environ.get("DEMO_PREFIX", "aftercommit-demo")
        return _manage("rqworker", name, "--worker-class", "rq.worker.SimpleWorker")
    return _manage("aftercommit", "worker")


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _secret_key(data: Path) -> str:
    """Return this demo's own key, made once, so that logins outlive a restart."""
    file = data / "secret_key"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(50))
    return file.read_text()


def _stop_undisturbed(processes: list[Process]) -> None:
    """Stop them all, even if somebody presses Ctrl-C again."""
    usual = {
        number: signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        for process in processes:
            process.stop()
    finally:
        for number, reaction in usual.items():
            signal.signal(number, reaction)
