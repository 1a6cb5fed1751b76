"""A real Prometheus scrapes a page and the port of a worker, and evaluates what contrib/ has."""

import json
import re
import shutil
import subprocess
import threading
import urllib.parse
import urllib.request
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import pytest
from django.db import connections
from django.test import RequestFactory

from aftercommit import metrics
from aftercommit.store import store_for
from tests.app.chores import plain, restless
from tests.django.test_statistics import ends
from tests.process.test_health_port import port, started  # noqa: F401 - a fixture
from tests.pure.test_contrib import ALERTS, panels, rules
from tests.store.given import ready_job
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not shutil.which("prometheus"), reason="there is no Prometheus here"),
]
TOKEN = "s3cret"

COMPARED = re.compile(r"\s(?:==|>=|>)\s[\d.]+")
CONFIG = """
global:
  scrape_interval: 5s
  scrape_timeout: 5s
rule_files: [{rules}]
scrape_configs:
  - job_name: database
    authorization: {{credentials: {token}}}
    static_configs: [{{targets: ["127.0.0.1:{page}"]}}]
  - job_name: worker
    static_configs: [{{targets: ["127.0.0.1:{worker}"]}}]
"""


@pytest.fixture(autouse=True)
def one_backend(settings):
    """Let there be one database with jobs."""
    settings.TASKS = {"default": settings.TASKS["default"]}


@contextmanager
def page():
    """Serve the page of a web process; give its port."""
    view = metrics.view(token=TOKEN)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            names = ("Accept", "Authorization")
            headers = {name: self.headers.get(name, "") for name in names}
            try:
                answer = view(RequestFactory().get("/metrics", headers=headers))
            finally:
                connections.close_all()
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer["Content-Type"])
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


@pytest.fixture
def prometheus(rig, port, tmp_path):  # noqa: F811
    """Return a function that asks a Prometheus which scrapes a page and a worker."""
    started(rig, port)
    with page() as of_page:
        config = tmp_path / "prometheus.yml"
        words = {"rules": ALERTS, "token": TOKEN, "page": of_page, "worker": port}
        config.write_text(CONFIG.format(**words))
        with (tmp_path / "log").open("wb") as log:
            server = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={config}",
                    f"--storage.tsdb.path={tmp_path / 'data'}",
                    "--web.listen-address=127.0.0.1:0",
                ],
                stdout=log,
                stderr=log,
            )
        address = wait_until(
            lambda: re.findall(r"Listening on.* address=(\S+)", (tmp_path / "log").read_text()),
            deadline=timedelta(seconds=60),
            why="Prometheus listens",
        )[0]
        try:
            yield lambda expr: ask(address, expr)
        finally:
            server.terminate()
            server.wait()


def ask(address, expr):
    """Return the result of an expression."""
    query = urllib.parse.urlencode({"query": expr})
    with urllib.request.urlopen(f"http://{address}/api/v1/query?{query}", timeout=10) as answer:
        return json.load(answer)["data"]["result"]


def everything():
    """Let there be a sample of each metric."""
    for outcome in ("succeeded", "failed", "cancelled", "retried", "released", "rescued"):
        ends(1, outcome=outcome)
    for outcome in ("claimed", "pruned", "ticked"):
        ends(1, outcome=outcome, task="", queue="")
    store, worker_id = store_for("default"), uuid4()
    store.workers.announce(worker_id, locked=True)
    store.workers.pruned(worker_id, jobs=1)
    ready_job(store, queue="relay.celery")
    ready_job(store, queue="nobodys", task_path="tests.app.tasks.gone")


def test_every_expression_of_the_dashboard_and_the_rules_has_data(rig, prometheus):
    rig.enqueue(plain, "one")
    rig.enqueue(restless, "two")
    everything()
    shown = {expr for some in panels().values() for expr in some}
    asked = {
        expr.replace("$database", ".*").replace("$__rate_interval", "1m")
        for expr in shown | {COMPARED.sub("", expr) for expr in rules().values()}
    }
    assert len(asked) > 30

    without_data = asked

    def all_have_data():
        nonlocal without_data
        without_data = {expr for expr in without_data if not prometheus(expr)}
        return not without_data

    try:
        wait_until(all_have_data, deadline=timedelta(seconds=120), why="all have data")
    except AssertionError:
        raise AssertionError(f"No data for {sorted(without_data)}") from None

    everything()  # and of counters that rise there is a rate
    rate = 'sum(rate(aftercommit_jobs_ended_total{outcome="failed"}[1m]))'
    wait_until(
        lambda: float(prometheus(rate)[0]["value"][1]) > 0,
        deadline=timedelta(seconds=60),
        why="the rate of failures",
    )
    assert prometheus("up == 0") == []


def test_promtool_finds_nothing_wrong_with_the_rules():
    done = subprocess.run(
        ["promtool", "check", "rules", ALERTS], check=False, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules())} rules found" in done.stdout


@pytest.mark.django_db
def test_promtool_finds_nothing_wrong_with_the_names():
    everything()
    text, _content_type = metrics.text()

    done = subprocess.run(
        ["promtool", "check", "metrics"], check=False, input=text, capture_output=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
