"""How a library logs in to its broker, and whether anybody could."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from aftercommit.relay.brokers.hosts import same_host

GUEST = "guest"  # RabbitMQ's user and its password, of every new server


class Login(NamedTuple):
    """A server, and whether the password for it is one that everybody knows."""

    product: str
    host: str
    by_default: bool

    @property
    def is_open(self) -> bool:
        """Whether it is on another machine, and anybody who reaches it gets in."""
        return self.by_default and not same_host(self.host, "localhost")


def redis_login(client: Any) -> list[Login]:
    """Return the login of a client of redis-py; none for a socket in a file, or a sentinel's."""
    pool = getattr(client, "connection_pool", None)
    options: Mapping[str, Any] = getattr(pool, "connection_kwargs", {})
    if pool is None or hasattr(pool, "service_name") or options.get("path"):
        return []
    known = any(options.get(name) for name in ("password", "credential_provider", "ssl_certfile"))
    return [Login("Redis", str(options.get("host") or "localhost"), not known)]


def amqp_login(host: str | None, user: str | None, password: str | None) -> Login:
    """Return the login at RabbitMQ; without a user, libraries take the default one."""
    default = (user or GUEST, password or GUEST) == (GUEST, GUEST)
    return Login("RabbitMQ", host or "localhost", default)
