"""Kafka: producers of kafka-python, confluent-kafka and aiokafka, where a record is handed over.

What a producer keeps in memory is sent without regard to any transaction of the database, so
the call counts, not the moment at which the record reaches a broker.
"""

import sys
from collections.abc import Callable
from functools import partial, wraps
from types import ModuleType
from typing import Any

from aftercommit.guard.adapters.coroutines import noticing
from aftercommit.guard.dispatches import Dispatch, passing, someone_is_interested
from aftercommit.guard.patches import OnImport, patch, subclasses

ORIGINAL = "_original_of_aftercommit"
WAYS = ("produce", "produce_batch")  # of confluent-kafka; the second came later


def install(on_import: OnImport) -> None:
    """Notice the records of all producers."""
    on_import.when("kafka.producer.kafka", _patch_kafka_python)
    on_import.when("confluent_kafka", _patch_confluent)
    on_import.when("confluent_kafka.aio.producer._AIOProducer", _patch_confluent_aio)
    on_import.when("aiokafka.producer.producer", _patch_aiokafka)


def _patch_kafka_python(module: ModuleType) -> None:
    patch(module.KafkaProducer, "send", _sending)


def _patch_aiokafka(module: ModuleType) -> None:
    for name, position in (("send", 0), ("send_batch", 1)):
        patch(module.AIOKafkaProducer, name, noticing("kafka", partial(_of_call, position)))


def _patch_confluent_aio(module: ModuleType) -> None:
    patch(module.AIOProducer, "produce", noticing("kafka", partial(_of_call, 0)))


def _patch_confluent(module: ModuleType) -> None:
    """Notice the records of a type that is written in C, and of the classes that extend it.

    Nothing can be set on such a type. So a class of Python takes its place wherever a module has
    imported it by now: in its own package, and in the project.
    """
    original = module.Producer
    if isinstance(original, _InPlaceOf):  # the guard is switched on again
        return
    for kind in subclasses(original):  # SerializingProducer, and those of the project
        for name in _ways(original):
            patch(kind, name, _sending, inherited=True)
    ours = _subclass(original)
    for holder in list(sys.modules.values()):
        if isinstance(holder, ModuleType):
            for name in [name for name, value in list(vars(holder).items()) if value is original]:
                patch(holder, name, lambda _original: ours)


class _InPlaceOf(type):
    """The type of the class that takes the place of ``original``: its instances count, too."""

    def __instancecheck__(cls, instance: Any) -> bool:
        if original := vars(cls).get(ORIGINAL):
            return isinstance(instance, original)
        return super().__instancecheck__(instance)

    def __subclasscheck__(cls, kind: type) -> bool:
        if original := vars(cls).get(ORIGINAL):
            return issubclass(kind, original)
        return super().__subclasscheck__(kind)


def _subclass(original: Any) -> type:
    """Return a class that does what the original does, and asks before it takes a record."""
    same = {name: getattr(original, name) for name in ("__module__", "__doc__")}
    ways = {name: _sending(getattr(original, name)) for name in _ways(original)}
    return _InPlaceOf(original.__name__, (original,), {**same, **ways, ORIGINAL: original})


def _ways(original: Any) -> list[str]:
    return [name for name in WAYS if hasattr(original, name)]


def _sending(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method that takes the topic first."""

    @wraps(original)
    def send(self: Any, *args: Any, **options: Any) -> Any:
        go = partial(original, self, *args, **options)
        if not someone_is_interested():
            return go()
        return passing(Dispatch(adapter="kafka", subject=_of_call(0, args, options), send=go))

    return send


def _of_call(position: int, args: tuple[Any, ...], options: dict[str, Any]) -> str:
    # Only the topic: keys and values are data of people.
    topic = args[position] if len(args) > position else options.get("topic")
    return f"A record for the topic {topic} of Kafka"
