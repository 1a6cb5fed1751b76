"""Jobs that write a row each, many of them by one ``bulk_create``."""

from benchmarks.measure import Figure, drained, filled
from benchmarks.peers.base import Peer
from benchmarks.server import Server

PROCESSES = {1: "", 2: ", two processes"}
KINDS = {"batch_row": "plain", "batch_atomic": "atomic"}


def batch(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Drain them, plain and atomic, by one process and by two.

    Figures are there only if each job has left exactly one row.
    """
    figures: list[Figure] = []
    for kind, said in KINDS.items():
        for processes, by in PROCESSES.items():
            number = filled(peer, workload, kind)
            what = f"{workload}, {said}{by}"
            figures += drained(peer, server, what, kind=kind, number=number, processes=processes)
    return figures
