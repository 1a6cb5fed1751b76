"""What a limit or a rate costs: the same jobs without one, and under each kind of it."""

from collections.abc import Mapping

from benchmarks.measure import Figure, drained, filled
from benchmarks.peers.base import Peer
from benchmarks.server import Server


def limited(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Drain jobs without a limit, then with each; say which share of the rate is kept."""
    plain = "row" if workload == "limited_rows" else "noop"
    limits = {
        kind: what
        for kind, what in peer.limits.items()
        if kind.startswith("row_") == (plain == "row")
    }
    return _compared(peer, server, workload, {plain: "no limit", **limits})


def rated(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Drain jobs without a rate, then with rates that none of them has to wait for."""
    return _compared(peer, server, workload, {"noop": "no rate", **peer.rates})


def _compared(
    peer: Peer, server: Server, workload: str, kinds: Mapping[str, str]
) -> list[Figure]:
    figures: list[Figure] = []
    for kind, said in kinds.items():
        number = filled(peer, workload, kind)
        rate = drained(peer, server, workload, kind=kind, number=number)[0].value
        what = f"{workload}: {said}"
        figures.append(Figure(what=what, value=rate, unit="jobs/s"))
        if len(figures) > 1:
            kept = 100 * rate / figures[0].value
            figures.append(Figure(what=f"{what}, rate kept", value=kept, unit="%"))
    return figures
