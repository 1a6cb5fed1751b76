"""Work that asks a database, beside a supervisor that must not."""

import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from aftercommit.values import NO_TIME
from aftercommit.worker.processes.channel import Channel
from aftercommit.worker.processes.forking import ForkedProcess, fork, forking

TO_DIE = timedelta(seconds=2)  # after kill -9, which a process in the kernel hears later

Work = Callable[[Channel], None]  # it is over when the channel is closed at the other end


class Aside:
    """Does it in a fork where that is safe, since with a thread worker processes cannot be forks.

    A fork that has not ended when it is over is killed; a thread ends with this process.
    """

    def __init__(self, work: Work, *, name: str, may_fork: bool) -> None:
        self._ours, theirs = Channel.pair()
        self._process: ForkedProcess | None = None
        self._thread = threading.Thread(
            target=_do, args=[work, theirs], name=f"aftercommit-{name}", daemon=True
        )
        if may_fork and forking.is_safe():
            # The system may refuse another process, and perhaps not another thread.
            with suppress(OSError):
                self._process = fork(lambda: _do(work, theirs), channel=theirs)
                theirs.close()
        if self._process is None:
            self._thread.start()
        _at_work.add(self)

    def tell(self, **message: Any) -> bool:
        """Send a message to the work; it is dropped, and False, while the work does not read."""
        return self._ours.send(**message)

    def ended_within(self, limit: timedelta) -> bool:
        """Wait for the end of the work; True if it has ended."""
        if self._process is None:
            self._thread.join(limit.total_seconds())
            return not self._thread.is_alive()
        try:
            self._process.wait(limit.total_seconds())
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, limit: timedelta) -> None:
        """Say that it is over, and wait for the end."""
        self._ours.close()
        if not self.ended_within(limit) and self._process is not None:
            self._process.kill()
            self.ended_within(TO_DIE)
        _at_work.discard(self)


_at_work: set[Aside] = set()


def bury_asides() -> None:
    """Forget those that have ended; a fork stays in the list of processes until then."""
    for one in tuple(_at_work):
        if one.ended_within(NO_TIME):
            one.end(NO_TIME)


def _do(work: Work, channel: Channel) -> None:
    try:
        work(channel)
    finally:
        channel.close()
