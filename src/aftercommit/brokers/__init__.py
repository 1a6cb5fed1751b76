"""Other people's brokers: how each library's messages are captured and published."""

from typing import TYPE_CHECKING

from django.utils.module_loading import import_string

from aftercommit.errors import ConfigurationError

if TYPE_CHECKING:
    from aftercommit.brokers.base import Broker

BROKERS = {
    "celery": "aftercommit.brokers.celery.Celery",
    "django_q": "aftercommit.brokers.django_q.DjangoQ",
    "dramatiq": "aftercommit.brokers.dramatiq.Dramatiq",
    "huey": "aftercommit.brokers.huey.Huey",
    "rq": "aftercommit.brokers.rq.RQ",
    "tasks": "aftercommit.brokers.tasks.OtherBackends",
}
QUEUE_PREFIX = "relay."  # of the queues whose jobs are messages for a broker

_made: dict[str, "Broker"] = {}


def queue_of(name: str) -> str:
    """Return the queue of a broker's messages."""
    return QUEUE_PREFIX + name


def queue_in_order(name: str) -> str:
    """Return the queue of those of its messages that have an ordering key."""
    return f"{QUEUE_PREFIX}{name}.in_order"


def queues_of(name: str) -> tuple[str, str]:
    """Return both queues of a broker's messages."""
    return queue_of(name), queue_in_order(name)


def broker_for(name: str) -> "Broker":
    """Return what knows a library; one in this process.

    Imported here, on first use, because each library is optional. Raises
    ``ConfigurationError`` if it is not installed.
    """
    if name not in BROKERS:
        raise ConfigurationError(
            f"OPTIONS['relay'] names {name!r}; known are {', '.join(BROKERS)}."
        )
    if name not in _made:
        try:
            _made[name] = import_string(BROKERS[name])()
        except ImportError as error:
            raise ConfigurationError(
                f"OPTIONS['relay'] names {name!r}, but it cannot be imported ({error}).\n"
                "Its messages would be neither captured nor published.\n"
                f"Fix: install the library, or remove {name!r} from OPTIONS['relay']."
            ) from error
    return _made[name]
