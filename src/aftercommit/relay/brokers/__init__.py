"""How the messages of each library are captured and published."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from django.utils.module_loading import import_string

from aftercommit.errors import ConfigurationError

if TYPE_CHECKING:
    from aftercommit.relay.brokers.base import Broker

BROKERS = {
    "celery": "aftercommit.relay.brokers.celery.broker.Celery",
    "django_q": "aftercommit.relay.brokers.django_q.DjangoQ",
    "dramatiq": "aftercommit.relay.brokers.dramatiq.Dramatiq",
    "huey": "aftercommit.relay.brokers.huey.Huey",
    "rq": "aftercommit.relay.brokers.rq.RQ",
    "tasks": "aftercommit.relay.brokers.tasks.OtherBackends",
}

# What each takes in a dict of OPTIONS["relay"], and of which kind.
OPTIONS: dict[str, dict[str, tuple[type, ...]]] = {
    "celery": {"apps": (list, tuple)},
    "huey": {"instance": (str,)},
    "rq": {"url": (str,)},
    "tasks": {"backends": (list, tuple)},
}

_made: dict[str, "Broker"] = {}


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an option that a library does not take, or of a kind that it does not take."""
    known = OPTIONS.get(name, {})
    for option, value in options.items():
        if option not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ConfigurationError(
                f"OPTIONS['relay'][{name!r}]: unknown option {option!r}; {takes}."
            )
        if not isinstance(value, known[option]):
            kinds = " or a ".join(kind.__name__ for kind in known[option])
            raise ConfigurationError(
                f"OPTIONS['relay'][{name!r}][{option!r}]: expected a {kinds}, got a "
                f"{type(value).__name__}."
            )
        if isinstance(value, (list, tuple)) and not all(isinstance(one, str) for one in value):
            raise ConfigurationError(
                f"OPTIONS['relay'][{name!r}][{option!r}]: expected names, got {value!r}."
            )


def broker_for(name: str) -> "Broker":
    """Return the broker of a library; there is one in each process.

    Its module is imported here, on first use, because each library is optional. Raises
    ``ConfigurationError`` if it is not installed.
    """
    if name not in BROKERS:
        near = get_close_matches(name.lower(), BROKERS, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ConfigurationError(
            f"OPTIONS['relay'] names {name!r}. {hint}Known are {', '.join(BROKERS)}."
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
