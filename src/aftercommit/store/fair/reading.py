"""Reads the fair lines: which queues have some, which keys of a queue, who is first of a key."""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from aftercommit.models import Blocked, State
from aftercommit.options.fair import BEHIND, FIRST, HEAD, belongs_to, is_gated, range_of
from aftercommit.store.claim import marks
from aftercommit.store.columns import id_from
from aftercommit.store.rates.queues import QueueRates
from aftercommit.values import ClaimQuery

AT_ONCE = 100  # keys in a statement, or jobs in one write

# Jumps from the lines of one queue to those of the next; see ``Part``.
QUEUES = f"""
WITH RECURSIVE turn (line) AS (
    SELECT MIN(line) FROM aftercommit_job WHERE line > '{FIRST}' AND line < '{BEHIND}'
    UNION ALL
    SELECT (
        SELECT MIN(job.line) FROM aftercommit_job AS job
        WHERE job.line > substr(turn.line, 1, {HEAD + 1}) || '{BEHIND}' AND job.line < '{BEHIND}'
    )
    FROM turn WHERE line IS NOT NULL
)
SELECT first.line, first.backend, first.queue, first.id
FROM turn JOIN aftercommit_job AS first ON first.id = (
    SELECT job.id FROM aftercommit_job AS job WHERE job.line = turn.line
    ORDER BY job.line, job.priority, job.run_after, job.id LIMIT 1
)
"""  # noqa: S608 - fixed names
# Jumps from key to key.
KEYS = """
WITH RECURSIVE walked (line, number) AS (
    SELECT MIN(line), 1 FROM aftercommit_job WHERE line > %s AND line < %s
    UNION ALL
    SELECT (
        SELECT MIN(job.line) FROM aftercommit_job AS job
        WHERE job.line > walked.line AND job.line < %s
    ), number + 1
    FROM walked WHERE line IS NOT NULL AND number < {most}
)
SELECT line FROM walked WHERE line IS NOT NULL
"""
WAITS = "blocked = 4 AND state = 'ready' AND run_after <= {now} {unknown}"
# By the highest priority first: no column of the index is descending, see PartialIndex.
FIRST_IN_LINE = """
(
    SELECT {columns} FROM aftercommit_job {index}
    WHERE line = %s AND {waits} AND priority = (
        SELECT priority FROM aftercommit_job {index}
        WHERE line = %s AND {waits}
        ORDER BY line DESC, priority DESC, run_after DESC, id DESC LIMIT 1
    )
    ORDER BY line, priority, run_after, id LIMIT {share} {lock}
)
"""


class Part(NamedTuple):
    """The fair lines of a queue: those of tasks without a limit or a rate, or the others."""

    backend: str
    queue: str
    gated: bool = False


class FairReading(QueueRates):
    """Reads fair lines, never more of one than is asked for."""

    fair_index = ""
    fair_keys_sql = KEYS
    first_in_line_sql = f"SELECT * FROM {FIRST_IN_LINE} AS line{{number}}"  # noqa: S608

    def fair_parts(self) -> list[Part]:
        """Return the parts of the fair lines in which jobs wait."""
        found, strangers = [], []
        for line, backend, queue, job_id in self._fair_part_rows():
            if belongs_to(line, backend, queue):
                found.append(Part(backend, queue, is_gated(line)))
            else:  # moved to another queue by a program that does not know lines
                strangers.append((line, queue, id_from(job_id)))
        for line, queue, _job_id in strangers:
            rows = self._jobs.filter(line=line, queue=queue)
            self.out_of_line(list(rows.values_list("id", flat=True)[:AT_ONCE]))
        return found

    def _fair_part_rows(self) -> list[Any]:
        """Return key, backend, queue and id of the first job of the first line of each part."""
        return self._rows(QUEUES, [])

    @abstractmethod
    def out_of_line(self, job_ids: Sequence[Any]) -> None:
        """Let jobs be claimable that wait in fair lines."""

    def _fair_keys(self, part: Part, after: str, most: int) -> list[str]:
        """Return the next keys behind ``after``, and then those up to it."""
        begin, end = range_of(part.backend, part.queue, gated=part.gated)
        keys = self._walk(max(begin, after), end, most)
        if after > begin and len(keys) < most:
            keys += self._walk(begin, after + BEHIND, most - len(keys))
        return keys

    def _walk(self, begin: str, end: str, most: int) -> list[str]:
        given = [begin, end, end]
        sql = self.fair_keys_sql.format(most=most, index=self.fair_index)
        return [row[0] for row in self._rows(sql, given[: sql.count("%s")])]

    def _heads_of_lines(
        self, query: ClaimQuery, keys: Sequence[str], share: int, *, columns: str, lock: str = ""
    ) -> list[list[Any]]:
        """Return the first ``share`` jobs of each key: rows of these columns and of the key."""
        rows: dict[str, list[Any]] = {key: [] for key in keys}
        unknown = f"AND task_path NOT IN ({marks(query.unknown)})" if query.unknown else ""
        waits = WAITS.format(now=self.now_sql.removeprefix("SELECT "), unknown=unknown)
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            sql = " UNION ALL ".join(
                self.first_in_line_sql.format(
                    columns=f"{columns}, line",
                    index=self.fair_index,
                    waits=waits,
                    share=share,
                    lock=lock,
                    number=number,
                )
                for number in range(len(some))
            )
            given = [value for key in some for value in [key, *query.unknown] * 2]
            for row in self._rows(sql, given):
                rows[row[-1]].append(row)
        return list(rows.values())

    def _is_waiting(self) -> Any:
        return self._jobs.filter(blocked=Blocked.FAIR, state=State.READY)


def interleaved(lines: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the first of each line, then the second of each, and so on."""
    return [one for some in zip_longest(*lines) for one in some if one is not None]
