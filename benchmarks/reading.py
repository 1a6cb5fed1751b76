"""What the statements of a call take, and how the database carries them out."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EXPLAIN = {
    "postgresql": "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ",
    "mysql": "EXPLAIN ",
    "sqlite": "EXPLAIN QUERY PLAN ",
}
LONGEST_SQL = 600  # characters that are printed


class Asked:
    """The statements of one call."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._found: list[tuple[float, str, Any]] = []
        self._explaining = False
        self.count = 0
        self.buffers = 0  # pages that PostgreSQL has read, from memory or disk

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Time and explain each statement that only reads."""
        with self._connection.execute_wrapper(self._explain):
            yield

    def _explain(self, execute: Any, sql: str, given: Any, many: bool, context: Any) -> Any:
        if self._explaining:
            return execute(sql, given, many, context)
        self.count += 1
        reads = sql.lstrip().startswith(("SELECT", "WITH", "(")) and "FOR UPDATE" not in sql
        plan = self._plan(sql, given) if reads else None
        began = time.perf_counter()
        try:
            return execute(sql, given, many, context)
        finally:
            self._found.append((1000 * (time.perf_counter() - began), sql, plan))

    def _plan(self, sql: str, given: Any) -> Any:
        self._explaining = True
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(EXPLAIN[self._connection.vendor] + sql, given)
                rows = cursor.fetchall()
        finally:
            self._explaining = False
        if self._connection.vendor != "postgresql":
            return "\n".join(map(str, rows))
        (found,) = json.loads(rows[0][0]) if isinstance(rows[0][0], str) else rows[0][0]
        plan = found["Plan"]
        self.buffers += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        return "\n".join(_lines(plan, 0))

    @property
    def slowest(self) -> float:
        """How long the slowest statement took, in milliseconds."""
        return max((took for took, _sql, _plan in self._found), default=0.0)

    def plans(self, above: float | None) -> Iterator[str]:
        """Yield the plans of the statements that took longer than so many milliseconds."""
        for took, sql, plan in self._found:
            if above is not None and took > above:
                yield f"    {took:.1f} ms: {sql[:LONGEST_SQL]}\n{plan}\n"


def _lines(plan: dict[str, Any], depth: int) -> Iterator[str]:
    what = " ".join(
        str(plan[key]) for key in ("Node Type", "Relation Name", "Index Name") if key in plan
    )
    blocks = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    condition = plan.get("Index Cond") or plan.get("Filter") or ""
    yield (
        f"{'  ' * depth}{what}: {plan['Actual Rows']} rows x {plan['Actual Loops']}, "
        f"{plan['Actual Total Time']} ms, {blocks} pages {condition}"
    )
    for part in plan.get("Plans", ()):
        yield from _lines(part, depth + 1)
