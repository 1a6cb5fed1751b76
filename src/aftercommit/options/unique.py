"""What can be done when the unique key of a call has a holder."""

from aftercommit.errors import ConfigurationError
from aftercommit.options.checked import shown

RETURN, REPLACE, RAISE = ON_CONFLICT = ("return", "replace", "raise")


def check_on_conflict(value: object) -> None:
    """Refuse what is none of the three words."""
    if value not in ON_CONFLICT:
        raise ConfigurationError(
            f"on_conflict: expected one of {', '.join(ON_CONFLICT)}, got {shown(value)}."
        )
