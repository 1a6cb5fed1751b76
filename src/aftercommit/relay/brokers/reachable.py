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

MOST_SERVERS = 1000

_Key = tuple[tuple[Address, ...], ...]
# Of an app or a pool; to gather them from an app takes longer than to look here.
_servers: WeakKeyDictionary[Any, tuple[float, _Key]] = WeakKeyDictionary()
# By addresses, not by pool: some libraries make a new pool for each call.
_asked: dict[_Key, tuple[float, bool]] = {}


def is_reachable(owner: Any, servers: Servers) -> bool:
    """Return whether the servers of an app, a pool or the like accept connections.

    Libraries try for seconds, and for minutes if packets are dropped. One connection in five
    seconds is opened to know, whatever the number of apps and pools for the same servers.
    """
    key = _servers_of(owner, servers)
    at, good = _asked.get(key, (float("-inf"), True))
    if time.monotonic() - at < (SECONDS_THAT_GOOD_LASTS if good else SECONDS_THAT_BAD_LASTS):
        return good
    good = all(_answers(addresses) for addresses in key)
    if len(_asked) >= MOST_SERVERS:
        _asked.clear()
    _asked[key] = time.monotonic(), good
    return good


def _servers_of(owner: Any, servers: Servers) -> _Key:
    at, key = _servers.get(owner, (float("-inf"), ()))
    if time.monotonic() - at >= SECONDS_THAT_BAD_LASTS:
        key = tuple(tuple(addresses) for addresses in servers())
        _servers[owner] = time.monotonic(), key
    return key


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
