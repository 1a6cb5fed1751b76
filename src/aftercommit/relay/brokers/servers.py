"""Which server an object of a library sends to, and where another process finds the object."""

import copy
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

from aftercommit.relay.brokers.hosts import same_host

SECONDS_TO_ANSWER = 30
MOST_PATHS = 5  # modules that have loaded it in one process need not be loaded in another
SCRIPTS = {"__main__", "__mp_main__"}  # the second is its name where a process is spawned
LIBRARIES = {"celery", "kombu", "huey"}
BY_SETTINGS = {"huey.contrib.djhuey"}  # its HUEY is made of the settings in every process


class Places:
    """Where objects of a kind are found by another process: attributes of loaded modules."""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self._known: WeakKeyDictionary[Any, list[str]] = WeakKeyDictionary()

    def of(self, thing: object) -> list[str]:
        """Return dotted paths; none for an object that a function has made in this process."""
        if thing not in self._known and (paths := list(islice(_paths(thing), MOST_PATHS))):
            self._known[thing] = paths
        return self._known.get(thing, [])

    def find(self, paths: Iterable[str]) -> Any:
        """Return the object with one of these paths whose module is loaded, or None."""
        # A row that an earlier version has kept may name what this process fills in itself.
        found = (loaded(path) for path in paths if not _is_its_own(path.rpartition(".")[0]))
        return next((one for one in found if isinstance(one, self._kind)), None)


def _paths(thing: object) -> Iterator[str]:
    for name, module in list(sys.modules.items()):
        if not _is_its_own(name):
            for attribute, value in list(getattr(module, "__dict__", {}).items()):
                if value is thing:
                    yield f"{name}.{attribute}"


def _is_its_own(name: str) -> bool:
    """Return whether another process may have something else under the names of a module.

    So it is for the script that is run, and for what a library holds as its default:
    ``celery._state.default_app`` is what ``set_default()`` was called for in each process.
    """
    module, script = sys.modules.get(name), sys.modules.get("__main__")
    if name in SCRIPTS or (script is not None and module is script):
        return True
    return name.partition(".")[0] in LIBRARIES and name not in BY_SETTINGS


def loaded(path: str) -> Any:
    """Return the attribute of a loaded module, or None: a path in a row is never imported."""
    module, _, name = path.rpartition(".")
    # Not getattr: a module may have a __getattr__ that imports what it is asked for.
    return vars(sys.modules[module]).get(name) if module in sys.modules else None


def bounded(client: Any) -> Any:
    """Return a client of redis-py that does not wait for an answer for ever."""
    pool = client.connection_pool
    options = pool.connection_kwargs
    if hasattr(pool, "service_name") or pool.make_connection().socket_timeout is not None:
        return client
    copied = copy.copy(client)
    copied.connection_pool = type(pool)(
        connection_class=pool.connection_class,
        **{"socket_keepalive": True, **options, "socket_timeout": SECONDS_TO_ANSWER},
    )
    return copied


def same_redis(one: Any, other: Any) -> bool:
    """Return whether two Redis clients have the same database of the same server."""
    if one is other:
        return True
    (where, rest), (other_where, other_rest) = _redis(one), _redis(other)
    return rest == other_rest and (where == other_where or same_host(where, other_where))


def _redis(client: Any) -> tuple[str, Any]:
    pool = client.connection_pool
    options: Mapping[str, Any] = pool.connection_kwargs
    sentinel = getattr(pool, "service_name", None)
    rest = (
        int(options.get("db") or 0),
        options.get("path") or options.get("unix_socket_path"),
        None if sentinel else int(options.get("port") or 6379),
        sentinel,
    )
    return str("" if sentinel or rest[1] else options.get("host") or "localhost"), rest


def not_kept(library: str, what: str, fix: str) -> str:
    """Return why a message cannot be kept: the relay would publish it to another server."""
    return (
        f"{what}\n"
        f"Its message for {library} cannot be kept until the commit: the relay could publish it "
        "to another server only. Nothing was sent.\n"
        f"Fix: {fix}, or send it after the commit with transaction.on_commit()."
    )
