"""What a concurrency limit costs: the same jobs without one, and under each kind of limit."""

from benchmarks.measure import Figure, drained, filled
from benchmarks.peers.base import Peer
from benchmarks.server import Server


def limited(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Drain jobs without a limit, then with each; say which share of the rate is kept."""
    figures: list[Figure] = []
    plain = "row" if workload == "limited_rows" else "noop"
    limits = [kind for kind in peer.limits if kind.startswith("row_") == (plain == "row")]
    for kind in (plain, *limits):
        number = filled(peer, workload, kind)
        rate = drained(peer, server, workload, kind=kind, number=number)[0].value
        what = f"{workload}: {peer.limits.get(kind, 'no limit')}"
        figures.append(Figure(what=what, value=rate, unit="jobs/s"))
        if kind != plain:
            kept = 100 * rate / figures[0].value
            figures.append(Figure(what=f"{what}, rate kept", value=kept, unit="%"))
    return figures
