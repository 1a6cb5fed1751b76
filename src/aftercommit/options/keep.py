"""``keep_result``: how long the row of a job is kept after its end."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any

from aftercommit.errors import ConfigurationError
from aftercommit.options.checked import check_spans, shown

DEFAULT, FOREVER = "default", "forever"
NEVER = timedelta.max  # how long a row lives that nobody deletes

# A span, None, "forever" or "default"; or some of these by state.
KeepOption = timedelta | str | Mapping[str, timedelta | str | None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long the rows of ended jobs are kept, by state; ``NEVER`` deletes none."""

    succeeded: timedelta | None = timedelta(days=7)  # None: the row goes when the job succeeds
    failed: timedelta = timedelta(days=30)
    cancelled: timedelta = timedelta(days=30)

    def changed_by(self, option: KeepOption) -> "Keep":
        """Return these spans with those instead that a checked option names."""
        return replace(self, **_by_state(option))

    def spans(self) -> Iterable[timedelta]:
        """Return the spans that are not None."""
        return [one for one in (self.succeeded, self.failed, self.cancelled) if one is not None]


USUALLY_KEPT = Keep()
STATES = tuple(field.name for field in fields(Keep))


def check_keep(name: str, option: Any) -> None:
    """Refuse what says nothing that could be done about ended jobs.

    Raises ``ConfigurationError`` with what was expected, and what was found where.
    """
    if not isinstance(option, Mapping):
        _check_one(name, option)
        return
    for state, value in option.items():
        where = f"{name}[{state!r}]"
        if state not in STATES:
            raise ConfigurationError(
                f"{name}: expected the states {', '.join(STATES)}, got {shown(state)}."
            )
        if value is None and state != "succeeded":
            raise ConfigurationError(
                f"{where}: None is possible for 'succeeded' only. The row of a job that did not "
                "succeed says why, and is needed to retry it: give a timedelta."
            )
        _check_one(where, value)


def _check_one(name: str, value: Any) -> None:
    if value is None or value in (DEFAULT, FOREVER):
        return
    if isinstance(value, str):
        raise ConfigurationError(
            f"{name}: expected a timedelta, None, {FOREVER!r} or {DEFAULT!r}, got {shown(value)}."
        )
    check_spans(**{name: value})


def _by_state(option: KeepOption) -> dict[str, Any]:
    if isinstance(option, Mapping):
        named = {state: value for state, value in option.items() if value != DEFAULT}
        return {state: NEVER if one == FOREVER else one for state, one in named.items()}
    if option == DEFAULT:
        return {}
    if option == FOREVER:
        return dict.fromkeys(STATES, NEVER)
    return {"succeeded": option}  # what deletes sooner concerns no job that somebody may retry
