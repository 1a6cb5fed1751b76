"""The guards of limits, each weakened in memory: see ``mutants``."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection

from aftercommit.models import Blocked
from aftercommit.store.base import Store
from aftercommit.store.limits.claims import Limits
from aftercommit.store.limits.lines import Known, Line, Verdict
from aftercommit.store.mysql import store as mysql
from aftercommit.store.sqlite import store as sqlite
from tests.store.mutants import postgresql, rewrite


def keys_are_not_locked(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Decide about a key that somebody else is deciding about."""

    @contextmanager
    def with_keys(self: Store) -> Iterator[Callable[[Collection[str]], set[str]]]:
        with self._write():
            yield set

    patch.setattr(store, "_with_keys", with_keys)


def a_limit_is_no_obstacle(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Claim jobs with a limit key as all others."""
    if connection.vendor == "postgresql":
        rewrite(patch, postgresql(), "WITHOUT_LIMIT", ("AND due.limit_key IS NULL", ""))
    elif connection.vendor == "sqlite":
        patch.setattr(sqlite, "WITHOUT_LIMIT", "")
        first = store._first  # type: ignore[attr-defined]

        def without_keys(self: Any, parts: Any, columns: str, limit: int) -> Any:
            return first(self, parts, columns.replace("limit_key", "NULL"), limit)

        patch.setattr(store, "_first", without_keys)
    else:
        keyless = ("SELECT id, limit_key", "SELECT id, NULL")
        rewrite(patch, mysql, "DUE", keyless)


def _blind(patch: pytest.MonkeyPatch, blind_for: Callable[[Known], bool]) -> None:
    note = Line.note

    def some(self: Line, job: Known) -> None:
        if not blind_for(job):
            note(self, job)

    patch.setattr(Line, "note", some)


def slots_in_use_are_not_counted(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Give slots as if nobody ran."""
    _blind(patch, lambda job: bool(job.slots))


def jobs_let_through_are_not_counted(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Let others through for the same slots."""
    _blind(patch, lambda job: job.blocked == Blocked.PASSED)


def a_key_is_held_while_its_job_runs_only(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Forget who has started, when it does not run."""
    _blind(patch, lambda job: job.blocked == Blocked.HOLDS and not job.slots)


def _leave(patch: pytest.MonkeyPatch, left: Callable[[Verdict], Any]) -> None:
    settle = Limits._settle

    def without(self: Limits, lines: Any, verdicts: dict[str, Verdict], taken: Any) -> Any:
        for one in verdicts.values():
            left(one).clear()
        return settle(self, lines, verdicts, taken)

    patch.setattr(Limits, "_settle", without)


def nobody_is_let_through(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Leave parked jobs where they are."""
    _leave(patch, lambda verdict: verdict.let_through)


def jobs_without_a_slot_stay_claimable(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Park nobody."""
    _leave(patch, lambda verdict: verdict.parked)


def only_what_can_be_locked_is_in_line(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Pass over a candidate whose row is locked, and take the next one."""
    lines = Limits._lines

    def lockable(self: Limits, limits: Any, candidates: Any) -> Any:
        found, left = lines(self, limits, candidates)
        ids = [one.job_id for one in left]
        rows = self._locked(self._jobs.filter(id__in=ids), skip=True)
        free = set(rows.values_list("id", flat=True))
        return found, [one for one in left if one.job_id in free]

    patch.setattr(Limits, "_lines", lockable)


def nobody_steps_over_locked_keys(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Look at the first due jobs only, whoever has locked their keys."""
    look = store._look

    def none_is_busy(*given: Any) -> Any:
        return look(*given)._replace(busy=())

    patch.setattr(store, "_look", none_is_busy)


def keys_in_use_are_looked_at(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Look for parked jobs while somebody is parking them."""
    patch.setattr(store, "_unlocked", lambda _self, keys: list(keys))


def any_key_of_a_candidate_will_do(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Decide about a job by the key that it had when it was looked at."""
    lines = Limits._lines

    def as_looked_at(self: Limits, limits: Any, candidates: Any) -> Any:
        return lines(self, limits, candidates)[0], list(candidates)

    patch.setattr(Limits, "_lines", as_looked_at)


def places_are_not_kept(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Park who is behind a job that is not claimed, and is in no line."""
    patch.setattr(Limits, "_keep_places", lambda self, *given: None)


def any_job_of_an_ordered_key_may_be_named(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Claim a job by its id, whoever is before it."""
    patch.setattr(Limits, "_has_earlier", lambda self, one, lines: False)


def limits_are_forgotten(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take every task for one without a limit."""
    claim = store.claim

    def unlimited(self: Store, query: Any) -> Any:
        return claim(self, replace(query, limit_of=lambda _path: None))

    patch.setattr(store, "claim", unlimited)
