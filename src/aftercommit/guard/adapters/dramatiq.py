"""Dramatiq: every way to send a message ends in ``Broker.enqueue``, which each broker has."""

from collections.abc import Callable
from functools import partial, wraps
from types import ModuleType
from typing import Any

from aftercommit.guard.dispatches import Dispatch, Later, passing, someone_is_interested
from aftercommit.guard.patches import OnImport, patch, patch_instances

BROKERS = {"redis": "RedisBroker", "rabbitmq": "RabbitmqBroker", "stub": "StubBroker"}


def install(on_import: OnImport) -> None:
    """Notice the messages of all brokers, also of other packages."""
    on_import.when(
        "dramatiq.broker", lambda module: patch_instances(module.Broker, "enqueue", _sending)
    )
    for name, kind in BROKERS.items():  # that are there already
        on_import.when(f"dramatiq.brokers.{name}", partial(_patch, kind))


def _patch(kind: str, module: ModuleType) -> None:
    patch(getattr(module, kind), "enqueue", _sending)


def _sending(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def enqueue(self: Any, message: Any, *, delay: int | None = None) -> Any:
        if not someone_is_interested():
            return original(self, message, delay=delay)
        function = getattr(self.actors.get(message.actor_name), "fn", None)
        return passing(
            Dispatch(
                adapter="dramatiq",
                subject=message.actor_name,
                send=lambda: original(self, message, delay=delay),
                prepare=lambda: _prepare(original, self, message, delay),
                body=None
                if function is None
                else lambda: function(*message.args, **message.kwargs),
                when=getattr(function, "aftercommit", None),
            )
        )

    return enqueue


def _prepare(original: Callable[..., Any], broker: Any, message: Any, delay: int | None) -> Later:
    kept = type(message).decode(message.encode())
    return Later(kept, lambda: original(broker, kept, delay=delay))
