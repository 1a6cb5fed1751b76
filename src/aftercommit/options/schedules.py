"""Schedules as options: of ``@task``, and in ``OPTIONS["schedules"]``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from aftercommit.cron import check_cron, check_zone
from aftercommit.errors import ConfigurationError
from aftercommit.options.checked import CheckedOptions, check_spans, check_texts, shown
from aftercommit.options.queues import is_stored_name
from aftercommit.timing import CATCH_UP, LAST, OVERLAP, QUEUE

SHORTEST = timedelta(seconds=1)
LONGEST = timedelta(days=366)
LONGEST_NAME = 255  # characters, as in the column
LONGEST_CRON = 255
MOST_URGENT = 100
NO_SCHEDULES: Mapping[str, Any] = MappingProxyType({})
# What says when, in the declaration of a task as well.
TIMES = ("cron", "every", "timezone", "catch_up", "catch_up_within", "overlap", "jitter")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOptions(CheckedOptions):
    """One entry of ``OPTIONS["schedules"]``: a task, its arguments, and when it is due."""

    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=lambda: NO_SCHEDULES)
    queue: str = ""  # empty: that of the task
    priority: int | None = None  # None: that of the task
    cron: str | None = None
    every: timedelta | None = None
    timezone: str | None = None  # of ``cron``; None: TIME_ZONE
    catch_up: str = LAST
    catch_up_within: timedelta | None = None
    overlap: str = QUEUE
    jitter: timedelta | None = None

    def __post_init__(self) -> None:
        check_texts(task=self.task)
        if not isinstance(self.args, (list, tuple)):
            raise ConfigurationError(f"args: expected a list, got {shown(self.args)}.")
        if not isinstance(self.kwargs, Mapping):
            raise ConfigurationError(f"kwargs: expected a dict, got {shown(self.kwargs)}.")
        _check_json(args=self.args, kwargs=self.kwargs)
        if self.queue and not is_stored_name(self.queue):
            raise ConfigurationError(f"queue: expected a name, got {shown(self.queue)}.")
        check_priority(self.priority)
        check_times(self)


def _check_json(**values: Any) -> None:
    for name, value in values.items():
        try:
            json.dumps(dict(value) if isinstance(value, Mapping) else value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigurationError(f"{name}: expected values of JSON ({error}).") from error


def schedules_in(name: str, value: Any) -> Mapping[str, ScheduleOptions]:
    """Return the schedules of a mapping by their names; raises ``ConfigurationError``."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name}: expected a dict, got {shown(value)}.")
    return MappingProxyType({key: _schedule(name, key, one) for key, one in value.items()})


def _schedule(name: str, key: Any, given: Any) -> ScheduleOptions:
    check_schedule_name(key, name)
    where = f"{name}[{key!r}]"
    if isinstance(given, ScheduleOptions):
        return given
    if not isinstance(given, Mapping) or "task" not in given:
        raise ConfigurationError(
            f"{where}: expected a dict with a task and cron or every, got {shown(given)}."
        )
    return ScheduleOptions.from_mapping(given, where=where)


def check_schedule_name(value: Any, what: str = "name") -> None:
    """Refuse what cannot be the name of a schedule."""
    good = isinstance(value, str) and value.isprintable() and value == value.strip()
    if not good or not 1 <= len(value) <= LONGEST_NAME:
        raise ConfigurationError(
            f"{what}: the name of a schedule has 1 to {LONGEST_NAME} printable characters and no "
            f"space at its ends, got {shown(value)}."
        )


def check_priority(value: Any) -> None:
    """Refuse what is no priority of ``django.tasks``."""
    if value is None:
        return
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not -MOST_URGENT <= value <= MOST_URGENT:
        raise ConfigurationError(
            f"priority: expected a whole number from -{MOST_URGENT} to {MOST_URGENT}, "
            f"got {shown(value)}."
        )


def check_times(given: Any) -> None:
    """Check what says when a task is due; raises ``ConfigurationError``."""
    if (given.cron is None) == (given.every is None):
        raise ConfigurationError(
            "Say when it is due: cron='0 4 * * *' or every=timedelta(...), and one of them."
        )
    if given.cron is not None:
        check_cron(given.cron)
        if len(given.cron) > LONGEST_CRON:
            raise ConfigurationError(f"cron: expected at most {LONGEST_CRON} characters.")
        if given.timezone is not None:
            check_zone(given.timezone)
    else:
        _check_every(given)
    _check_rest(given)


def _check_rest(given: Any) -> None:
    for name, words in (("catch_up", CATCH_UP), ("overlap", OVERLAP)):
        if getattr(given, name) not in words:
            raise ConfigurationError(
                f"{name}: expected one of {', '.join(words)}, got {shown(getattr(given, name))}."
            )
    for name in ("catch_up_within", "jitter"):
        if getattr(given, name) is not None:
            check_spans(LONGEST, **{name: getattr(given, name)})


def _check_every(given: Any) -> None:
    check_spans(LONGEST, every=given.every)
    if given.every < SHORTEST:
        raise ConfigurationError(
            f"every: expected at least {SHORTEST.seconds} s, got {shown(given.every)}."
        )
    if given.timezone is not None:
        raise ConfigurationError(
            "timezone says what the hours of cron mean. every counts time that passes, which is "
            "the same in all zones: leave one of the two out."
        )
