"""Whether two names of hosts are those of one host."""

import logging
import socket
import threading
import time

logger = logging.getLogger("aftercommit")

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
SECONDS_TO_RESOLVE = 0.5  # the resolver alone may wait for half a minute, in a transaction
SECONDS_THAT_GOOD_LASTS = 60.0
SECONDS_THAT_BAD_LASTS = 2.0  # meanwhile nobody waits for it
MOST_HOSTS = 1000

# Of each host until when its addresses count; those of the last answer, if there was one.
_known: dict[str, tuple[float, frozenset[str]]] = {}


def same_host(one: str, other: str) -> bool:
    """Return whether two names of hosts have an address in common."""
    return one == other or bool(_addresses(one) & _addresses(other))


def _addresses(host: str) -> frozenset[str]:
    if host in LOCAL:
        return LOCAL
    until, known = _known.get(host, (float("-inf"), frozenset({host})))
    if time.monotonic() < until:
        return known
    found = _resolve(host)
    if len(_known) >= MOST_HOSTS:
        _known.clear()
    lasts = SECONDS_THAT_BAD_LASTS if found is None else SECONDS_THAT_GOOD_LASTS
    answer = known if found is None else found | {host}
    _known[host] = time.monotonic() + lasts, answer
    return answer


def _resolve(host: str) -> frozenset[str] | None:
    """Return the addresses of a host; None: its name is not known, or nobody answers in time."""
    found: list[frozenset[str]] = []

    def ask() -> None:
        try:
            answer = socket.getaddrinfo(host, None)
        except (OSError, UnicodeError) as error:
            logger.debug("The name of the host %r cannot be resolved: %s", host, error)
        else:
            found.append(frozenset(str(one[4][0]) for one in answer))

    # A call of the system cannot be given a deadline, so the caller leaves it behind.
    thread = threading.Thread(target=ask, name="aftercommit-resolve", daemon=True)
    thread.start()
    thread.join(SECONDS_TO_RESOLVE)
    return found[0] if found else None
