"""Starts worker processes: forks of this one where that is safe, else new Pythons.

A new Python has a command line of our own. Nothing of the user's ``__main__`` is imported
again: it may be a ``manage.py`` without a guard, a zipapp or the program of a server that has
forked this process.
"""

import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO

from django.conf import UserSettingsHolder, settings

from aftercommit.errors import ConfigurationError
from aftercommit.options.worker import WorkerConfig
from aftercommit.worker.config import served_backends
from aftercommit.worker.counts import Row
from aftercommit.worker.in_flight import InFlight
from aftercommit.worker.processes.channel import Channel, message_of
from aftercommit.worker.processes.child import WorkerProcess
from aftercommit.worker.processes.forking import (
    ForkedProcess,
    fork,
    forking,
    obstacle,
    stop_signals_blocked,
)
from aftercommit.worker.processes.handover import handover, refuse_memory
from aftercommit.worker.processes.memory import oom_kills
from aftercommit.worker.processes.silence import Silence
from aftercommit.worker.quota import RunQuota
from aftercommit.worker.runs import now

NOTE_EVERY = timedelta(seconds=1)  # reading the files is most of what an idle supervisor does
PATH = "AFTERCOMMIT_SYS_PATH"  # environment variable, for the first line of a process
COMMAND, SUBCOMMAND = "aftercommit", "worker-process"
COMMANDS = (COMMAND, "flush_queue")  # that start processes
# Not "-m aftercommit…" with PYTHONPATH: that does not reach a Python that is isolated, and
# is in the way of what such a process starts. With -P nothing in the current folder can
# stand in for json.
BOOT = (
    f"import json, os, sys; sys.path[:] = json.loads(os.environ.pop({PATH!r})); "
    "from aftercommit.worker.processes.child import main; main(sys.argv[1:])"
)


@dataclass(slots=True)
class Child:
    """A worker process as its supervisor sees it."""

    process: subprocess.Popen[bytes] | ForkedProcess
    channel: Channel
    board: InFlight
    started: float = field(default_factory=now)
    ready: bool = False  # it has loaded the project, and may claim from now on
    reason: str | None = None  # why it could not
    traceback: str = ""
    end: str | None = None  # how it ended, by its own words
    done: int = 0
    running: int = 0
    problems: tuple[str, ...] = ()  # why it cannot claim jobs or write outcomes
    stuck_for: float = 0.0  # seconds since a thread of it that hangs has begun its step
    sees_crashed: bool = False  # it sees jobs with crashes, or a dead worker that may leave some
    counts: list[Row] = field(default_factory=list)  # by task, that nobody has taken yet
    silence: Silence = field(default_factory=Silence)
    killed_for: str | None = None  # why it was ended by us, if what it ran is the cause
    oom_kills: int = field(default_factory=oom_kills)  # when it was seen alive, not long ago
    oom_kills_noted: float = field(default_factory=now)

    @property
    def death(self) -> str:
        """How it ended, seen from outside."""
        code = self.process.returncode or 0
        try:
            return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        except ValueError:
            return f"signal {-code}"

    @property
    def own_death(self) -> str | None:
        """The same, if what it ran was the cause; None if somebody has killed it.

        Only the kernel sends SIGKILL by itself, to a process that needs too much memory; and
        the supervisor, to one that shows no sign of life.
        """
        if self.killed_for is not None:
            return self.killed_for
        if self.process.returncode != -signal.SIGKILL:
            return self.death
        if oom_kills() > self.oom_kills:
            return f"{self.death}, because memory ran out"
        return None

    def note_memory(self) -> None:
        """Note the kernel's count of OOM kills, as long as the process lives."""
        if now() - self.oom_kills_noted >= NOTE_EVERY.total_seconds():
            self.oom_kills = oom_kills()
            self.oom_kills_noted = now()

    def listen(self) -> None:
        """Take in what it has said since."""
        for message in self.channel.arrived():
            self.ready = self.ready or "ready" in message
            self.reason = message.get("failed", self.reason)
            self.traceback = message.get("traceback", self.traceback)
            self.end = message.get("end", self.end)
            self.killed_for = message.get("killed_for", self.killed_for)
            self.done = message.get("done", self.done)
            self.running = message.get("running", self.running)
            self.sees_crashed = message.get("sees_crashed", self.sees_crashed)
            self.problems = tuple(message.get("problems", self.problems))
            self.stuck_for = message.get("stuck_for", self.stuck_for)
            self.counts += message.get("counts", ())


