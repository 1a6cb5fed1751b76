"""A check of the table for ``check --deploy``: whether messages are published."""

from typing import Any

from django.core.checks import CheckMessage, Warning
from django.db import Error

from aftercommit.relay.neglected import neglected
from aftercommit.relay.outbox import relaying


def check_relay(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of messages that wait for a relay; a database that does not answer says nothing."""
    found: dict[tuple[str, str], CheckMessage] = {}
    for backend in relaying():
        try:
            late = neglected(backend)
        except Error:
            continue
        for one in late:
            warning = Warning(one.what, hint=one.fix, id="aftercommit.W011")
            found[one.library, one.using] = warning
    return list(found.values())
