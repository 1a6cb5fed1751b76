"""Whether anybody who reaches a broker can read and write its messages."""

from collections.abc import Iterator

from aftercommit.errors import ConfigurationError
from aftercommit.relay.brokers import broker_for
from aftercommit.relay.outbox import relaying
from aftercommit.store.base import Store
from aftercommit.windows.doctor.finding import Ailment, Finding

WHAT = {
    "Redis": "without a password",
    "RabbitMQ": "as the user guest with its well-known password",
}


def passwords(store: Store) -> Iterator[Finding]:
    """Say which brokers on other hosts are used with a password that everybody knows."""
    libraries = [
        name for one in relaying() if one.using == store.alias for name in one.config.libraries
    ]
    for library in dict.fromkeys(libraries):
        try:
            logins = broker_for(library).logins()
        except (ConfigurationError, ImportError):
            continue  # the relay says it, and W007
        for one in dict.fromkeys(login for login in logins if login.is_open):
            yield Finding(
                store.alias,
                "default-password",
                f"{library} sends its messages to {one.product} on {one.host} "
                f"{WHAT[one.product]}: who reaches it can read them, and let your workers run "
                "any task.",
                "Set a password on the server and in the URL of the broker.",
                ailment=Ailment.SECURITY,
            )
