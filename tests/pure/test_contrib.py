"""The files in contrib/: they can be read, and name only what there is."""

import json
import re

import pytest
import yaml

from aftercommit.windows.metrics.names import OF_DATABASE, OF_WORKER
from tests.docs.pages import ROOT
from tests.test_reference import options_of

CONTRIB = ROOT / "contrib"
ALERTS = CONTRIB / "prometheus" / "aftercommit-alerts.yml"
DASHBOARD = CONTRIB / "grafana" / "aftercommit.json"
DEPLOYMENT = CONTRIB / "kubernetes" / "worker.yaml"
UNIT = CONTRIB / "systemd" / "aftercommit-worker.service"
METRIC = re.compile(r"\baftercommit_\w+")
GRACE_AND_END = 15  # seconds that a worker takes to end its processes, beside --grace


def rules():
    """Return the expressions of the alert rules by their names."""
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return {one["alert"]: one["expr"] for one in group["rules"]}


def panels():
    """Return the expressions of the dashboard by the titles of their panels."""
    found = json.loads(DASHBOARD.read_text())["panels"]
    return {one["title"]: [target["expr"] for target in one["targets"]] for one in found}


def exposed():
    """Return the names of all series that are exposed."""
    names = set()
    for one in (*OF_DATABASE, *OF_WORKER):
        parts = ("_bucket", "_sum", "_count") if one.kind == "histogram" else ("",)
        names |= {f"{one.name}{part}" for part in parts}
    return names


def test_every_rule_and_panel_is_about_metrics_that_there_are():
    told = [*rules().values(), *(expr for some in panels().values() for expr in some)]

    assert len(told) > 30
    for expr in told:
        assert METRIC.findall(expr)
        assert set(METRIC.findall(expr)) <= exposed(), expr


def test_every_metric_is_in_the_dashboard():
    shown = {name for some in panels().values() for expr in some for name in METRIC.findall(expr)}

    told = {one.name for one in (*OF_DATABASE, *OF_WORKER)}
    assert {re.sub("_(bucket|sum|count)$", "", one) for one in shown} == told


def test_every_rule_says_what_is_wrong_and_how_bad_it_is():
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    for one in group["rules"]:
        assert one["labels"]["severity"] in {"warning", "critical"}
        assert one["annotations"]["summary"]


def test_panels_do_not_lie_over_each_other():
    seen = set()
    for one in json.loads(DASHBOARD.read_text())["panels"]:
        at = one["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & seen
        seen |= cells


@pytest.fixture
def container():
    """Return the container of the deployment."""
    deployment, _scaled = yaml.safe_load_all(DEPLOYMENT.read_text())
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    return found


def grace_in(words):
    """Return the seconds of --grace."""
    return int(words[words.index("--grace") + 1])


def test_the_deployment_starts_a_worker_with_options_that_there_are(container):
    command, words = container["command"], container["args"]

    assert command == ["python", "manage.py", "aftercommit", "worker"]
    options = [one for one in words if one.startswith("--")]
    assert set(options) <= set(options_of("aftercommit", "worker"))
    assert words[words.index("--health-port") + 1] == "8001"
    assert container["ports"] == [{"name": "health", "containerPort": 8001}]
    probes = {
        one: container[f"{one}Probe"]["httpGet"] for one in ("startup", "readiness", "liveness")
    }
    assert probes == {
        "startup": {"path": "/readyz", "port": "health"},
        "readiness": {"path": "/readyz", "port": "health"},
        "liveness": {"path": "/healthz", "port": "health"},
    }


def test_kubernetes_waits_for_the_grace_of_the_worker(container):
    deployment, scaled = yaml.safe_load_all(DEPLOYMENT.read_text())

    pod = deployment["spec"]["template"]
    grace = grace_in(container["args"])
    assert pod["spec"]["terminationGracePeriodSeconds"] >= grace + GRACE_AND_END
    assert pod["metadata"]["labels"] == deployment["spec"]["selector"]["matchLabels"]
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    (trigger,) = scaled["spec"]["triggers"]
    assert set(METRIC.findall(trigger["metadata"]["query"])) <= exposed()


def test_the_unit_starts_a_worker_with_options_that_there_are_and_waits_for_its_grace():
    lines = [one.partition("=") for one in UNIT.read_text().splitlines() if "=" in one]
    unit = {name: value for name, _sign, value in lines if not name.startswith("#")}
    words = unit["ExecStart"].split()

    assert words[1:4] == ["manage.py", "aftercommit", "worker"]
    options = [one for one in words if one.startswith("--")]
    assert set(options) <= set(options_of("aftercommit", "worker"))
    assert unit["Type"] == "notify"
    assert int(unit["TimeoutStopSec"]) >= grace_in(words) + GRACE_AND_END
    assert int(unit["WatchdogSec"]) >= 10
