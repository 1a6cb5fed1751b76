"""The port of a worker: what a probe is told while the worker is well, and while it is not."""

import json
import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import timedelta

import pytest
from prometheus_client import parser

from aftercommit import jobs
from aftercommit.models import Job
from aftercommit.windows.health import port as health_port
from aftercommit.windows.metrics.names import OF_WORKER
from tests.app.chores import plain, restless
from tests.process.rig import STARTED
from tests.process.test_silent_database import silent  # noqa: F401 - a fixture
from tests.waiting import wait_until

QUICKLY = [
    "from datetime import timedelta",
    "from aftercommit.worker import condition",
    "condition.HANGS_AFTER = condition.FAILS_AFTER = timedelta(seconds=1)",
]


@pytest.fixture
def port():
    """Return a port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def get(port, path):
    """Return status and text of a page; nothing, if nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def reasons(port, path="/readyz"):
    """Return what a probe is told."""
    status, text = get(port, path)
    told = json.loads(text)["reasons"] if status in {200, 503} else ["nobody answers"]
    assert (status == 200) == (not told)
    return told


def started(rig, port, *more):
    """Start a worker with a port; return it when it is ready."""
    worker = rig.worker("--health-port", f"127.0.0.1:{port}", *more)
    wait_until(lambda: reasons(port) == [], deadline=STARTED, why="the worker is ready")
    return worker


def metric(port, name):
    """Return the sample of a metric without labels."""
    families = parser.text_string_to_metric_families(get(port, "/metrics")[1])
    return {one.name: one.value for family in families for one in family.samples}[name]


def test_a_worker_that_is_well_says_so_and_counts(rig, port):
    worker = started(rig, port)
    rig.enqueue(plain, "one")

    assert reasons(port, "/healthz") == []
    wait_until(lambda: metric(port, "aftercommit_worker_runs_total") == 1, why="it is counted")
    status, text = get(port, "/metrics")
    families = {one.name: one for one in parser.text_string_to_metric_families(text)}
    assert status == 200
    assert {one.removesuffix("_total") for one in families} >= {
        one.name.removesuffix("_total") for one in OF_WORKER if not one.labels
    }
    assert metric(port, "aftercommit_worker_ready") == 1
    assert get(port, "/")[0] == 404
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert get(port, "/healthz") == (0, "")


def test_each_task_is_counted_by_its_outcomes_over_all_processes(rig, port):
    rig.settings(heartbeat="0.2")
    started(rig, port, "--processes", "2", "--threads", "1")
    rig.enqueue_many(plain, [((str(one),), {}) for one in range(20)])
    rig.enqueue(restless, "twice")
    ended = ("aftercommit_worker_jobs_ended_total", plain.module_path, "succeeded")

    wait_until(lambda: by_task(port).get(ended) == 20, why="all are counted")
    released = ("aftercommit_worker_runs_released_total", restless.module_path, "")
    wait_until(lambda: by_task(port).get(released) == 1, why="so is the run that does not count")

    found = by_task(port)
    assert found["aftercommit_worker_job_run_seconds_count", plain.module_path, ""] == 20
    assert found["aftercommit_worker_job_wait_seconds_count", plain.module_path, ""] == 20
    retried = found["aftercommit_worker_runs_retried_total", restless.module_path, ""]
    assert retried == 1
    assert found["aftercommit_worker_jobs_claimed_total", "", ""] == 22


def test_counters_of_a_port_never_fall_when_processes_are_killed(rig, port):
    rig.settings(heartbeat="0.2")
    worker = started(rig, port)
    ended = ("aftercommit_worker_jobs_ended_total", plain.module_path, "succeeded")
    seen = [0]

    def counted():
        seen.append(by_task(port).get(ended, 0))
        assert seen[-1] >= seen[-2]
        return seen[-1]

    for wanted in (10, 20):
        rig.enqueue_many(plain, [((f"{wanted} {one}",), {}) for one in range(10)])
        wait_until(lambda: counted() == wanted, deadline=STARTED, why=f"{wanted}")  # noqa: B023
        before = rig.children(worker)
        for child in before:
            with suppress(ProcessLookupError):  # of an earlier round
                os.kill(child, signal.SIGKILL)
        wait_until(lambda: rig.children(worker) != before, deadline=STARTED, why="another one")  # noqa: B023

    wait_until(lambda: reasons(port) == [], deadline=STARTED, why="there is another one")
    assert counted() == 20


def by_task(port):
    """Return the samples with a database as their label, by name, task and outcome."""
    families = parser.text_string_to_metric_families(get(port, "/metrics")[1])
    return {
        (one.name, one.labels.get("task", ""), one.labels.get("outcome", "")): one.value
        for family in families
        for one in family.samples
        if "database" in one.labels and "le" not in one.labels
    }


