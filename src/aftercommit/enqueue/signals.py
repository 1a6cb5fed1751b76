"""Listeners of Django's task signals."""

from django.dispatch import Signal

from aftercommit._compat import tasks_signals
from aftercommit.events import Listeners


def listeners_of(signal: Signal, name: str) -> Listeners:
    """Return the listeners of a task signal of Django, which has its own log receiver."""
    own = getattr(tasks_signals, f"log_{name}", None)
    return Listeners(signal, log=tasks_signals.logger, own=id(own))
