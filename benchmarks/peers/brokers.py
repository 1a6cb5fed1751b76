"""Celery, RQ, Huey and Dramatiq on a Redis server that is thrown away."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import redis

from benchmarks.peers.base import Enqueue, Peer, timed

STARTED = 10.0  # seconds
BIN = Path(sys.executable).parent


class Redis:
    """A Redis server in memory, shared by all peers that need one."""

    _process: ClassVar[subprocess.Popen[bytes] | None] = None

    @classmethod
    def start(cls) -> None:
        """Start it, once, and say in the environment where it is.

        Raises ``FileNotFoundError`` where no ``redis-server`` is installed.
        """
        if cls._process is not None:
            return
        server = shutil.which("redis-server")
        if server is None:
            raise FileNotFoundError("redis-server")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        folder = tempfile.mkdtemp(prefix="aftercommit_bench_redis_")
        options = ("--port", str(port), "--save", "", "--appendonly", "no", "--dir", folder)
        cls._process = subprocess.Popen([server, *options], stdout=subprocess.DEVNULL)
        os.environ["BENCH_REDIS"] = f"redis://127.0.0.1:{port}/0"
        ends = time.monotonic() + STARTED
        while not cls._answers() and time.monotonic() < ends:
            time.sleep(0.05)

    @classmethod
    def stop(cls) -> None:
        """End it."""
        if cls._process is not None:
            cls._process.terminate()
            cls._process.wait()
            cls._process = None

    @classmethod
    def _answers(cls) -> bool:
        try:
            return bool(redis.Redis.from_url(os.environ["BENCH_REDIS"]).ping())
        except redis.ConnectionError:
            return False


class BrokerQueue(Peer):
    """A queue on Redis: it knows no transaction, and "done" is what has left the broker."""

    package: ClassVar[str]
    workloads = ("drain", "drain2", "row", "enqueue", "idle")
    tables = ("bench_row",)

    def set_up(self) -> None:
        """Start the server."""
        Redis.start()
        self.redis = redis.Redis.from_url(os.environ["BENCH_REDIS"])

    @property
    def version(self) -> str:
        """Which release is measured."""
        server = self.redis.info()["redis_version"]
        return f"{metadata.version(self.package)}, Redis {server}"

    @property
    def apps(self) -> Any:
        """The queues, once the server runs."""
        from benchmarks.peers import apps  # noqa: PLC0415 - reads the address

        return apps

    def send(self, kind: str, number: int) -> object:
        """Enqueue one job."""
        raise NotImplementedError

    def fill(self, kind: str, number: int) -> None:
        """One by one."""
        for one in range(number):
            self.send(kind, one)

    def enqueue_one(self) -> Enqueue:
        """Publish."""
        return lambda: self.send("noop", 1)

    def in_transaction(self, number: int) -> float:
        """Publish one after the other: what a transaction around it would see."""
        return timed(lambda: self.fill("noop", number))

    def send_stamp(self) -> Enqueue:
        """Publish the present moment."""
        return lambda: self.send("stamp", time.time_ns())

    def empty(self) -> None:
        """Empty the server and the rows."""
        self.redis.flushdb()
        self.connection.execute("TRUNCATE bench_row")

    def close(self) -> None:
        """End the server as well."""
        Redis.stop()
        super().close()


class Celery(BrokerQueue):
    """One prefork process for each worker, without gossip."""

    name = "Celery"
    package = "celery"
    jobs: ClassVar = {"drain": 6_000, "drain2": 6_000, "row": 3_000}

    def send(self, kind: str, number: int) -> object:
        """Call ``delay``."""
        return self.apps.CELERY[kind].delay(number)

    def left(self) -> int:
        """Count what waits and what is not acknowledged."""
        return int(self.redis.llen("celery")) + int(self.redis.hlen("unacked"))

    def command(self) -> list[str]:
        """Return the command of one worker process."""
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        app = ("-A", "benchmarks.peers.apps:celery_app")
        return [sys.executable, "-m", "celery", *app, "worker", "-c", "1", *quiet]


class Rq(BrokerQueue):
    """``SimpleWorker``, which does not fork for each job."""

    name = "RQ"
    package = "rq"
    jobs: ClassVar = {"drain": 1_500, "drain2": 1_500, "row": 1_000}

    def send(self, kind: str, number: int) -> object:
        """Call ``enqueue``."""
        return self.apps.rq_queue.enqueue(self.apps.KINDS[kind], number, result_ttl=0)

    def left(self) -> int:
        """Count what waits and what runs."""
        return int(self.redis.llen("rq:queue:default")) + int(self.redis.zcard("rq:wip:default"))

    def command(self) -> list[str]:
        """Return the command of one worker process."""
        url = ("--url", os.environ["BENCH_REDIS"])
        return [str(BIN / "rq"), "worker", *url, "--worker-class", "rq.SimpleWorker", "default"]


class Huey(BrokerQueue):
    """One thread for each worker."""

    name = "Huey"
    package = "huey"
    jobs: ClassVar = {"drain": 10_000, "drain2": 10_000, "row": 5_000}

    def send(self, kind: str, number: int) -> object:
        """Call the task."""
        return self.apps.HUEY[kind](number)

    def left(self) -> int:
        """Count what waits."""
        return int(self.redis.llen("huey.redis.bench"))

    def command(self) -> list[str]:
        """Return the command of one worker process."""
        app = "benchmarks.peers.apps.huey_app"
        return [str(BIN / "huey_consumer"), app, "-w", "1", "-k", "thread", "-q"]


class Dramatiq(BrokerQueue):
    """One process with eight threads, its default, for each worker."""

    name = "Dramatiq"
    package = "dramatiq"
    jobs: ClassVar = {"drain": 10_000, "drain2": 10_000, "row": 5_000}

    def send(self, kind: str, number: int) -> object:
        """Call ``send``."""
        return self.apps.DRAMATIQ[kind].send(number)

    def left(self) -> int:
        """Count what is not acknowledged."""
        return int(self.redis.hlen("dramatiq:default.msgs"))

    def command(self) -> list[str]:
        """Return the command of one worker process."""
        app = "benchmarks.peers.apps"
        return [sys.executable, "-m", "dramatiq", app, "--processes", "1", "--threads", "8"]
