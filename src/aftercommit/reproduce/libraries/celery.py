"""Celery: every way to send a task ends in ``Celery.send_task``, unless tasks are eager."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import celery
from celery import canvas
from celery.app.base import Celery as App
from celery.app.task import Task
from celery.result import EagerResult
from celery.utils import uuid
from kombu import serialization

from aftercommit.relayed import is_kept
from aftercommit.reproduce.libraries import Library, Taker, noted, patched

# Whose apply_async() runs tasks of an eager app at once: they do not come to send_task().
EAGER = (Task, canvas._chain, canvas.group, canvas._chord)
APPLIED = ("task_id", "link", "link_error", "headers")


class Answer(EagerResult):  # type: ignore[misc]
    """What the dispatch returns; it knows the task's end once that has run."""

    def end(self, result: EagerResult) -> None:
        self._state, self._result = result._state, result._result
        self._traceback = result._traceback


@contextmanager
def intercept(taker: Taker) -> Iterator[None]:
    """Take all tasks and chords, of eager apps, too."""
    send_task = App.send_task

    def sent(self: App, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        options["task_id"] = options.get("task_id") or uuid()
        task = self.tasks.get(name)
        kept = is_kept("celery", getattr(task, "aftercommit", None))
        answer: Any = Answer(options["task_id"], None, "PENDING", name=name)
        given = _as_message(self, task, args, kwargs, options)
        run = _unknown if task is None else _runner(task, *given, options, answer.end)
        if kept:
            answer = send_task(self, name, args, kwargs, **options)
        taker.dispatch(name, *given, run=run, id=options["task_id"], kept=kept)
        return answer

    def chord_sent(self: Any, args: Any = (), kwargs: Any = None, **options: Any) -> Any:
        # It needs a result backend to count its tasks, and here runs in one go.
        name = f"chord({self.tasks}, {self.body})"
        answer = Answer(options.get("task_id") or uuid(), None, "PENDING", name=name)

        def run() -> None:
            _ended(self.clone().apply(args, kwargs), answer.end)

        taker.dispatch(name, run=run, id=answer.id)
        return answer

    with ExitStack() as stack:
        for app in celery._state._get_active_apps():
            if app.conf.task_always_eager:
                app.conf.task_always_eager = False
                stack.callback(setattr, app.conf, "task_always_eager", True)
        stack.enter_context(patched(App, send_task=sent))
        stack.enter_context(patched(canvas._chord, apply_async=chord_sent))
        yield


@contextmanager
def watch(note: Callable[[], None]) -> Iterator[None]:
    """Note all dispatches."""
    with ExitStack() as stack:
        stack.enter_context(noted(note, App, "send_task"))
        for kind in EAGER:
            stack.enter_context(noted(note, kind, "apply_async"))
        yield


def _as_message(app: App, task: Any, args: Any, kwargs: Any, options: Any) -> tuple[Any, Any]:
    """Return the arguments as a worker gets them. Raises what serialising them raises."""
    own = getattr(task, "serializer", None)
    kind = options.get("serializer") or own or app.conf.task_serializer
    found = serialization.dumps((list(args or ()), kwargs or {}), kind)
    content_type, encoding, data = found
    again = serialization.loads(data, content_type, encoding, accept=[content_type])
    return tuple(again[0]), dict(again[1])


def _unknown() -> None:
    """Do nothing: the task is one of another project."""


def _runner(
    task: Any, args: Any, kwargs: Any, options: Any, end: Callable[[Any], None]
) -> Callable[[], None]:
    chain = list(options.get("chain") or ())
    given = {name: options[name] for name in APPLIED if name in options}

    def run() -> None:
        result = task.apply(args, kwargs, throw=False, **given)
        if chain and result.successful():
            rest = list(chain)
            following = canvas.maybe_signature(rest.pop(), app=task.app)
            following.apply_async((result.result,), chain=rest)
        _ended(result, end)

    return run


def _ended(result: Any, end: Callable[[Any], None]) -> None:
    if isinstance(result, EagerResult):
        end(result)
        if result.failed() and isinstance(result.result, BaseException):
            raise result.result


LIBRARY = Library(intercept=intercept, watch=watch)
