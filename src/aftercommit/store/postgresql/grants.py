"""Claims jobs under limits on PostgreSQL by two statements, if nobody of their keys waits aside.

The first reads the first due jobs, locks their keys, and returns only which keys there are. The
second sees what others had written by then, and gives the free slots of each key to its first
jobs, as many as have tokens if the key has a rate. So neither slots nor waiting jobs are read
into this process. ``Limits`` decides about all other keys: those of which jobs are parked, were
let through or hold it, those that are ordered, or have both a limit and a rate, and those of
tasks that this process does not know.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from aftercommit.gcra import Rate
from aftercommit.store.limits.rounds import Look, Round
from aftercommit.store.postgresql.grants_sql import (
    CHARGED,
    GRANT,
    OF_LIMITS,
    OF_RATES,
    OTHERS,
    SURVEY,
    TO_GRANT,
    UNPAID,
    WITH_GRANT,
)
from aftercommit.store.postgresql.limits import PostgreSQLLimits
from aftercommit.store.postgresql.sql import CLAIM_WITH_KEYS, array
from aftercommit.values import UNLIMITED, Claim, ClaimQuery

MOST_KEYS = 1_000  # whose locks one claim takes; the server may have room for fewer
MICROSECOND = timedelta(microseconds=1)


class Found(NamedTuple):
    """The due jobs of one key, as the first statement has found them."""

    key: str | None
    path: str  # of their task
    last_path: str  # another one, if they are of several tasks
    jobs: int
    rated: int  # of which the key is that of their rate as well
    held: bool | None  # whether the key was locked; None: it was not tried


class Terms(NamedTuple):
    """What holds for a locked key."""

    slots: int | None  # None: any number
    rate: Rate | None
    jobs: int  # that were due


class PostgreSQLGrants(PostgreSQLLimits):
    """What the store of PostgreSQL does where the free slots go to whoever is first."""

    def _claim_at_once(self, query: ClaimQuery, most: int) -> Round | None:
        """Claim by two statements; see ``Limits._claim_at_once``."""
        if query.only is not None or query.limited:
            return None
        due, given = self._selection(query)
        for locking, reading in TO_GRANT:
            due = due.replace(locking, reading)
        given |= {"limit": most, "most_keys": MOST_KEYS, "longest": self._longest}
        found = [Found._make(row) for row in self._run(SURVEY.format(due=due), given)]
        terms = _terms(query, found)
        if terms is None:
            return None
        look = Look(
            due=[],
            held=terms,
            busy=[one.key for one in found if one.held is False and one.key is not None],
            full=sum(one.jobs for one in found) == most,
            capped=any(one.held is None for one in found),
        )
        for one in found:
            if one.held is False and one.key is not None and query.rate_of(one.path) is not None:
                query.line_met(one.key, one.path, None)
        if not terms:
            return Round(look, [])
        claims, others = self._grant(query, due, given, terms)
        looked_at = sum(one.jobs for one in found)
        left = sum(one.jobs for one in found if one.held) - len(claims)
        return Round(look, claims, left=left, has_lines=others > 0, looked_at=looked_at)

    def _grant(
        self, query: ClaimQuery, due: str, given: dict[str, Any], terms: Mapping[str, Terms]
    ) -> tuple[list[Claim], int]:
        """Claim the first jobs of these keys; return also how many keys need more than that."""
        rates = [one.rate for one in terms.values()]
        given |= {
            "keys": json.dumps(list(terms)),
            "most": array(_or_null(one.slots) for one in terms.values()),
            "jobs": array(one.jobs for one in terms.values()),
            "wanted": query.limit,
        }
        if any(rates):
            given |= {
                "every": array(_or_null(one and one.interval // MICROSECOND) for one in rates),
                "burst": array(_or_null(one and one.burst) for one in rates),
            }
            granted, charged, unpaid = OF_RATES, CHARGED, UNPAID
        else:
            granted, charged, unpaid = OF_LIMITS, "", "0"
        sql = CLAIM_WITH_KEYS.format(
            due=GRANT.format(due=due, **granted), ended=charged, taken=WITH_GRANT
        ) + OTHERS.format(unpaid=unpaid)
        rows, lease_id = self._run_claim(sql, query, given)
        *rows, (_none, others, *_nulls) = rows
        last = query.worker_id, lease_id
        return [Claim._make((*row[:-1], *last, row[-1])) for row in rows], others


def _terms(query: ClaimQuery, found: Sequence[Found]) -> dict[str, Terms] | None:
    """Return what holds for each locked key; None if one of them needs more than a free slot."""
    terms: dict[str, Terms] = {}
    for one in found:
        if one.key is None or one.path != one.last_path:
            return None
        limit, rate = query.limit_of(one.path), query.rate_of(one.path)
        if limit is None or limit.ordered or (rate is not None and one.rated < one.jobs):
            return None
        if one.held:
            slots = None if limit == UNLIMITED else limit.slots
            terms[one.key] = Terms(slots, rate, one.jobs)
    return terms


def _or_null(value: int | None) -> int | str:
    return "NULL" if value is None else value
