"""``read_from``: the replicas from which a task reads."""

from collections.abc import Sequence
from datetime import timedelta

from aftercommit.errors import ConfigurationError
from aftercommit.options.checked import names_in, shown

ReadFrom = str | Sequence[str] | None
PRIMARY = "primary"  # what a task says if its backend names replicas
REPLICA_WAIT = timedelta(seconds=2)


def replicas_in(option: ReadFrom) -> tuple[str, ...]:
    """Return the aliases that an option names."""
    if option is None or option == PRIMARY:
        return ()
    return (option,) if isinstance(option, str) else tuple(option)


def check_reads(option: ReadFrom, *, atomic: bool | None = None) -> None:
    """Refuse what names no aliases, and replicas for an atomic task."""
    if option is None or option == PRIMARY:
        return
    found = names_in("read_from", [option] if isinstance(option, str) else option)
    if not found or PRIMARY in found:
        raise ConfigurationError(
            f"read_from: expected an alias of DATABASES, a list of them, {PRIMARY!r} or None, "
            f"got {shown(option)}."
        )
    if atomic:
        raise ConfigurationError(
            "read_from cannot be combined with atomic=True: an atomic task reads in its "
            "transaction, which is on the primary."
        )
