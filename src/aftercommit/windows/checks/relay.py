"""A check of the table for ``check --deploy``: whether messages are published."""

from typing import Any

from django.core.checks import CheckMessage, Warning
from django.db import Error

from aftercommit.relay.neglected import FIX, neglected, sentence
from aftercommit.relay.outbox import relaying


def check_relay(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of messages that nobody publishes; a database that does not answer says nothing."""
    found: dict[tuple[str, str], CheckMessage] = {}
    for backend in relaying():
        try:
            libraries = neglected(backend)
        except Error:
            continue
        for library in libraries:
            what = sentence(library, using=backend.using).removesuffix(FIX).rstrip()
            found[library, backend.using] = Warning(what, hint=FIX, id="aftercommit.W011")
    return list(found.values())
