"""The guards of fair lines, each weakened in memory: see ``mutants``."""

from typing import Any

import pytest
from django.db import connection

from aftercommit.store.base import Store
from aftercommit.store.fair import claims, reading
from aftercommit.store.fair.claims import FairClaims, InTurn
from aftercommit.store.fair.gates import FairGates
from tests.store.mutants import rewrite


def each_claim_begins_with_the_first_key(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Forget where the last claim has ended."""
    keys = store._fair_keys
    patch.setattr(store, "_fair_keys", lambda self, part, after, most: keys(self, part, "", most))


def the_first_keys_get_more_each_time(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Begin behind the last key, also if it gave less than the first ones."""
    claim = store._claim_from_lines
    patch.setattr(store, "_claim_from_lines", lambda self, *given: (claim(self, *given)[0], None))


def the_last_key_is_the_end(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Do not go on with the first key behind the last one."""

    def keys(self: Any, part: Any, after: str, most: int) -> list[str]:
        begin, end = reading.range_of(part.backend, part.queue, gated=part.gated)
        found: list[str] = self._walk(max(begin, after), end, most)
        return found

    patch.setattr(store, "_fair_keys", keys)


def the_first_key_gets_all(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Fill the claim with what is in the first line."""
    patch.setattr(claims.math, "ceil", lambda _share: 1_000)


def jobs_come_line_by_line(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Return all of one key before the next key's."""
    if connection.vendor == "postgresql":
        from aftercommit.store.postgresql import fair  # noqa: PLC0415

        rewrite(patch, fair, "ONE_OF_EACH", ("due.place, due.number", "due.number, due.place"))
        return
    name = {"mysql": "mysql", "sqlite": "sqlite"}[connection.vendor]
    module = __import__(f"aftercommit.store.{name}.fair", fromlist=["fair"])
    patch.setattr(module, "interleaved", lambda lines: [one for line in lines for one in line])


def priorities_do_not_count(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take the lowest priority first."""
    if connection.vendor == "postgresql":
        from aftercommit.store.postgresql import fair  # noqa: PLC0415

        text = fair.IN_TURN.replace("priority DESC, run_after DESC", "priority, run_after")
        assert text != fair.IN_TURN
        text = text.replace("line DESC", "line").replace("priority <", "priority >")
        patch.setattr(fair, "IN_TURN", text)
        return
    first = store.first_in_line_sql.replace("line DESC, priority DESC", "line, priority")
    patch.setattr(store, "first_in_line_sql", first)


def due_jobs_join_no_line(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Leave them where only plain claims look, which leave them out."""
    patch.setattr(FairClaims, "_into_lines", lambda self, query: 0)


def a_line_keeps_the_key_of_the_old_queue(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Let a job that was moved wait where nobody looks for it."""
    patch.setattr(claims, "head_of", lambda _backend, _queue: "q" + "0" * 18)


def the_limit_is_no_gate(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Let all jobs through that are first."""
    free = FairGates._free_slots

    def any_number(self: Any, *given: Any) -> dict[str, int]:
        return dict.fromkeys(free(self, *given), 1_000)

    patch.setattr(FairGates, "_free_slots", any_number)


def rounds_end_at_the_last_key_with_a_slot(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Begin with the same key whoever had the slot before."""
    in_turn = FairClaims._in_turn_of

    def begins_anew(self: Any, query: Any, part: Any, after: str) -> InTurn:
        return in_turn(self, query, part, "")

    patch.setattr(FairClaims, "_in_turn_of", begins_anew)


def what_others_have_ended_stays(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Look at empty lines for ever."""
    patch.setattr(FairClaims, "_clear", lambda self, *given: None)


def closed_lines_are_looked_at_few_at_a_time(
    patch: pytest.MonkeyPatch, store: type[Store]
) -> None:
    """Look at no more lines in a claim of few jobs than in one of as many that are open."""
    patch.setattr(claims, "MOST_CLOSED", claims.MOST_ROUNDS)
    patch.setattr(claims, "MOST_KEYS", 1)
