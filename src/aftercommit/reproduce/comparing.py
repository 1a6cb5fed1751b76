"""What differs between two runs of the same body."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aftercommit.reproduce.copies import Copy
from aftercommit.reproduce.dispatches import error_text
from aftercommit.reproduce.rows import Comparable, differing_columns, row_differences
from aftercommit.reproduce.runs import Result
from aftercommit.reproduce.schedules import Schedule


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compares runs with the expected one."""

    copies: Sequence[Copy]
    how: Comparable

    def noise(self, one: Result, other: Result) -> set[str]:
        """Return the columns, as table.column, that differ between two runs that are alike."""
        return {
            column
            for copy in self.copies
            for column in differing_columns(
                one.rows[copy.alias], other.rows[copy.alias], copy.schema
            )
        }

    def without(self, columns: set[str]) -> "Comparison":
        """Return a comparison that ignores these columns as well."""
        how = Comparable(
            self.how.wanted,
            self.how.ignored | columns,
            self.how.counted,
            self.how.pointing,
        )
        return Comparison(self.copies, how)

    def differences(self, expected: Result, found: Result) -> list[str]:
        """Say in lines what is different; nothing means that the schedule does no harm."""
        match found.plan.schedule:
            case Schedule.ROLLBACK:
                return list(_phantoms(found))
            case Schedule.CRASH:
                return [*_runs(expected, found), *self._state(expected, found)]
            case Schedule.TWICE:
                return [*_errors(expected, found), *self._state(expected, found)]
            case _:
                return [
                    *_body(expected, found),
                    *_errors(expected, found),
                    *_runs(expected, found),
                    *self._state(expected, found),
                ]

    def _state(self, expected: Result, found: Result) -> Iterator[str]:
        for copy in self.copies:
            rows = expected.rows[copy.alias], found.rows[copy.alias]
            yield from row_differences(self.how, copy.schema, *rows)
        for name, seen in expected.effects.items():
            yield from _counts(name, seen, found.effects[name])


def _phantoms(found: Result) -> Iterator[str]:
    """Say which tasks ran although the transaction of their dispatch was rolled back."""
    for ran in found.ran:
        if ran.transaction is not None and ran.transaction == found.plan.at:
            yield f"{ran.call} ran for a transaction that was rolled back: {ran.error or 'ok'}"


def _body(expected: Result, found: Result) -> Iterator[str]:
    mine, theirs = (
        "no exception" if one.error is None else error_text(one.error)
        for one in (expected, found)
    )
    if mine != theirs:
        yield f"the code itself: {theirs} instead of {mine}"


def _errors(expected: Result, found: Result) -> Iterator[str]:
    mine, theirs = ({(one.name, one.error) for one in each.ran} for each in (expected, found))
    # By name: arguments may be other random numbers in each run.
    for name, error in sorted(theirs - mine, key=str):
        if error is not None:
            yield f"{name} raises {error}"
    for name, error in sorted(mine - theirs, key=str):
        if error is not None:
            yield f"{name} does not raise {error}"


def _runs(expected: Result, found: Result) -> Iterator[str]:
    mine, theirs = (Counter(one.name for one in each.ran) for each in (expected, found))
    for name, times in (mine - theirs).items():
        yield f"{name} does not run ({times} less)" if times > 1 else f"{name} does not run"
    for name, times in (theirs - mine).items():
        yield f"{name} runs {times} times more"


def _counts(name: str, expected: Counter[str], found: Counter[str]) -> Iterator[str]:
    if expected != found:
        yield f"{name}: {found.total():,} instead of {expected.total():,}"
        yield from (f"  + {one}" for one in (found - expected).elements())
        yield from (f"  - {one}" for one in (expected - found).elements())
