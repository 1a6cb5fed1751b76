"""Kill -9 at random moments, under load, until enough of it has hit."""

import os
import signal
import time
from datetime import timedelta

from tests.app.chores import KINDS
from tests.app.models import Effect
from tests.process.checker import key_of
from tests.process.rig import STARTED, Job, Rig, Tree
from tests.waiting import wait_until

BACKLOG = 250  # jobs that wait at any time: a kill of an idle worker proves nothing
BATCHES, SIZE = 100, 6  # of one enqueuer
ENQUEUERS_TOO = 0.2  # of the kills
LIFE = (0.2, 1.5)  # seconds: long enough that some live to rescue what others leave


class Storm:
    """Workers and enqueuers on one rig, and what keeps them from their work."""

    def __init__(self, rig: Rig, *, sizes: tuple[int, ...], longest: float) -> None:
        self.rig = rig
        self.kills = 0
        self.enqueuers_killed = 0
        self._sizes = sizes  # processes of each tree
        self._longest = longest
        self._workers = [rig.worker(processes=size, ready=False) for size in sizes]
        self._lives = [rig.random.uniform(*LIFE) for _size in sizes]
        self._enqueuers: list[Tree] = []
        self._keys: list[str] = []

    def rage(self, *, kills: int, hits: int, deadline: timedelta, enqueuers: int = 0) -> None:
        """Kill until so many worker processes are dead, and so many enqueuers.

        So many of the workers must have lost a run.
        """
        ends = time.monotonic() + deadline.total_seconds()
        while (
            self.kills < kills
            or self.enqueuers_killed < enqueuers
            or self.rig.ledger.workers_hit() < hits
        ):
            assert time.monotonic() < ends, f"{self}: {self.rig.ledger.workers_hit()} hit"
            self._kill_somebody()

    def calm(self, *, jobs: int) -> None:
        """Enqueue what is missing, and wait for the end of everything."""
        for enqueuer in self._enqueuers:
            enqueuer.kill()
        self._enqueue(jobs - Job.objects.using(self.rig.using).count())
        self.rig.wait_quiet()

    def __str__(self) -> str:
        """Return what has been done."""
        return f"{self.kills} worker processes and {self.enqueuers_killed} enqueuers killed"

    # ---- load -------------------------------------------------------------------

    def _keep_busy(self) -> None:
        waiting = self.rig.open_jobs()
        if waiting < BACKLOG:
            self._enqueue(BACKLOG - waiting)
        if not self._enqueuers or self._enqueuers[-1].ended:
            name = f"batch{len(self._enqueuers)}"
            call = ("-m", "tests.process.enqueuer", name, BATCHES, SIZE, self._longest)
            self._enqueuers.append(self.rig.run(*map(str, call)))

    def _enqueue(self, number: int) -> None:
        choices = [0, 0, self._longest / 5, self._longest]
        for task in KINDS:
            first = len(self._keys)
            keys = [f"bulk:{first + count}" for count in range(max(number, 0) // len(KINDS) + 1)]
            self.rig.enqueue_many(
                task, [((key,), {"lasting": self.rig.random.choice(choices)}) for key in keys]
            )
            self._keys += keys

    # ---- harm -------------------------------------------------------------------

    def _kill_somebody(self) -> None:
        number = self.rig.random.choice(self._wait_ripe())
        self.kills += self._kill(number)
        self._lives[number] = self.rig.random.uniform(*LIFE)
        if self.rig.random.random() < ENQUEUERS_TOO:
            self._enqueuers[-1].kill()
            self.enqueuers_killed += 1

    def _wait_ripe(self) -> list[int]:
        return wait_until(self._ripe, deadline=STARTED, why="some worker is at work")

    def _ripe(self) -> list[int]:
        """Return the trees that have lived long enough and are at work; there is always work."""
        self._keep_busy()
        return [number for number in range(len(self._workers)) if self._is_ripe(number)]

    def _is_ripe(self, number: int) -> bool:
        started = self.rig.notes("worker_started", tree=self._workers[number].pid)
        if not started or time.monotonic() < started[-1]["at"] + self._lives[number]:
            return False
        return bool(self.rig.busy(self._workers[number]))

    def _kill(self, number: int) -> int:
        """Kill something of a tree; return how many worker processes that was."""
        tree, size = self._workers[number], self._sizes[number]
        (what,) = self.rig.random.choices(["child", "tree", "supervisor"], [6, 3, 1])
        if what == "child":
            if not (busy := self.rig.busy(tree)):
                return 0
            os.kill(self.rig.random.choice(busy), signal.SIGKILL)  # it will be replaced
            return 1
        if what == "supervisor":
            tree.signal(signal.SIGKILL)  # its children end by themselves
        else:
            tree.kill()
        self._workers[number] = self.rig.worker(processes=size, ready=False)
        return size if what == "tree" else 0

    # ---- what is to be expected -------------------------------------------------

    def expected(self) -> dict[str, set[str]]:
        """Return the keys that must be jobs and those that must not, for the checker."""
        noted = {one["batch"]: one for one in self.rig.notes("batch")}
        kept = set(Effect.objects.filter(job_id=None).values_list("key", flat=True))
        certain = {batch for batch, one in noted.items() if one["kept"]}
        assert certain <= kept, "a transaction that was committed is lost"
        assert not kept & (noted.keys() - certain), "a transaction that was rolled back is there"
        batches = {f"{batch}:{number}" for batch in kept for number in range(SIZE)}
        jobs = map(key_of, Job.objects.using(self.rig.using).all())
        others = {key for key in jobs if key.startswith("batch") and key not in batches}
        return {"committed": batches | set(self._keys), "rolled_back": others}
