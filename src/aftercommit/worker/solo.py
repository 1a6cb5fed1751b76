"""Runs suspects alone: jobs that were on a worker when it died, each in a child process."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from django.db import connections

from aftercommit.values import Ran, Released
from aftercommit.worker.cell import Cell
from aftercommit.worker.runs import Run, now

logger = logging.getLogger("aftercommit")

AFTER_MISHAP = timedelta(seconds=5)  # until a job is tried again that could not be started
KEPT_FOR = timedelta(seconds=30)  # an idle child, in case there are more suspects


class Solo:
    """A child process for each suspect; if the job kills it, nothing else is lost."""

    def __init__(
        self,
        using: str,
        *,
        ended: Callable[[Run, Ran], None],
        crashed: Callable[[Run], None],
    ) -> None:
        self._using = using
        self._ended = ended
        self._crashed = crashed
        self._lock = threading.Lock()
        self._busy: set[Cell] = set()
        self._idle: list[tuple[Cell, float]] = []
        self._warming = False
        self._stopped = False

    def submit(self, run: Run) -> None:
        """Run it alone, at once."""
        self._in_thread(self._serve, run)

    def warm_up(self) -> None:
        """Start a child: suspects are about to come, and it takes a second."""
        with self._lock:
            if self._warming or self._idle or self._stopped:
                return
            self._warming = True
        self._in_thread(self._warm)

    def trim(self) -> None:
        """End the children that have had nothing to do for a while."""
        oldest = now() - KEPT_FOR.total_seconds()
        with self._lock:
            ended = [cell for cell, since in self._idle if since < oldest]
            self._idle = [one for one in self._idle if one[1] >= oldest]
        for cell in ended:
            cell.end()

    def stop(self) -> None:
        """End all children; what they run is lost to them, and not to the queue."""
        with self._lock:
            self._stopped = True
            cells = [*self._busy, *(cell for cell, _since in self._idle)]
        for cell in cells:
            cell.kill()

    def _in_thread(self, target: Callable[..., None], *args: Run) -> None:
        name = f"aftercommit-solo-{self._using}"
        threading.Thread(target=target, args=args, name=name, daemon=True).start()

    def _warm(self) -> None:
        try:
            self._keep(Cell(self._using))
        except Exception:
            logger.exception("A process that runs suspects alone could not be started")
        finally:
            self._warming = False

    def _serve(self, run: Run) -> None:
        """Run one suspect and report how it ended."""
        try:
            ran = self._run(run)
        except Exception:
            logger.exception("Job %s: no process could be started for it", run.claim.job_id)
            ran = Ran(outcome=Released(AFTER_MISHAP))
        try:
            if ran is None:
                self._crashed(run)
            else:
                self._ended(run, ran)
        except Exception:
            # Its lease is not renewed any more, so it brings the job back.
            logger.exception("Job %s: the end of its process was not recorded", run.claim.job_id)
        finally:
            connections.close_all()

    def _run(self, run: Run) -> Ran | None:
        cell = self._take()
        ran = cell.run(run)
        with self._lock:
            self._busy.discard(cell)
        if ran is None or not cell.alive or self._stopped:
            cell.end()
        else:
            self._keep(cell)
        return ran

    def _take(self) -> Cell:
        with self._lock:
            while self._idle:
                cell, _since = self._idle.pop()
                if cell.alive:
                    self._busy.add(cell)
                    return cell
        cell = Cell(self._using)
        with self._lock:
            self._busy.add(cell)
        return cell

    def _keep(self, cell: Cell) -> None:
        with self._lock:
            self._idle.append((cell, now()))
