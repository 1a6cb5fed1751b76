"""The system check of the guard's settings."""

from typing import Any

from django.core.checks import CheckMessage, Error, register

from aftercommit.errors import ConfigurationError
from aftercommit.guard import baseline
from aftercommit.guard.conf import configured


def register_checks() -> None:
    """Register the check; twice does no harm."""
    register(check_guard)


def check_guard(**_: Any) -> list[CheckMessage]:
    """Say what is wrong with AFTERCOMMIT_GUARD."""
    try:
        options = configured()
        if options.baseline is not None:
            baseline.read(options.baseline)
    except ConfigurationError as error:
        what, _newline, hint = str(error).partition("\n")
        return [Error(what, hint=hint, id="aftercommit_guard.E001")]
    return []
