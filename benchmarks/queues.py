"""All queues that are measured. Imported when the server runs: some read its address."""

from benchmarks.peers.awa import Awa
from benchmarks.peers.base import Peer
from benchmarks.peers.brokers import Celery, Dramatiq, Huey, Rq
from benchmarks.peers.django_queues import (
    Aftercommit,
    AftercommitAlone,
    AftercommitAtomic,
    DjQueue,
    TasksDb,
)
from benchmarks.peers.graphile import Graphile
from benchmarks.peers.pgqueuer import PgQueuer
from benchmarks.peers.procrastinate import Procrastinate

PEERS: tuple[type[Peer], ...] = (
    Aftercommit,
    AftercommitAtomic,
    AftercommitAlone,
    Graphile,
    PgQueuer,
    Awa,
    Procrastinate,
    TasksDb,
    DjQueue,
    Celery,
    Dramatiq,
    Huey,
    Rq,
)