class Launcher:
    """Starts processes that share a quota of jobs.

    Raises ``ConfigurationError`` where there can be none.
    """

    def __init__(self, config: WorkerConfig) -> None:
        if os.name != "posix":
            raise ConfigurationError(
                "Worker processes cannot be started on this system: they are given open files, "
                "which only POSIX systems can do.\n"
                "Fix: run the worker on Linux, macOS or in WSL; 'manage.py flush_queue' runs "
                "jobs anywhere."
            )
        refuse_memory({one.using for one in served_backends(config.backends).values()})
        self._may_fork = config.fork
        if not self._may_fork or obstacle() is not None:
            _command()  # raises what would be raised later
            handover()
        self._quota = None if config.max_jobs is None else RunQuota.new_file(config.max_jobs)

    @property
    def quota_is_used_up(self) -> bool:
        """Whether no more runs may begin."""
        return self._quota is not None and RunQuota(self._quota.fileno()).used_up

    def start(self, config: WorkerConfig) -> Child:
        """Start a process.

        Raises ``OSError`` if the system does not allow it, and ``ConfigurationError`` if a
        new Python is needed and could not have the settings of this one.
        """
        if self._may_fork and forking.is_safe():
            return self._fork(config)
        return self._spawn(config)

    def _fork(self, config: WorkerConfig) -> Child:
        channel, theirs = Channel.pair()
        board = InFlight.prepared(mmap.mmap(-1, InFlight.size(config.threads)))
        quota = RunQuota(None if self._quota is None else self._quota.fileno())

        def live() -> None:
            WorkerProcess(theirs, board, quota).run_forked(config)

        with closing(theirs):
            try:
                process = fork(live, channel=theirs)
            except OSError:
                channel.close()
                raise
        return Child(process=process, channel=channel, board=board)

    def _spawn(self, config: WorkerConfig) -> Child:
        handed = handover()
        channel, theirs = Channel.pair()
        with closing(theirs), _zeros(InFlight.size(config.threads)) as board:
            files = [theirs.fileno(), board.fileno()]
            if self._quota is not None:
                files.append(self._quota.fileno())
            shared = InFlight.prepared(mmap.mmap(board.fileno(), 0))
            try:
                process = _popen(files)
            except OSError:
                channel.close()
                raise
        channel.send(config=message_of(config), argv=sys.argv, handover=handed)
        return Child(process=process, channel=channel, board=shared)


def _popen(files: list[int]) -> subprocess.Popen[bytes]:
    with stop_signals_blocked():
        return subprocess.Popen(  # noqa: S603 - our own command line
            [*_command(), *map(str, files)],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            pass_fds=files,
        )


def _command() -> list[str]:
    if _settings_module() is not None:
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        return [sys.executable, *flags, "-P", "-c", BOOT]
    # settings.configure(): only the program that has called it can do that again.
    words = sys.orig_argv
    at = next((index for index, word in enumerate(words) if word in COMMANDS), None)
    if at is None:
        raise ConfigurationError(
            "Worker processes cannot be started: the settings come from settings.configure(), "
            f"and this program was not started with the words '{COMMAND} worker'.\n"
            "Nobody could configure the settings in a new process.\n"
            "Fix: name a module in DJANGO_SETTINGS_MODULE, or start the worker from the command "
            "line of the program that calls settings.configure()."
        )
    return [sys.executable, *words[1:at], COMMAND, SUBCOMMAND, "--skip-checks"]


def _settings_module() -> str | None:
    found: object = settings._wrapped  # type: ignore[misc]
    while isinstance(found, UserSettingsHolder):  # overridden by a test, or configure()d
        found = found.default_settings
    return getattr(found, "SETTINGS_MODULE", None)


def _environment() -> dict[str, str]:
    module = _settings_module()
    if module is None:
        return dict(os.environ)
    path = json.dumps([entry for entry in sys.path if isinstance(entry, str)])
    return {**os.environ, "DJANGO_SETTINGS_MODULE": module, PATH: path}


def _zeros(size: int) -> IO[bytes]:
    """Return a file without a name; written, since a full disk would kill whoever maps it."""
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - of the caller
    file.write(bytes(size))
    return file
