"""Claims jobs under limits on PostgreSQL by two statements, if nobody of their keys waits aside.

The first reads the first due jobs, locks their keys, and returns only which keys there are. The
second sees what others had written by then, and gives the free slots of each key to its first
jobs, as many as have tokens if the key has a rate. So neither slots nor waiting jobs are read
into this process. ``Limits`` decides about all other keys: those of which jobs are parked, were
let through or hold it, those that are ordered, or have both a limit and a rate, and those of
tasks that this process does not know.
"""

import json
from collections.abc import Iterable, Sequence
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
    """The due jobs of one task, as the first statement has found them. Keys are as JSON."""

    path: str
    is_alone: bool  # all have keys, under which there are no jobs of other tasks
    is_rated: bool  # the keys of all jobs are those of their rates as well
    jobs: int
    of_held: int  # jobs, of keys that were locked
    keys: int  # that were locked
    held: str | None
    jobs_of: str | None  # of each locked key the number of jobs, as an array
    busy: str | None  # keys that somebody else has locked
    untried: int  # keys


class Terms(NamedTuple):
    """What holds for the locked keys of one task."""

    slots: int | None  # None: any number
    rate: Rate | None
    found: Found


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
        busy = {one.path: json.loads(one.busy) for one in found if one.busy is not None}
        looked_at = sum(one.jobs for one in found)
        look = Look(
            due=[],
            held=(),
            busy=[key for keys in busy.values() for key in keys],
            full=looked_at == most,
            capped=any(one.untried for one in found),
        )
        for path, keys in busy.items():
            if query.rate_of(path) is not None:
                for key in keys:
                    query.line_met(key, path, None)
        if not terms:
            return Round(look, [])
        claims, others, reached = self._grant(query, due, given, terms)
        left = sum(one.of_held for one in found) - len(claims)
        return Round(
            look,
            claims,
            left=left,
            has_lines=others > 0,
            looked_at=looked_at,
            reached=reached,
        )

    def _grant(
        self, query: ClaimQuery, due: str, given: dict[str, Any], terms: Sequence[Terms]
    ) -> tuple[list[Claim], int, int]:
        """Claim the first jobs of these keys.

        Returns also how many keys need more than that, and which due job got the last slot.
        """
        given |= {
            "keys": _joined("[]", (one.found.held for one in terms)),
            "most": _for_each_key(terms, (one.slots for one in terms)),
            "jobs": _joined("{}", (one.found.jobs_of for one in terms)),
            "wanted": query.limit,
        }
        rates = [one.rate for one in terms]
        if any(rates):
            every = (one and one.interval // MICROSECOND for one in rates)
            given |= {
                "every": _for_each_key(terms, every),
                "burst": _for_each_key(terms, (one and one.burst for one in rates)),
            }
            granted, charged, unpaid = OF_RATES, CHARGED, UNPAID
        else:
            granted, charged, unpaid = OF_LIMITS, "", "0"
        sql = CLAIM_WITH_KEYS.format(
            due=GRANT.format(due=due, **granted), ended=charged, taken=WITH_GRANT
        ) + OTHERS.format(unpaid=unpaid)
        rows, lease_id = self._run_claim(sql, query, given)
        *rows, (_none, others, reached, *_nulls) = rows
        last = query.worker_id, lease_id
        return [Claim._make((*row[:-1], *last, row[-1])) for row in rows], others, reached


def _terms(query: ClaimQuery, found: Sequence[Found]) -> list[Terms] | None:
    """Return what holds for the locked keys; None if one of them needs more than a free slot."""
    terms: list[Terms] = []
    for one in found:
        limit, rate = query.limit_of(one.path), query.rate_of(one.path)
        if not one.is_alone or limit is None or limit.ordered:
            return None
        if rate is not None and not one.is_rated:
            return None
        if one.keys:
            terms.append(Terms(None if limit == UNLIMITED else limit.slots, rate, one))
    return terms


def _joined(brackets: str, lists: Iterable[str | None]) -> str:
    """Return the text of one list with what is in the texts of these."""
    return ",".join(one[1:-1] for one in lists if one is not None).join(brackets)


def _for_each_key(terms: Iterable[Terms], values: Iterable[int | None]) -> str:
    """Return an array that has the value of a task for each of its locked keys."""
    each = zip(terms, values, strict=True)
    return array(_or_null(value) for one, value in each for _key in range(one.found.keys))


def _or_null(value: int | None) -> int | str:
    return "NULL" if value is None else value
