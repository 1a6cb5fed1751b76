"""Runs the body under a plan, in copies of the databases, and returns what it left."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableSequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from django.core import mail
from django.db import connections

from aftercommit.reproduce import libraries
from aftercommit.reproduce.connection import watched
from aftercommit.reproduce.copies import Base, Copy, inside, pinned
from aftercommit.reproduce.dispatches import Dispatch, Ran
from aftercommit.reproduce.own_thread import start_watching, stop_watching
from aftercommit.reproduce.play import Event, Play, ProcessDied
from aftercommit.reproduce.rows import Rows, read_rows
from aftercommit.reproduce.schedules import Plan, Schedule

Body = Callable[[], object]
Effects = Mapping[str, MutableSequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one run left, and how it went."""

    plan: Plan
    error: BaseException | None  # of the body
    ran: tuple[Ran, ...]
    rows: Mapping[str, Rows]  # by alias
    effects: Mapping[str, Counter[str]]
    events: tuple[Event, ...]
    dispatches: tuple[Dispatch, ...]
    begun: Mapping[int, tuple[str, ...]]
    callbacks: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where the body runs, again and again from the same state."""

    copies: list[Copy]
    base: Base
    effects: Effects
    replicas: Mapping[str, str]  # primaries by replica

    def run(self, body: Body, plan: Plan) -> Result:
        """Run the body and its tasks once."""
        with ExitStack() as stack:
            stack.enter_context(inside(self.copies, self.base, self.replicas))
            stack.enter_context(_emptied(self.effects))
            lagging = self.replicas if plan.schedule is Schedule.STALE else {}
            play = Play(plan, replicas=stack.enter_context(pinned(lagging)))
            start_watching()
            stack.callback(stop_watching)
            play.drains = stack.enter_context(libraries.intercepted(play, libraries.loaded()))
            with ExitStack() as watching:
                for copy in self.copies:
                    watching.enter_context(watched(connections[copy.alias], play))
                error = _call(body, play)
            return self._result(play, error)

    def _result(self, play: Play, error: BaseException | None) -> Result:
        own = ((copy.alias, copy.schema) for copy in self.copies)
        rows = {alias: read_rows(connections[alias], schema) for alias, schema in own}
        return Result(
            plan=play.plan,
            error=error,
            ran=tuple(play.ran),
            rows=rows,
            effects={name: Counter(map(_text, seen)) for name, seen in self.effects.items()},
            events=tuple(play.events),
            dispatches=tuple(play.dispatches),
            begun=dict(play.begun),
            callbacks=dict(play.callbacks),
        )


def _call(body: Body, play: Play) -> BaseException | None:
    """Run the body, end its transactions as the end of a process does, and its tasks."""
    error: BaseException | None = None
    try:
        body()
    except ProcessDied:
        pass
    except Exception as raised:
        error = raised
    finally:
        _end_sessions(all_of_them=play.is_dead)
    play.finish()
    return error


def _end_sessions(*, all_of_them: bool) -> None:
    """Let no lock of the body remain, whatever it did without ``atomic()``.

    The sessions of a process end with it, and so do their locks, such as advisory ones.
    """
    for connection in connections.all(initialized_only=True):
        if all_of_them or connection.in_atomic_block or not connection.autocommit:
            connection.close()


@contextmanager
def _emptied(effects: Effects) -> Iterator[None]:
    """Let the lists be empty in the block, and afterwards what they were."""
    before = {name: list(seen) for name, seen in effects.items()}
    for seen in effects.values():
        del seen[:]
    try:
        yield
    finally:
        for name, seen in effects.items():
            seen[:] = before[name]


def _text(effect: Any) -> str:
    if isinstance(effect, mail.EmailMessage):
        return f"{effect.subject!r} to {', '.join(effect.recipients())}: {effect.body!r:.60}"
    return repr(effect)
