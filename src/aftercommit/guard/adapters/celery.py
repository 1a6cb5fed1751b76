"""Celery: each message passes ``amqp.send_task_message``; in eager mode, ``apply_async``.

That of a task, and those of chains, groups and chords, which do not call the tasks' then.
"""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial, wraps
from types import ModuleType
from typing import Any

from aftercommit.errors import DispatchInTransaction
from aftercommit.guard.dispatches import Dispatch, Later, passing, someone_is_interested
from aftercommit.guard.patches import OnImport, patch

# A retry that raises is sent at once on purpose: the exception rolls the transaction back, and
# the task would never run again.
_raises: ContextVar[bool] = ContextVar("aftercommit_guard_retry", default=False)


# A task's own choice about the relay, what is kept least first; None: the settings decide.
CHOICES = ("never", None, "in_transaction", "always")
MADE = "_aftercommit_guard_send"  # attribute of an app's amqp: what was made for it


def install(on_import: OnImport) -> None:
    """Notice the messages of all apps."""
    on_import.when("celery.app.amqp", _patch_amqp)
    on_import.when("celery.app.task", _patch_task)
    on_import.when("celery.canvas", _patch_canvas)


def _patch_amqp(module: ModuleType) -> None:
    patch(module.AMQP, "send_task_message", _sending)


def _patch_task(module: ModuleType) -> None:
    patch(module.Task, "apply_async", _eager)
    patch(module.Task, "retry", _retrying)


def _patch_canvas(module: ModuleType) -> None:
    for kind in (module._chain, module.group, module._chord):
        patch(kind, "apply_async", _eager)


def _sending(original: Any) -> property:
    """Wrap the function that each app makes for itself, and keeps."""

    def send_task_message(amqp: Any) -> Callable[..., Any]:
        send = amqp.__dict__.get("send_task_message") or original.__get__(amqp)
        made = amqp.__dict__.get(MADE)
        if made is None or made[0] is not send:
            made = amqp.__dict__[MADE] = send, asking_of(amqp, send)
        return made[1]  # type: ignore[no-any-return]

    def asking_of(amqp: Any, send: Callable[..., Any]) -> Callable[..., Any]:
        def asking(producer: Any, name: str, message: Any, *args: Any, **options: Any) -> Any:
            publish = partial(send, producer, name, message, *args, **options)
            if not someone_is_interested() or _raises.get():
                return publish()
            task = amqp.app.tasks.get(name)
            return passing(
                Dispatch(
                    adapter="celery",
                    subject=name,
                    send=publish,
                    prepare=partial(_prepare, amqp.app, send, name, message, args, options),
                    body=None if task is None else _body(task, message),
                    when=getattr(task, "aftercommit", None),
                )
            )

        return asking

    def replace(amqp: Any, value: Any) -> None:
        amqp.__dict__["send_task_message"] = value  # where the original looks first

    return property(send_task_message, replace)


def _prepare(
    app: Any,
    send: Callable[..., Any],
    name: str,
    message: Any,
    args: Any,
    options: dict[str, Any],
) -> Later:
    """Serialise the arguments now: what is changed or deleted afterwards is not sent."""
    from kombu import serialization  # noqa: PLC0415 - it is there, Celery has called this

    serializer = options.get("serializer") or app.conf.task_serializer
    kind, encoding, data = serialization.dumps(message.body, serializer)
    body = serialization.loads(data, kind, encoding, accept=[kind])
    kept = message._replace(body=tuple(body) if isinstance(message.body, tuple) else body)

    def publish() -> None:
        with app.producer_pool.acquire(block=True) as producer:
            send(producer, name, kept, *args, **options)

    return Later(None, publish)


def _body(task: Any, message: Any) -> Callable[[], Any] | None:
    body = message.body
    if not isinstance(body, tuple):
        return None  # of protocol 1
    return lambda: task.apply(body[0], body[1], task_id=message.headers["id"])


def _eager(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def apply_async(self: Any, *args: Any, **options: Any) -> Any:
        run = partial(original, self, *args, **options)
        if not someone_is_interested() or _raises.get() or not self.app.conf.task_always_eager:
            return run()
        is_canvas = isinstance(self, Mapping)
        names = _sent_first(self) if is_canvas else [self.name]
        tasks = [self.app.tasks.get(name) for name in names] if is_canvas else [self]
        if not names:
            return run()  # an empty canvas
        return passing(
            Dispatch(
                adapter="celery",
                subject=", ".join(dict.fromkeys(names)),
                send=run,
                body=run,
                eager=True,
                when=_least_kept([getattr(one, "aftercommit", None) for one in tasks]),
            )
        )

    return apply_async


def _sent_first(canvas: Mapping[str, Any]) -> list[str]:
    """Return the names of the tasks whose messages a canvas sends at once, without eager mode."""
    given = canvas["kwargs"]
    match canvas.get("subtask_type"):
        case "chain":
            parts = list(given["tasks"])[:1]
        case "group":
            parts = given["tasks"]
        case "chord":
            header = given["header"]
            parts = [header] if isinstance(header, Mapping) else header
        case _:
            return [canvas["task"]]
    return [name for one in parts for name in _sent_first(one)]


def _least_kept(choices: Sequence[str | None]) -> str | None:
    return min(choices, key=lambda one: CHOICES.index(one) if one in CHOICES else 0)


def _retrying(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def retry(
        self: Any,
        args: Any = None,
        kwargs: Any = None,
        exc: Any = None,
        throw: bool = True,
        *more: Any,
        **options: Any,
    ) -> Any:
        token = _raises.set(bool(throw))
        try:
            return original(self, args, kwargs, exc, throw, *more, **options)
        except Exception as error:  # Celery's Reject, which has the real one inside
            if isinstance(reason := getattr(error, "reason", None), DispatchInTransaction):
                raise reason from None
            raise
        finally:
            _raises.reset(token)

    return retry
