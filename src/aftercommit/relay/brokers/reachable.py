"""Whether a server can be reached: asked before a library waits long for one that cannot."""

import socket
import time
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

Address = tuple[str, int]
# For each server that is needed its addresses, of which one must answer.
Servers = Callable[[], Iterable[Iterable[Address]]]

SECONDS_TO_CONNECT = 0.4
SECONDS_THAT_GOOD_LASTS = 5.0
SECONDS_THAT_BAD_LASTS = 2.0  # meanwhile nobody waits for it

_asked: WeakKeyDictionary[Any, tuple[float, bool]] = WeakKeyDictionary()


def is_reachable(owner: Any, servers: Servers) -> bool:
    """Return whether the servers of an app, a pool or the like accept connections.

    Libraries try for seconds, and for minutes if packets are dropped. One connection in five
    seconds is opened to know.
    """
    at, good = _asked.get(owner, (float("-inf"), True))
    if time.monotonic() - at < (SECONDS_THAT_GOOD_LASTS if good else SECONDS_THAT_BAD_LASTS):
        return good
    good = all(_answers(addresses) for addresses in servers())
    _asked[owner] = time.monotonic(), good
    return good


def _answers(addresses: Iterable[Address]) -> bool:
    asked = False
    for address in addresses:
        asked = True
        try:
            socket.create_connection(address, SECONDS_TO_CONNECT).close()
        except (OSError, ValueError):
            continue
        return True
    return not asked  # a socket in a file, say


def redis_servers(pool: Any) -> list[list[Address]]:
    """Return the address of the server of a pool of redis-py."""
    options = pool.connection_kwargs
    if getattr(pool, "service_name", None) or options.get("path"):
        return []
    return [[(options.get("host") or "localhost", int(options.get("port") or 6379))]]
