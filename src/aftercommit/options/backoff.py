"""Backoff: how long a failed job waits before its next attempt."""

import random
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import Any

from aftercommit.errors import ConfigurationError

# The wait before the next attempt, given how many runs have failed (1 after the first).
Backoff = Callable[[int], timedelta]
BackoffOption = timedelta | Sequence[timedelta] | Backoff

# Further off than any plan, near enough for the timestamps of every database.
LONGEST_WAIT = timedelta(days=100 * 365)
MOST_EXPONENT = 10
MOST_DOUBLINGS = 60  # keeps 2 ** n within a float; any maximum is reached long before


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential:
    """Double the wait after each failure, up to ``maximum``, and take a random part of it.

    "Full jitter", after Marc Brooker, "Exponential Backoff And Jitter", AWS
    Architecture Blog, 2015: the wait is uniform between zero and the doubled value, so
    jobs that failed together do not come back together.

    ``base`` is the longest wait after the first failure (default 5 s), ``maximum`` the
    longest of all (default 1 h, at most 100 years); ``jitter=False`` waits the whole
    value each time. Raises ``ConfigurationError`` for spans that make no sense.
    """

    base: timedelta = timedelta(seconds=5)
    maximum: timedelta = timedelta(hours=1)
    jitter: bool = True

    def __post_init__(self) -> None:
        spans = (self.base, self.maximum)
        if not all(isinstance(span, timedelta) for span in spans) or not (
            timedelta(0) < self.base <= self.maximum <= LONGEST_WAIT
        ):
            raise ConfigurationError(
                "backoff: expected timedeltas with 0 < base <= maximum <= 100 years, "
                f"got base {self.base!r} and maximum {self.maximum!r}."
            )

    def __call__(self, attempt: int) -> timedelta:
        """Return the wait after ``attempt`` failed runs (1 for the first)."""
        doublings = min(max(attempt - 1, 0), MOST_DOUBLINGS)
        # In seconds, because a timedelta overflows after 2.7 million years.
        longest = min(self.base.total_seconds() * 2**doublings, self.maximum.total_seconds())
        return timedelta(seconds=longest * random.random() if self.jitter else longest)  # noqa: S311


@dataclass(frozen=True, slots=True, kw_only=True)
class Polynomial:
    """Wait ``base`` times the number of failures to the power of ``exponent``.

    As Django Async does by default: 1 minute, 3, 6, 9, 13 ... with ``exponent`` 1.6, so that the
    waits grow, and a job that has failed for days is still tried every few hours. ``maximum`` is
    the longest wait (default and at most 100 years). Raises ``ConfigurationError`` for what makes
    no sense.
    """

    base: timedelta = timedelta(minutes=1)
    exponent: float = 1.6
    maximum: timedelta = LONGEST_WAIT

    def __post_init__(self) -> None:
        spans = (self.base, self.maximum)
        good = all(isinstance(span, timedelta) for span in spans)
        number = isinstance(self.exponent, (int, float)) and 0 <= self.exponent <= MOST_EXPONENT
        if not good or not number or not timedelta(0) < self.base <= self.maximum <= LONGEST_WAIT:
            raise ConfigurationError(
                "backoff: expected timedeltas with 0 < base <= maximum <= 100 years and an "
                f"exponent from 0 to {MOST_EXPONENT}, got base {self.base!r}, maximum "
                f"{self.maximum!r} and exponent {self.exponent!r}."
            )

    def __call__(self, attempt: int) -> timedelta:
        """Return the wait after ``attempt`` failed runs (1 for the first)."""
        seconds = self.base.total_seconds() * max(attempt, 1) ** self.exponent
        return timedelta(seconds=min(seconds, self.maximum.total_seconds()))


@dataclass(frozen=True, slots=True)
class Delays:
    """Wait as listed; after the end of the list, as its last entry says.

    Raises ``ConfigurationError`` for an empty list, and for what is not a span from zero
    to 100 years.
    """

    delays: Sequence[timedelta]

    def __post_init__(self) -> None:
        if not isinstance(self.delays, (list, tuple)) or not self.delays:
            raise _unusable(self.delays)
        if not all(_is_wait(delay) for delay in self.delays):
            raise _unusable(self.delays)
        object.__setattr__(self, "delays", tuple(self.delays))

    def __call__(self, attempt: int) -> timedelta:
        """Return the wait after ``attempt`` failed runs (1 for the first)."""
        return self.delays[min(max(attempt, 1), len(self.delays)) - 1]


@dataclass(frozen=True, slots=True)
class Asked:
    """Ask a function of the user's, and take nothing but a span for an answer."""

    function: Backoff

    def __call__(self, attempt: int) -> timedelta:
        """Return the wait after ``attempt`` failed runs: zero to 100 years.

        Raises ``TypeError`` if the function returns no timedelta, and whatever it raises.
        """
        return wait_of(self.function(attempt), what=f"backoff {self.function!r} returned")


def backoff_from(option: BackoffOption) -> Backoff:
    """Return the policy that an option stands for.

    A ``timedelta`` is waited every time, a list of them one after the other (the last
    one repeats), a function is asked with the number of failed runs.

    Raises ``ConfigurationError`` for anything else: an empty list, a negative span, a
    class, an async function.
    """
    if isinstance(option, (Exponential, Polynomial, Delays)):
        return option
    if isinstance(option, timedelta):
        return Delays((option,))
    if not callable(option):
        return Delays(option)
    if isinstance(option, type) or iscoroutinefunction(option):
        raise _unusable(option)
    return Asked(option)


def stored_backoff(option: BackoffOption) -> dict[str, Any]:
    """Return a backoff as a JSON object, to be kept with a call.

    Raises ``ConfigurationError`` for a function of the user's: a row names no code.
    """
    made = backoff_from(option)
    match made:
        case Delays(delays):
            return {"delays": [one.total_seconds() for one in delays]}
        case Exponential() | Polynomial():
            values = {one.name: getattr(made, one.name) for one in fields(made)}
            spans = {name: one for name, one in values.items() if isinstance(one, timedelta)}
            seconds = {name: one.total_seconds() for name, one in spans.items()}
            return {type(made).__name__.lower(): {**values, **seconds}}
    raise ConfigurationError(
        "backoff: a function cannot be kept with a call. Nothing was enqueued. Give a timedelta, "
        "a list of them, Exponential(), Polynomial() or Delays()."
    )


def read_backoff(stored: Mapping[str, Any]) -> Backoff:
    """Return a backoff from what ``stored_backoff`` has returned; raises for anything else."""
    ((kind, given),) = stored.items()
    if kind == "delays":
        return Delays([timedelta(seconds=one) for one in given])
    made: type[Exponential | Polynomial] = {
        "exponential": Exponential,
        "polynomial": Polynomial,
    }[kind]
    spans = {name: timedelta(seconds=given[name]) for name in ("base", "maximum")}
    return made(**{**given, **spans})


def _is_wait(delay: object) -> bool:
    return isinstance(delay, timedelta) and timedelta(0) <= delay <= LONGEST_WAIT


def _unusable(option: object) -> ConfigurationError:
    return ConfigurationError(
        "backoff: expected a timedelta, a list of timedeltas (none negative, none above "
        "100 years) or a plain function of the number of failed runs, such as "
        f"Exponential(); got {reprlib.repr(option)}."
    )


def wait_of(span: object, *, what: str) -> timedelta:
    """Return a span as a wait that every database can add to its clock: 0 to 100 years."""
    if not isinstance(span, timedelta):
        raise TypeError(f"{what}: expected a timedelta, got {span!r}.")
    return min(max(span, timedelta(0)), LONGEST_WAIT)
