"""graphile-worker, a queue of the Node world: the fastest on PostgreSQL that we know."""

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import ClassVar

from benchmarks.peers.base import Enqueue, Peer

HERE = Path(__file__).resolve().parents[1] / "graphile"
ADD = (
    "SELECT graphile_worker.add_jobs(array(SELECT json_populate_record("
    "NULL::graphile_worker.job_spec, json_build_object('identifier', %(kind)s::text,"
    " 'payload', json_build_object('number', number)))"
    " FROM generate_series(1, %(number)s) AS number))"
)
ADD_ONE = "SELECT graphile_worker.add_job(%s, %s::json)"


class Graphile(Peer):
    """The preset of worker.js: batches all along, as its documentation proposes for speed."""

    name = "graphile-worker"
    jobs: ClassVar = {
        "drain": 150_000,
        "drain2": 150_000,
        "drain4": 150_000,
        "row": 20_000,
        "held": 400_000,
        "readers": 400_000,
        "bloat": 400_000,
    }
    workloads = (*Peer.workloads, "drain4")
    tables = ("graphile_worker._private_jobs",)
    owns = r"^graphile_worker\."
    unfinished = "SELECT COUNT(*) FROM graphile_worker._private_jobs"

    @property
    def version(self) -> str:
        """Which release is measured."""
        package = HERE / "node_modules" / "graphile-worker" / "package.json"
        return str(json.loads(package.read_text())["version"])

    def set_up(self) -> None:
        """Install it with npm, and apply its schema."""
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError("npm is not installed")
        subprocess.run(
            [npm, "install", "--silent", "--no-audit", "--no-fund"], cwd=HERE, check=True
        )
        subprocess.run([*self.command(), "--schema-only"], check=True)

    def fill(self, kind: str, number: int) -> None:
        """Use ``add_jobs``."""
        self.connection.execute(ADD, {"kind": kind, "number": number})

    def command(self) -> list[str]:
        """Return the command of one worker process."""
        return ["node", str(HERE / "worker.js"), self.dsn]

    def enqueue_one(self) -> Enqueue:
        """Call ``add_job``."""
        return lambda: self.connection.execute(ADD_ONE, ["noop", '{"number": 1}'])

    def in_transaction(self, number: int) -> float:
        """Call it again and again in one transaction."""
        began = time.perf_counter()
        with self.connection.transaction():
            for _one in range(number):
                self.connection.execute(ADD_ONE, ["noop", '{"number": 1}'])
        return time.perf_counter() - began

    def send_stamp(self) -> Enqueue:
        """Add the present moment; as text, because JavaScript's numbers end before."""
        return lambda: self.connection.execute(
            ADD_ONE, ["stamp", json.dumps({"sent": str(time.time_ns())})]
        )
