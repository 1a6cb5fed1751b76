"""What turns cost, and what they are for: how many jobs of a large tenant others wait for."""

from typing import Any
from uuid import UUID

from benchmarks.measure import Figure, drained, filled, wait, working
from benchmarks.peers.base import Peer
from benchmarks.server import Server

FEW = 10
BETWEEN = """
SELECT COUNT(*) FROM aftercommit_job AS other
WHERE other.started_at > (SELECT MIN(enqueued_at) FROM aftercommit_job WHERE id IN ({ids}))
  AND other.started_at < (SELECT MAX(finished_at) FROM aftercommit_job WHERE id IN ({ids}))
  AND other.id NOT IN ({ids})
"""


def fair(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Drain jobs that take no turns, then with two tenants and a thousand; count who waits."""
    figures: list[Figure] = []
    for kind, what in {"noop": "no turns", **peer.turns}.items():
        number = filled(peer, workload, kind)
        rate = drained(peer, server, workload, kind=kind, number=number)[0].value
        figures.append(Figure(what=f"fair: {what}", value=rate, unit="jobs/s"))
        if kind != "noop":
            kept = 100 * rate / figures[0].value
            figures.append(Figure(what=f"fair: {what}, rate kept", value=kept, unit="%"))
    for kind in ("noop", "fair_two"):
        what = f"fair: others that start while ten jobs wait, {peer.turns.get(kind, 'no turns')}"
        figures.append(Figure(what=what, value=_others(peer, kind), unit="jobs", better="less"))
    return figures


def _others(peer: Any, kind: str) -> int:
    """Return how many jobs of a tenant start between another one's calls and their last end."""
    from django.db import connection  # noqa: PLC0415 - once Django is set up

    from aftercommit.models import Job  # noqa: PLC0415

    number = filled(peer, "fair", kind)
    task = peer.task("fair" if kind == "fair_two" else kind)
    with working(peer, 1):
        wait(lambda: peer.left() <= 0.9 * number, every=0.02)
        ids = task.enqueue_many([(FEW,)] * FEW)  # of a tenant of its own
        wait(peer.finished, every=0.05)
    field = Job._meta.get_field("id")
    names = ", ".join(f"'{field.get_db_prep_value(UUID(one), connection)}'" for one in ids)
    return int(peer.connection.execute(BETWEEN.format(ids=names)).fetchone()[0])