def test_one_that_stops_claims_nothing_and_is_alive(rig, port):
    worker = started(rig, port, "--grace", "60")
    rig.enqueue(plain, "one", gate="open")
    rig.wait_note("begin")

    worker.signal(signal.SIGTERM)

    wait_until(lambda: "stops" in str(reasons(port)), why="it is not ready any more")
    assert reasons(port, "/healthz") == []
    rig.open_gate("open")
    assert worker.wait() == 0


def test_a_process_that_was_killed_is_missed_until_there_is_another(rig, port):
    worker = started(rig, port)
    (child,) = rig.children(worker)
    os.kill(child, signal.SIGSTOP)
    wait_until(lambda: "no sign of life" in str(reasons(port)), why="its silence is told")
    assert reasons(port, "/healthz") == []

    os.kill(child, signal.SIGKILL)

    wait_until(
        lambda: metric(port, "aftercommit_worker_process_deaths_total") == 1, why="it is dead"
    )
    wait_until(lambda: reasons(port) == [], deadline=STARTED, why="there is another one")


def test_a_database_that_hangs_is_a_reason_and_the_answer_does_not_wait_for_it(
    rig,
    silent,  # noqa: F811
    port,
):
    rig.settings_module(*QUICKLY)
    started(rig, port)

    silent.fall_silent()

    wait_until(lambda: "hangs for" in str(reasons(port)), why="the hanging thread is told of")
    assert "in database 'default'" in str(reasons(port))
    assert reasons(port, "/healthz") == []  # a new worker would find the same database
    assert "hangs for" in get(port, "/healthz")[1]  # and people are told
    assert metric(port, "aftercommit_worker_ready") == 0
    assert metric(port, "aftercommit_worker_stuck_seconds") >= 1


def test_a_supervisor_that_stands_still_is_found_out(rig, port):
    worker = started(rig, port)

    worker.signal(signal.SIGSTOP)

    wait_until(
        lambda: "supervisor of the worker shows no sign" in str(reasons(port, "/healthz")),
        why="the port is not served by the supervisor",
    )
    worker.signal(signal.SIGCONT)
    wait_until(lambda: reasons(port, "/healthz") == [], why="it goes on")


def test_a_port_that_another_worker_has_is_a_sentence(rig, port):
    with socket.create_server(("127.0.0.1", port)):
        worker = rig.worker("--health-port", f"127.0.0.1:{port}", ready=False)

        assert worker.wait() == 1

    assert f"--health-port: 127.0.0.1:{port} cannot be had" in worker.output


def test_systemd_is_told_of_the_start_the_watchdog_and_the_stop(rig, tmp_path):
    name = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name)
        systemd.setblocking(False)
        words = []

        def heard(word):
            try:
                while True:
                    words.extend(systemd.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return word in words

        rig.environment |= {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2000000"}
        worker = rig.worker()
        wait_until(lambda: heard("READY=1"), deadline=STARTED, why="it is ready")
        words.clear()
        wait_until(lambda: heard("WATCHDOG=1"), why="it is alive")
        worker.signal(signal.SIGTERM)
        worker.wait()
        assert heard("STOPPING=1")


def test_totals_never_fall_and_no_end_is_counted_twice_when_workers_are_killed(
    rig, transactional_db
):
    rig.settings(heartbeat="0.2")
    seen = [0]
    number = 150
    rig.enqueue_many(plain, [((str(one),), {}) for one in range(number)])

    def counted():
        found = sum(one.succeeded for one in jobs.totals().values())
        assert found >= seen[-1]
        seen.append(found)
        return found

    for share in (1, 2):
        worker = rig.worker()
        wait_until(lambda: counted() >= share * number / 4, why="some are counted")  # noqa: B023
        worker.kill()
    rig.worker("--drain", ready=False).wait()

    succeeded = Job.objects.filter(state="succeeded").count()
    assert succeeded == number
    assert number / 2 <= counted() <= succeeded


def test_a_request_that_comes_byte_by_byte_is_broken_off(monkeypatch):
    monkeypatch.setattr(health_port, "LONGEST", timedelta(seconds=0.5))
    server = health_port._server(("127.0.0.1", 0), health_port.Latest())
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        with socket.create_connection(server.server_address, timeout=0.05) as peer:
            wait_until(lambda: is_closed_after_a_byte(peer), why="it is closed")
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def is_closed_after_a_byte(peer):
    """Send a byte; return whether the server has ended the connection."""
    try:
        peer.sendall(b"G")
        return peer.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
