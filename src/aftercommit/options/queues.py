"""The names of the queues that hold messages for brokers."""

QUEUE_PREFIX = "relay."  # of the queues whose jobs are messages for a broker


def queue_of(name: str) -> str:
    """Return the queue of a broker's messages."""
    return QUEUE_PREFIX + name


def queue_in_order(name: str) -> str:
    """Return the queue of those of its messages that have an ordering key."""
    return f"{QUEUE_PREFIX}{name}.in_order"


def queues_of(name: str) -> tuple[str, str]:
    """Return both queues of a broker's messages."""
    return queue_of(name), queue_in_order(name)
