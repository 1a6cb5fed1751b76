"""What one database answers quickly about all jobs: how many there are, and in which states."""

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from aftercommit.ids import first_id_at, milliseconds_of
from aftercommit.models import Job

ROWS_OF_PAGE = 10  # on PostgreSQL; small jobs are about 30
# What is read for an estimate: pages on PostgreSQL, row numbers on SQLite, parts on MySQL.
PAGES, ROWIDS, PARTS, ROWS_OF_PART = 100, 1000, 32, 30

# By ctid, because TABLESAMPLE does not say how many pages it has read. A row takes 200 bytes or
# more, so a page of 8 KiB has 40 at most; behind those are what dead ones have left.
PAGES_NOW = "SELECT pg_relation_size('aftercommit_job') / current_setting('block_size')::int"
SAMPLE = """
SELECT state, COUNT(*) FROM aftercommit_job
WHERE ctid = ANY (ARRAY(
    SELECT format('(%%s,%%s)', page, line)::tid
    FROM unnest(%s::bigint[]) AS page, generate_series(1, 150) AS line
))
GROUP BY state
"""
ROWIDS_NOW = "SELECT MIN(rowid), MAX(rowid) FROM aftercommit_job"
SOME = "SELECT state, COUNT(*) FROM aftercommit_job WHERE rowid IN ({marks}) GROUP BY state"
EXPLAIN = "EXPLAIN {form} SELECT id FROM aftercommit_job {which}"
TRADITIONAL = "FORMAT=TRADITIONAL"  # which MariaDB has, and does not know by this name
IN_PART = "FORCE INDEX (PRIMARY) WHERE id >= %s AND id < %s"
OF_PART = """
SELECT {number} AS part, state FROM (
    SELECT state FROM aftercommit_job {in_part} ORDER BY id LIMIT {rows}
) AS some{number}
"""


class Estimate(ABC):
    """Asks one database; the connection is the calling thread's."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @abstractmethod
    def size(self) -> int:
        """Return about how many rows it costs to count all of them; rather more."""

    @abstractmethod
    def states(self) -> Counter[str]:
        """Return about how many jobs are in each state."""

    def _rows(self, sql: str, given: list[Any]) -> list[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, given)
            return list(cursor.fetchall())


class OfPostgreSQL(Estimate):
    """By a sample of pages: it needs no statistics, and sees no dead row."""

    def size(self) -> int:
        """Return it by the pages of the table."""
        return ROWS_OF_PAGE * self._pages()

    def states(self) -> Counter[str]:
        """Return it by some of them."""
        pages = self._pages()
        some = random.sample(range(pages), min(pages, PAGES))
        return _scaled(self._rows(SAMPLE, [some]), by=pages / max(len(some), 1))

    def _pages(self) -> int:
        return int(self._rows(PAGES_NOW, [])[0][0])


class OfSQLite(Estimate):
    """By a sample of row numbers; those of deleted rows have none."""

    def size(self) -> int:
        """Return how many numbers there are from the first to the last one."""
        return len(self._numbers())

    def states(self) -> Counter[str]:
        """Return it by some of the numbers."""
        numbers = self._numbers()
        some = random.sample(numbers, min(len(numbers), ROWIDS))
        sql = SOME.format(marks=", ".join(["%s"] * len(some)))
        return _scaled(self._rows(sql, some), by=len(numbers) / max(len(some), 1))

    def _numbers(self) -> range:
        first, last = self._rows(ROWIDS_NOW, [])[0]
        return range(0) if first is None else range(first, last + 1)


class OfMySQL(Estimate):
    """By parts of the primary key, which is in the order of time.

    The optimizer says how many rows a part has. It is wrong by a factor, so only the shares
    count, and most about large parts, so the largest one is halved again and again. A few rows
    of each part stand for it.
    """

    def size(self) -> int:
        """Return it by the statistics of the table."""
        return self._expected("", [])

    def states(self) -> Counter[str]:
        """Return it by the parts."""
        parts = self._parts()
        all_parts = max(sum(-rows for rows, _first, _end in parts), 1)
        share = self.size() / all_parts
        found: Counter[str] = Counter()
        for (rows, _first, _end), some in zip(parts, self._some_of(parts), strict=True):
            for state, number in some.items():
                found[state] += round(share * -rows * number / some.total())
        return found

    def _parts(self) -> list[tuple[int, int, int]]:
        """Return parts: how many rows, as a negative number, and the milliseconds of their ids.

        Not any 128 bits as ids: MariaDB has an order of its own for those of other versions.
        """
        ids = Job.objects.using(self._connection.alias)
        ends = [one for order in ("id", "-id") for one in ids.order_by(order).only("id")[:1]]
        if not ends:
            return []
        first, last = (milliseconds_of(one.id) for one in ends)
        parts = [(-self.size(), first, last + 1)]
        heapify(parts)
        while len(parts) < PARTS and parts[0][1] + 1 < parts[0][2]:
            _rows, first, end = heappop(parts)
            middle = (first + end) // 2
            for begin, behind in ((first, middle), (middle, end)):
                rows = self._expected(IN_PART, self._ids(begin, behind))
                heappush(parts, (-rows, begin, behind))
        return parts

    def _some_of(self, parts: list[tuple[int, int, int]]) -> list[Counter[str]]:
        found: list[Counter[str]] = [Counter() for _part in parts]
        for anywhere in (True, False):  # there may be none behind a place in the middle
            empty = [number for number, some in enumerate(found) if not some]
            sql = [
                OF_PART.format(number=one, in_part=IN_PART, rows=ROWS_OF_PART) for one in empty
            ]
            given: list[Any] = []
            for _rows, first, end in (parts[one] for one in empty):
                begin = random.randrange(first, end) if anywhere else first  # noqa: S311
                given += self._ids(begin, end)
            for part, state in self._rows(" UNION ALL ".join(sql), given) if sql else ():
                found[part][state] += 1
        return found

    def _ids(self, first: int, end: int) -> list[Any]:
        field = Job._meta.get_field("id")
        both = map(first_id_at, (first, end))
        return [field.get_db_prep_value(one, self._connection) for one in both]

    def _expected(self, which: str, given: list[Any]) -> int:
        form = "" if self._connection.mysql_is_mariadb else TRADITIONAL
        with self._connection.cursor() as cursor:
            cursor.execute(EXPLAIN.format(form=form, which=which), given)
            names = [column[0] for column in cursor.description]
            return int(cursor.fetchone()[names.index("rows")] or 0)


def _scaled(found: list[Any], *, by: float) -> Counter[str]:
    return Counter({state: round(number * by) for state, number in found})


ESTIMATES: dict[str, Callable[[Any], Estimate]] = {
    "postgresql": OfPostgreSQL,
    "mysql": OfMySQL,
    "sqlite": OfSQLite,
}
