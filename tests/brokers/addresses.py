"""Where the brokers of the tests are, and what this run calls its queues there."""

import os
import socket
from urllib.parse import urlsplit

from tests.databases import name_of_this_run

URL_VARIABLES = {"redis": "AFTERCOMMIT_REDIS_URL", "rabbitmq": "AFTERCOMMIT_RABBITMQ_URL"}
USUAL_URLS = {
    "redis": "redis://127.0.0.1:6379/0",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672/%2F",
}
BROKERS = tuple(USUAL_URLS)
SECONDS_TO_ANSWER = 3


def broker_url(service: str) -> str:
    """Return where a broker is expected."""
    return os.environ.get(URL_VARIABLES[service]) or USUAL_URLS[service]


def is_there(service: str) -> bool:
    """Tell whether something listens there."""
    parts = urlsplit(broker_url(service))
    try:
        with socket.create_connection((parts.hostname, parts.port), SECONDS_TO_ANSWER):
            return True
    except OSError:
        return False


def queue_name(library: str) -> str:
    """Return the name of a queue that no other run has."""
    return f"{name_of_this_run()}_{library}"
