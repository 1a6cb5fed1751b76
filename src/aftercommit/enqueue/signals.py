"""The task signals of Django: who listens, and how they are sent."""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from django.dispatch import Signal

from aftercommit import events
from aftercommit._compat import BACKPORT, beside, tasks_signals
from aftercommit.events import Listeners

# The level of the end of a job that somebody has decided; None: that of Django.
_worth: ContextVar[int | None] = ContextVar("aftercommit_worth", default=None)
_sent_already: ContextVar[bool] = ContextVar("aftercommit_sent_already", default=False)


class TaskSignal:
    """A task signal of Django, and that of the backport beside it; see ``_compat``."""

    def __init__(self, name: str, *, send: Callable[..., Any] = events.send) -> None:
        self._name = name
        self._send = send
        self._own_log = f"log_{name}"
        self._signal: Signal = getattr(tasks_signals, name)
        own = getattr(tasks_signals, self._own_log, None)
        self._listeners = Listeners(self._signal, log=tasks_signals.logger, own=id(own))

    def any(self, level: int) -> bool:
        """Return whether anybody listens; ``level`` is that of the line in Django's log."""
        return self._listeners.any(level) or self._backports() is not None

    @property
    def has_others(self) -> bool:
        """Whether it has receivers besides those of the two libraries, which only log."""
        return self._listeners.has_others or self._backports() is not None

    def send_decided(self, *, sender: object, task_result: Any) -> None:
        """Send it for an end that somebody has decided, which is no error in Django's log."""
        tasks_signals.logger.addFilter(_by_worth)  # does nothing if it is there
        token = _worth.set(logging.INFO)
        try:
            self.send(sender=sender, task_result=task_result)
        finally:
            _worth.reset(token)

    def send(self, *, sender: object, task_result: Any) -> None:
        """Send it; an exception of a receiver is logged."""
        self._send(self._signal, sender=sender, task_result=task_result)
        if (backports := self._backports()) is not None:
            with _Silence():
                self._send(backports, sender=sender, task_result=task_result)

    def _backports(self) -> Signal | None:
        """Return the signal of the backport if it has a receiver beside the backport's log."""
        signal: Signal | None = beside("signals", self._name)
        if signal is None or not signal.receivers:
            return None
        own = id(beside("signals", self._own_log))
        return signal if any(one[0][0] != own for one in signal.receivers) else None


class _Silence:
    """Drops what the backport's log receivers write: Django's have written the same line."""

    def __enter__(self) -> None:
        logging.getLogger(BACKPORT).addFilter(_is_new)  # does nothing if it is there
        self._token = _sent_already.set(True)

    def __exit__(self, *_: object) -> None:
        _sent_already.reset(self._token)


def _by_worth(record: logging.LogRecord) -> bool:
    """Lower the level of a line; return whether it is still written."""
    worth = _worth.get()
    if worth is None or record.levelno <= worth:
        return True
    record.levelno, record.levelname, record.exc_info = worth, logging.getLevelName(worth), None
    return tasks_signals.logger.isEnabledFor(worth)


def _is_new(record: logging.LogRecord) -> bool:
    return not _sent_already.get()


# In the caller's thread: what is no Exception ends the call.
enqueued = TaskSignal("task_enqueued", send=Signal.send_robust)
started = TaskSignal("task_started")
finished = TaskSignal("task_finished")
