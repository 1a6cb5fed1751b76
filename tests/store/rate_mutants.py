"""The guards of rates, each weakened in memory: see ``mutants``."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from aftercommit.gcra import Rate
from aftercommit.store.base import Store
from aftercommit.store.limits.queues import QueueLimits
from aftercommit.store.rates import gate, lines
from aftercommit.store.rates.gate import Gate, RateGate
from aftercommit.store.rates.keys import KeyNow, RateKeys
from aftercommit.store.rates.lines import RateLines
from aftercommit.values import Claim, ClaimQuery


def rates_are_not_asked(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Let every job through the gate."""
    patch.setattr(RateGate, "_pass_gate", lambda *_given: gate.ALL_OPEN)


def tokens_are_not_written(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Forget what has started."""
    patch.setattr(RateKeys, "_write_keys", lambda *_given: None)


def tokens_are_taken_for_all_that_may_start(
    patch: pytest.MonkeyPatch, store: type[Store]
) -> None:
    """Count jobs that were not claimed."""
    take_tokens = RateGate._take_tokens

    def for_all(self: Any, query: Any, passed: Gate, claims: list[Claim]) -> None:
        if claims:
            like = claims[0]
            claims = [like._replace(job_id=one) for one in passed.open]
        take_tokens(self, query, passed, claims)

    patch.setattr(RateGate, "_take_tokens", for_all)


def the_claimer_has_the_clock(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Ask the clock of the worker, each of which is wrong by another number of days."""
    days = count()
    patch.setattr(
        store, "_clock", lambda _self: datetime.now(tz=UTC) + timedelta(days=next(days))
    )


def a_pause_is_no_obstacle(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Start jobs of a key that a task has paused."""
    patch.setattr(KeyNow, "pause", property(lambda _self: timedelta(0)))


def a_new_job_passes_the_line(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Give tokens to those that are new, whoever waits."""
    first = RateLines._first_in_line

    def nobody(self: Any, numbers: Mapping[str, int]) -> Any:
        return {} if self in deciding else first(self, numbers)

    deciding: list[Any] = []
    give_tokens = RateGate._give_tokens

    def without_line(self: Any, passed: Gate, of_key: Any) -> None:
        deciding.append(self)
        try:
            give_tokens(self, passed, of_key)
        finally:
            deciding.clear()

    patch.setattr(RateLines, "_first_in_line", nobody)
    patch.setattr(RateGate, "_give_tokens", without_line)


def what_is_too_far_ahead_stays(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Believe a moment that the rate cannot have led to."""
    patch.setattr(KeyNow, "is_too_far_ahead", lambda _self: False)


def what_older_programs_have_changed_stays_in_line(
    patch: pytest.MonkeyPatch, store: type[Store]
) -> None:
    """Wait behind jobs that do not wait."""
    patch.setattr(RateLines, "_take_out_of_line", lambda *_given: None)


def lines_are_as_long_as_the_first_priority(
    patch: pytest.MonkeyPatch, store: type[Store]
) -> None:
    """Do not look at those that are less urgent."""
    rows = store._rows_in_line

    def only_first(self: Any, numbers: Any, below: Mapping[str, int]) -> Any:
        first = all(one == lines.PRIORITIES for one in below.values())
        return rows(self, numbers, below) if first else []

    patch.setattr(store, "_rows_in_line", only_first)


def a_queue_claims_more_than_may_start(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Count, and claim as many as are due."""
    in_slots = QueueLimits.in_slots

    def any_number(self: Any, query: ClaimQuery, claim: Any) -> list[Claim] | None:
        return in_slots(self, replace(query, limit=100), claim)

    patch.setattr(QueueLimits, "in_slots", any_number)


def the_burst_is_as_large_as_you_like(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Save what was not used."""
    patch.setattr(Rate, "allowed", lambda _self, _now, _tat: 1_000)
