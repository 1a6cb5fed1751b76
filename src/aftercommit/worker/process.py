"""A worker process as its supervisor sees it."""

import contextlib
import threading
from multiprocessing.connection import Connection
from typing import Any

from aftercommit import log as telemetry
from aftercommit.options.conf import WorkerConfig
from aftercommit.worker.board import Board
from aftercommit.worker.child import end_with_parent
from aftercommit.worker.claiming.capacity import Tickets
from aftercommit.worker.worker import Worker, end_process, handle_signals


class WorkerProcess:
    """Runs one ``Worker``; obeys the supervisor's words and reports to it."""

    def __init__(self, config: WorkerConfig, pipe: Connection, left: Any, board: Any) -> None:
        telemetry.show_log()
        telemetry.write_log()
        self._pipe = pipe
        self._reported = (0, 0)
        self._worker = Worker(config, tickets=Tickets(left), board=Board(board))

    def run(self) -> None:
        """Work to the end, then leave the process."""
        handle_signals(self._worker)
        end_with_parent(self._worker.stop)
        threading.Thread(target=self._obey, name="aftercommit-orders", daemon=True).start()
        status = self._worker.run(every=self._report)
        self._report(self._worker)
        end_process(status)

    def _obey(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                word = self._pipe.recv()
                if word == "hurry":
                    self._worker.stop_now()
                else:
                    self._worker.stop()

    def _report(self, worker: Worker) -> None:
        numbers = (worker.done, worker.running)
        if numbers != self._reported:
            self._reported = numbers
            with contextlib.suppress(OSError):
                self._pipe.send(numbers)
