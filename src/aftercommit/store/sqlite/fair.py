"""Fair lines on SQLite: nobody else writes meanwhile, so the first of each key stay the first."""

import json
from collections.abc import Sequence

from aftercommit.store.columns import id_from
from aftercommit.store.fair.reading import interleaved
from aftercommit.store.sqlite.limits import GIVEN_IDS, SQLiteLimits
from aftercommit.values import Claim, ClaimQuery

OUT_OF_LINE = ", line = NULL, blocked = NULL, waits_for = 0"


class SQLiteFair(SQLiteLimits):
    """What the store of SQLite does for fair lines."""

    def _claim_from_lines(
        self, query: ClaimQuery, keys: Sequence[str], share: int
    ) -> tuple[list[Claim], str | None]:
        with self._write():
            lines = self._heads_of_lines(query, keys, share, columns="id")
            rows = interleaved(lines)[: query.limit]
            ids = [row[0] for row in rows]
            if not ids:
                return [], None
            claimed = self._claim_part(query, GIVEN_IDS, [json.dumps(ids)], slot=OUT_OF_LINE)
            place = {id_from(one): number for number, one in enumerate(ids)}
            claims = self._leased(claimed, query)
            return sorted(claims, key=lambda one: place[one.job_id]), rows[-1][-1]
