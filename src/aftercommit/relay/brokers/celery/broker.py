"""Celery: every way to send a task ends in ``Celery.send_task``."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any

import celery
from celery.app.base import Celery as App
from celery.app.task import Task
from celery.contrib.django.task import DjangoTask
from celery.result import AsyncResult, ResultSet
from celery.signals import task_postrun
from django.utils.module_loading import import_string
from kombu.utils.uuid import uuid

from aftercommit.enqueue.transactions import open_aliases
from aftercommit.errors import ConfigurationError
from aftercommit.relay.brokers.base import Away, Broker, Message, Outbox, Report, publish_or_keep
from aftercommit.relay.brokers.celery.link import (
    AWAY,
    Link,
    away_errors,
    connect,
    logins,
    server,
    servers,
)
from aftercommit.relay.brokers.celery.recorder import Recorder, quieten_signals, recording
from aftercommit.relay.brokers.hosts import same_host
from aftercommit.relay.brokers.logins import Login
from aftercommit.relay.brokers.per_thread import PerThread
from aftercommit.relay.brokers.reachable import is_reachable
from aftercommit.relay.brokers.servers import Places, not_kept
from aftercommit.relay.brokers.unsent import parts, refusing

logger = logging.getLogger("aftercommit")

_raises: ContextVar[bool] = ContextVar("aftercommit_celery_retry_raises", default=False)
# What to send when the run of a task, and so its transactions, have ended; by the task's id.
_owed: dict[str, Callable[[], Any]] = {}


class Celery(Broker):
    """Celery, with any transport of kombu."""

    name = "celery"

    def __init__(self) -> None:
        super().__init__()
        self._links = PerThread(connect)

    def capture(self, outbox: Outbox) -> None:
        """Ask the outbox in ``Celery.send_task`` of all apps."""
        App.send_task = _asking(outbox, App.send_task)
        for name in ("delay_on_commit", "apply_async_on_commit"):
            setattr(DjangoTask, name, _at_once(outbox, getattr(DjangoTask, name)))
        Task.retry = _marking(Task.retry)
        AsyncResult.get = AsyncResult.wait = refusing(AsyncResult.get, parts)
        for name in ("join", "join_native"):
            setattr(ResultSet, name, refusing(getattr(ResultSet, name), parts))
        quieten_signals()
        task_postrun.connect(_pay, dispatch_uid="aftercommit.relay.publish")

    def publish(self, content: dict[str, Any]) -> None:
        """Publish with kombu's producer; return when RabbitMQ has confirmed the message."""
        with self._link(self._app_of(content)) as link:
            link.publish(content, arrived=lambda: None)
            link.wait()

    def publish_many(self, contents: Mapping[int, dict[str, Any]], report: Report) -> None:
        """Publish all, then wait until RabbitMQ has confirmed them."""
        apps = {number: self._app_of(content) for number, content in contents.items()}
        for app in {id(one): one for one in apps.values()}.values():
            with self._link(app) as link:
                for number, content in contents.items():
                    if apps[number] is app:
                        link.publish(content, arrived=partial(report, number, None))
                link.wait()

    def _app_of(self, content: dict[str, Any]) -> App:
        """Return the app that sent a message."""
        for path in self.options.get("apps", ()):
            import_string(path)  # the settings name it, not the row
        name, paths = content["app"], content.get("paths")
        if paths is None and name is None:
            return celery.current_app  # an earlier version has kept it
        apps = [_places.find(paths)] if paths else _apps_called(name)
        if len(apps) != 1 or apps[0] is None:
            raise ConfigurationError(
                f"The Celery app {paths or name!r} is not known in this process, or not the only "
                "one of its name.\n"
                "Its message cannot be published, and ends as failed.\n"
                'Fix: OPTIONS = {"relay": {"celery": {"apps": ["site.celery.app"]}}}, with the '
                "path of each app, then retry it."
            )
        return apps[0]

    @contextmanager
    def _link(self, app: App) -> Iterator[Link]:
        """Yield this thread's link to an app's broker. Raises ``Away`` for connection errors."""
        try:
            with self._links.of(app) as link:
                yield link
        except away_errors(app) as error:
            raise Away(str(error)) from error

    def with_headers(self, content: dict[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
        """Return a message whose consumers find the headers among those of the message."""
        publishes = [
            {**one, "headers": {**headers, **one["headers"]}} for one in content["publishes"]
        ]
        return {**content, "publishes": publishes}

    def logins(self) -> list[Login]:
        """Return the servers of the apps in the options, or of the current one."""
        apps = [import_string(path) for path in self.options.get("apps", ())]
        return [one for app in apps or [celery.current_app] for one in logins(app)]

    def close(self) -> None:
        """Close the connections of all threads."""
        self._links.close()


def _asking(outbox: Outbox, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def send_task(self: App, name: str, *args: Any, **options: Any) -> Any:
        options["task_id"] = options.get("task_id") or uuid()
        task = self._tasks[name] if name in self._tasks else None  # noqa: SIM401 - may lack get
        when = getattr(task, "aftercommit", None)
        publish = partial(original, self, name, *args, **options)
        if _raises.get() and open_aliases():
            # A retry of a running task, which raises after this, perhaps out of atomic(). If
            # the message were rolled back, the task would never run again.
            try:
                return publish()
            except AWAY:
                if outbox.alias_if_away("celery", when=when) is None or _fault(self, options):
                    raise
                _owed[options["task_id"]] = partial(send_task, self, name, *args, **options)
                return self.AsyncResult(options["task_id"])

        def keep(using: str) -> Any:
            recorder = Recorder(self)
            options.pop("connection", None)
            options.pop("publisher", None)
            options["producer"] = recorder
            _quieten(self.backend)
            with recording():
                result = original(self, name, *args, **options)
            content = {**_address(self), "publishes": recorder.published}
            message = Message(
                broker="celery",
                message_id=options["task_id"],
                name=options.get("shadow") or name,
                content=content,
            )
            outbox.keep(message, using=using)
            recorder.announce(name, using=using)
            return result

        return publish_or_keep(
            outbox,
            "celery",
            when=when,
            away=AWAY,
            publish=publish,
            keep=keep,
            fault=lambda: _fault(self, options),
            there=lambda: is_reachable(self, lambda: servers(self)),
        )

    return send_task


def _at_once(outbox: Outbox, original: Callable[..., Any]) -> Callable[..., Any]:
    """Keep a message instead of a callback, which the process may not live to call."""
    plain = original.__name__.removesuffix("_on_commit")

    @wraps(original)
    def send(self: Any, *args: Any, **options: Any) -> None:
        when = getattr(self, "aftercommit", None)
        if self.app.conf.task_always_eager or outbox.alias("celery", when=when) is None:
            original(self, *args, **options)
        else:
            getattr(self, plain)(*args, **options)

    return send


def _marking(original: Callable[..., Any]) -> Callable[..., Any]:
    """Mark for ``send_task`` that ``Task.retry`` is going to raise."""

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
        token = _raises.set(throw)
        try:
            return original(self, args, kwargs, exc, throw, *more, **options)
        finally:
            _raises.reset(token)

    return retry


def _pay(task_id: str, **_: Any) -> None:
    """Send the message of a retry that could not be sent, after the task's transactions."""
    if owed := _owed.pop(task_id, None):
        owed()


def _quieten(backend: Any) -> None:
    """Keep a result backend from a request to its server when a message is only recorded.

    The Redis backend would subscribe to the result; ``AsyncResult.get()`` does so, too. The
    rpc backend must still declare the queue of its replies, because no other code declares
    it in time.
    """
    known = backend.on_task_call
    if getattr(known, "is_quiet", False):
        return

    def on_task_call(producer: Any, task_id: str) -> Any:
        if not isinstance(producer, Recorder):
            return known(producer, task_id)
        if not hasattr(backend, "binding"):
            return {}
        try:
            with backend.app.producer_pool.acquire(block=True) as real:
                return known(real, task_id)
        except AWAY as error:
            logger.warning("The queue for the reply to %s was not declared: %s", task_id, error)
            return {}

    on_task_call.is_quiet = True  # type: ignore[attr-defined]
    backend.on_task_call = on_task_call


_places = Places(App)


def _apps_called(name: str | None) -> list[Any]:
    return [one for one in celery._state._get_active_apps() if one.main == name]


def _address(app: App) -> dict[str, Any]:
    """Return by what a relay finds an app: its name, and paths if others have the same."""
    alone = app.main is not None and len(_apps_called(app.main)) == 1
    return {"app": app.main} if alone else {"app": app.main, "paths": _places.of(app)}


def _fault(app: App, options: Mapping[str, Any]) -> str | None:
    """Return why the relay could not publish a message where the caller wants it, or None."""
    if not _places.of(app) and not _is_made_by_celery(app):
        return not_kept(
            "Celery",
            f"The Celery app {app.main!r} is no attribute of a module, so no relay can find it.",
            "make the app in a module of the project",
        )
    producer = options.get("producer") or options.get("publisher")
    connection = options.get("connection") or getattr(producer, "connection", None)
    if connection is None or _same_server(connection, app):
        return None
    return not_kept(
        "Celery",
        f"A connection was given that is not to the server of the Celery app {app.main!r}.",
        "declare an app for that server and send with it",
    )


def _is_made_by_celery(app: App) -> bool:
    """Return whether it is the app of a project that has none: Celery makes it when asked."""
    return bool(app.main == "default" and app.fixups == [])


def _same_server(connection: Any, app: App) -> bool:
    own = app.connection_for_write()
    mine, given = (one.as_uri(include_password=True) for one in (own, connection))
    if mine == given or (own.alt and own.alt == connection.alt):  # after a failover
        return True
    where, other = server(own), server(connection)
    if where is None or other is None or where[1:] != other[1:]:
        return False
    return same_host(where[0], other[0])
