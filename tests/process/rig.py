"""Starts real workers, each tree in a session of its own, and does harm to them."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import connections, transaction

from aftercommit.models import Job
from aftercommit.store import store_for
from tests.app.notes import FOLDER
from tests.liveness import PREFIX
from tests.process.checker import ENDED, Report, check
from tests.process.ledger import Ledger
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
# What takes a second or two, on a machine that is much too busy.
STARTED = timedelta(seconds=120)
STOPPED = timedelta(seconds=60)
QUIET = timedelta(seconds=120)
LAST_LINES = 25
# States of a process, as /proc shows them. D: in a call that nothing interrupts, such as
# vfork() with a stopped child; it stands still when that is over.
DEAD = {"Z", "X"}
STANDING = DEAD | {"T", "t", "D"}
BEGIN_AND_END = {"begin": 1, "end": -1}
# Nobody listens on port 1, and no file is in a folder that does not exist.
NOWHERE = {"HOST": "127.0.0.1", "PORT": "1", "NAME": "/nowhere/to/be/found"}


class Tree:
    """A command and all processes that it starts, in a session of its own."""

    def __init__(
        self,
        command: list[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        terminal: int | None = None,
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=terminal or output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def ended(self) -> bool:
        """Whether its first process is gone."""
        return self._process.poll() is not None

    def signal(self, number: int) -> None:
        """Send a signal to its first process, as an init system does."""
        self._process.send_signal(number)

    def signal_all(self, number: int) -> None:
        """Send a signal to all of it, as a terminal does."""
        os.killpg(self.pid, number)

    def stand_still(self) -> None:
        """Stop all of it; return when no thread takes one more step."""
        self.signal_all(signal.SIGSTOP)
        wait_until(
            lambda: all(state in STANDING for state in thread_states(self.pid)),
            deadline=STOPPED,
            why=f"session {self.pid} stands still",
        )

    def kill(self) -> None:
        """Kill -9 all of it at once, as a power cut would; also what is left of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def wait(self, deadline: timedelta = STOPPED) -> int:
        """Wait for the end; return the exit status."""
        try:
            return self._process.wait(deadline.total_seconds())
        except subprocess.TimeoutExpired:
            raise AssertionError(f"Did not end within {deadline}:\n{self.last_words}") from None

    @property
    def output(self) -> str:
        """Everything that it has written so far."""
        return self.log.read_text(errors="replace")

    @property
    def last_words(self) -> str:
        """The end of that."""
        return "\n".join(self.output.splitlines()[-LAST_LINES:])


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is no corpse that waits for its parent."""
    return bool(facts := _stat(f"/proc/{pid}/stat")) and facts[0] not in DEAD


def states(session: int) -> list[str]:
    """Return the state of each process in a session, in one letter."""
    facts = [_stat(process / "stat") for process in Path("/proc").glob("[0-9]*")]
    return [one[0] for one in facts if one and int(one[3]) == session]


def thread_states(session: int) -> list[str]:
    """Return the state of each thread of each process in a session, in one letter."""
    of_session = [
        process
        for process in Path("/proc").glob("[0-9]*")
        if (facts := _stat(process / "stat")) and int(facts[3]) == session
    ]
    threads = [_stat(thread) for process in of_session for thread in process.glob("task/*/stat")]
    return [facts[0] for facts in threads if facts]


def _stat(file: Path | str) -> list[str]:
    """Return what the kernel says after the name: state, parent, group, session and more."""
    try:
        return Path(file).read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return []


class Rig:
    """The processes of one test, what they note, and the ledger of their database."""

    def __init__(self, folder: Path, *, using: str = "default", seed: int) -> None:
        self.folder = folder
        self.using = using
        self.seed = seed
        self.random = random.Random(seed)
        self.ledger = Ledger(using)
        self.trees: list[Tree] = []
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            FOLDER: str(folder),
            f"{PREFIX}TASK_MODULES": "tests.app.chores,tests.process.badge",
        }
        self._offset = 0
        # By what they say; None: all.
        self._notes: defaultdict[str | None, list[dict[str, Any]]] = defaultdict(list)
        self._open_runs: Counter[tuple[int, int]] = Counter()  # by tree and process

    @property
    def vendor(self) -> str:
        """The database under test in Django's words."""
        return connections[self.using].vendor

    # ---- processes --------------------------------------------------------------

    def settings(self, *, modules: str = "", **options: object) -> None:
        """Give all workers that are started from now on these options of TASKS."""
        if modules:
            self.environment[f"{PREFIX}TASK_MODULES"] += f",{modules}"
        for name, value in options.items():
            self.environment[PREFIX + name.upper()] = str(value)

    def settings_module(self, *changes: str) -> None:
        """Start from now on with the tests' settings and these changes to them."""
        lines = [f"NOWHERE = {NOWHERE}", "from tests.settings import *", *changes]
        (self.folder / "rig_settings.py").write_text("\n".join(lines) + "\n")
        self.on_path()
        self.environment["DJANGO_SETTINGS_MODULE"] = "rig_settings"

    def on_path(self) -> None:
        """Let what is started from now on import modules from the rig's folder."""
        path = [str(self.folder), self.environment.get("PYTHONPATH", "")]
        self.environment["PYTHONPATH"] = os.pathsep.join(path)

    def run(self, *command: str, terminal: int | None = None, **more: str) -> Tree:
        """Start any Python command."""
        tree = Tree(
            [sys.executable, *command],
            environment=self.environment | more,
            log=self.folder / f"tree-{len(self.trees)}.log",
            terminal=terminal,
        )
        self.trees.append(tree)
        return tree

    def django(self, *arguments: str, **more: str) -> Tree:
        """Start a management command."""
        return self.run("-m", "django", *arguments, **more)

    def worker(
        self, *arguments: str, processes: int = 1, ready: bool = True, **more: str
    ) -> Tree:
        """Start a worker for the rig's database, and wait until it serves it.

        The processes of every second one are new Pythons, of the others forks.
        """
        ways = ("--fork", "--no-fork")
        way = () if {*ways} & {*arguments} else ways[len(self.trees) % 2 :][:1]
        alias = () if "--backend" in arguments else ("--backend", "default")
        many = ("--processes", str(processes))
        tree = self.django("aftercommit", "worker", *alias, *many, *way, *arguments, **more)
        if ready:
            self.wait_started(tree, processes)
        return tree

    def wait_started(self, tree: Tree, processes: int = 1) -> None:
        """Wait until so many processes of a tree serve their databases."""
        wait_until(
            lambda: len(self.children(tree)) >= processes or tree.ended,
            deadline=STARTED,
            why="the worker has started",
        )
        assert self.children(tree), f"The worker did not start:\n{tree.last_words}"

    def wait_stopping(self, trees: Iterable[Tree]) -> None:
        """Wait until workers know that they are to stop: then they claim nothing more."""
        for tree in trees:
            for pid in self.children(tree):
                self.wait_note("stopping", pid=pid)

    def children(self, tree: Tree) -> list[int]:
        """Return the worker processes that a tree has had so far, the latest last."""
        return list(
            dict.fromkeys(one["pid"] for one in self.notes("worker_started", tree=tree.pid))
        )

    def close(self) -> None:
        """End everything; show what was said, for the report of a failed test."""
        for tree in self.trees:
            tree.kill()
        for tree in self.trees:
            print(f"---- {tree.log.name}, last lines\n{tree.last_words}")

    # ---- notes and gates --------------------------------------------------------

    def notes(self, what: str | None = None, **facts: object) -> list[dict[str, Any]]:
        """Return what the processes have noted so far, or what of it matches, in order."""
        self._read_notes()
        wanted = facts.items()
        return [one for one in self._notes[what] if all(one.get(k) == v for k, v in wanted)]

    def wait_note(self, what: str, *, times: int = 1, **facts: object) -> dict[str, Any]:
        """Wait until something is noted (so often); return that note."""
        found = wait_until(
            lambda: self.notes(what, **facts)[times - 1 :],
            deadline=STARTED,
            why=f"{times} x {what} {facts}",
        )
        return found[0]

    def busy(self, tree: Tree) -> list[int]:
        """Return the living processes of a tree that have begun runs and not ended them."""
        self._read_notes()
        open_runs = self._open_runs.items()
        at_work = [pid for (of, pid), number in open_runs if of == tree.pid and number > 0]
        return [pid for pid in at_work if is_alive(pid)]

    def _read_notes(self) -> None:
        file = self.folder / "notes"
        if not file.exists():
            return
        with file.open("rb") as lines:
            lines.seek(self._offset)
            whole, _, _rest = lines.read().rpartition(b"\n")
        if whole:
            self._offset += len(whole) + 1
            for line in whole.splitlines():
                self._take_in(json.loads(line))

    def _take_in(self, one: dict[str, Any]) -> None:
        for kind in (None, one["what"]):
            self._notes[kind].append(one)
        if one["what"] in BEGIN_AND_END:
            self._open_runs[one["tree"], one["pid"]] += BEGIN_AND_END[one["what"]]

    def open_gate(self, name: str) -> None:
        """Let tasks pass that wait for this."""
        (self.folder / name).touch()

    # ---- jobs -------------------------------------------------------------------

    def enqueue(self, task: Any, *args: Any, **kwargs: Any) -> str:
        """Enqueue on the rig's database, whichever the backend names; return the job's id."""
        return self.enqueue_many(task, [(args, kwargs)])[0]

    def enqueue_many(self, task: Any, calls: list[tuple[Any, dict[str, Any]]]) -> list[str]:
        """Enqueue many calls of one task."""
        backend = task.get_backend()
        jobs = [backend.new_job(task, args, kwargs) for args, kwargs in calls]
        return [str(job_id) for job_id in store_for(self.using).insert(jobs)]

    def job(self, job_id: str) -> Job:
        """Return a job as it is now."""
        return Job.objects.using(self.using).get(id=job_id)

    def change_job(self, job_id: str, **columns: object) -> None:
        """Change a row behind everybody's back."""
        Job.objects.using(self.using).filter(id=job_id).update(**columns)

    def enqueue_crashed(self, task: Any, *args: Any, **kwargs: Any) -> str:
        """Enqueue a job that looks, from its commit on, as if its worker had died."""
        with transaction.atomic(using=self.using):
            job_id = self.enqueue(task, *args, **kwargs)
            self.suspect(job_id)
        return job_id

    def suspect(self, job_id: str) -> None:
        """Let a job look as if its worker had died: then it runs where all such jobs do."""
        self.change_job(job_id, crashes=1, attempts=1)

    def wait_rescued(self, number: int) -> None:
        """Wait until so many jobs have a crash on their account."""
        crashed = Job.objects.using(self.using).filter(crashes__gt=0)
        wait_until(lambda: crashed.count() >= number, deadline=STARTED, why="jobs are rescued")

    def forget_crashes(self) -> None:
        """Let ready jobs look as if no worker had died with them."""
        Job.objects.using(self.using).filter(state="ready").update(crashes=0)

    def running(self) -> int:
        """Return how many jobs are running."""
        return Job.objects.using(self.using).filter(state="running").count()

    def open_jobs(self) -> int:
        """Return how many have not ended."""
        return Job.objects.using(self.using).exclude(state__in=ENDED).count()

    def wait_quiet(self, deadline: timedelta = QUIET) -> None:
        """Wait until every job has ended."""
        wait_until(lambda: not self.open_jobs(), deadline=deadline, why="all jobs have ended")

    def check(self, **expected: Any) -> Report:
        """Check all that is left, and print the seed with the counters."""
        report = check(self.ledger.events(), self.notes, using=self.using, **expected)
        print(f"seed {self.seed}, {self.vendor}: {report}")
        return report
