"""Metrics of the databases: the view, the command, and what is exposed."""

from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.test import RequestFactory
from prometheus_client import parser

from aftercommit import metrics
from aftercommit.errors import ConfigurationError
from aftercommit.management.subcommands import metrics as command
from aftercommit.models import Job, State
from aftercommit.store import store_for
from aftercommit.store.base import Store
from aftercommit.store.clock import ago
from aftercommit.tallies import BOUNDS, OTHER
from aftercommit.windows.metrics import database
from aftercommit.windows.metrics.names import OF_DATABASE
from tests.app import tasks
from tests.django.test_statistics import ADD, ends
from tests.store.given import ready_job

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def one_backend(settings):
    """Let there be one database with jobs."""
    settings.TASKS = {"default": settings.TASKS["default"]}


def families(content=None):
    """Return the exposed metrics by name, read as Prometheus reads them."""
    text = (metrics.text()[0] if content is None else content).decode()
    return {one.name: one for one in parser.text_string_to_metric_families(text)}


def samples(name, **labels):
    """Return the values of a metric by those of their labels that are not given."""
    given = {"database": "default", **labels}
    return {
        tuple(v for k, v in one.labels.items() if k not in given): one.value
        for family in families().values()
        for one in family.samples
        if one.name == name and given.items() <= one.labels.items()
    }


# ---- what is exposed ------------------------------------------------------------------


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


def test_what_is_exposed_is_what_is_declared():
    everything()

    found, told = families(), {one.name.removesuffix("_total"): one for one in OF_DATABASE}

    assert set(found) == set(told)
    for name, family in found.items():
        assert (family.type, family.documentation) == (told[name].kind, told[name].help)
        assert {frozenset(set(one.labels) - {"le"}) for one in family.samples} == {
            frozenset(told[name].labels)
        }


def test_names_follow_the_conventions_of_prometheus():
    for one in OF_DATABASE:
        assert one.name.startswith("aftercommit_")
        assert one.name.endswith("_total") == (one.kind == "counter")
        assert not one.name.endswith(("_ms", "_minutes", "_count", "_sum", "_bucket"))
        if one.kind == "histogram":
            assert one.name.endswith("_seconds")


def test_jobs_are_counted_by_queue_and_state():
    store = store_for("default")
    for _number in range(3):
        ready_job(store, queue="mail")
    late = ready_job(store, queue="mail")
    Job.objects.filter(id=late).update(run_after=ago(timedelta(seconds=-3600)))
    old = ready_job(store, queue="reports")
    Job.objects.filter(id=old).update(run_after=ago(timedelta(minutes=7)))

    assert samples("aftercommit_queue_jobs", queue="mail") == {
        **{(state,): 0 for state in ("running", "paused", "limited", "rated", "waiting")},
        ("due",): 3,
        ("later",): 1,
    }
    ages = samples("aftercommit_queue_oldest_due_age_seconds")
    assert 420 <= ages["reports",] < 480
    assert ages["mail",] < 60
    assert samples("aftercommit_jobs") == {
        (state,): 5 if state == "ready" else 0 for state in State.values
    }
    assert samples("aftercommit_up") == {(): 1}


def test_a_declared_queue_without_jobs_is_there_so_that_a_rule_can_be_about_it(settings):
    settings.TASKS = {"default": {**settings.TASKS["default"], "QUEUES": ["mail"]}}

    assert samples("aftercommit_queue_oldest_due_age_seconds") == {("mail",): 0}


def test_messages_are_counted_by_broker():
    kept = ready_job(store_for("default"), queue="relay.celery")
    Job.objects.filter(id=kept).update(run_after=ago(timedelta(minutes=7)))

    assert samples("aftercommit_relay_kept_messages") == {("celery",): 1}
    assert 420 <= samples("aftercommit_relay_lag_seconds")["celery",] < 480


def test_totals_and_histograms_are_what_workers_have_counted():
    ends(6)
    ends(2, outcome="failed", run=3.0)
    ends(5, outcome="retried")
    ends(8, outcome="claimed", task="")
    ends(3, outcome="ticked", task="", queue="")

    ended = samples("aftercommit_jobs_ended_total", task=ADD, queue="default")
    assert ended == {("succeeded",): 6, ("failed",): 2}
    assert samples("aftercommit_runs_retried_total", task=ADD) == {("default",): 5}
    assert samples("aftercommit_jobs_claimed_total") == {("default",): 8}
    runs = samples("aftercommit_job_run_seconds_bucket", task=ADD)
    assert len(runs) == len(BOUNDS) + 1
    assert runs["0.256",] == 11
    assert runs["2.048",] == 11
    assert runs["4.096",] == runs["+Inf",] == 13
    assert samples("aftercommit_job_run_seconds_sum", task=ADD) == {(): 6 * 0.25 + 6 + 5 * 0.25}
    assert samples("aftercommit_schedule_lateness_seconds_count") == {(): 3}


def test_no_counter_falls_when_names_become_too_many(monkeypatch):
    ends(3)
    ends(4, task="shop.gone")
    before = samples("aftercommit_jobs_ended_total", queue="default", outcome="succeeded")
    monkeypatch.setattr(database, "MOST_TASKS", 1)
    monkeypatch.setattr(database, "declared_tasks", lambda: [tasks.add])

    after = samples("aftercommit_jobs_ended_total", queue="default", outcome="succeeded")

    assert before == {(ADD,): 3, ("shop.gone",): 4}
    assert after == {(ADD,): 3, (OTHER,): 4}


def test_a_database_that_does_not_answer_is_down_and_nothing_else_is_told_of_it(monkeypatch):
    def away(_store, _span):
        raise OperationalError("server closed the connection; password=hunter2")

    ends(1)
    monkeypatch.setattr(Store, "statistics", away)

    assert [one.name for one in families().values()] == ["aftercommit_up"]
    assert samples("aftercommit_up") == {(): 0}
    assert b"hunter2" not in metrics.text()[0]


def test_the_number_of_statements_does_not_depend_on_the_tasks(django_assert_max_num_queries):
    for number in range(30):
        ends(1, task=f"shop.tasks.t{number}", queue=f"q{number % 5}")

    with django_assert_max_num_queries(60):
        metrics.text()


# ---- the view -------------------------------------------------------------------------


def get(view, **headers):
    """Return the answer to a request."""
    return view(RequestFactory().get("/metrics", headers=headers))


def test_the_page_is_for_those_who_have_the_token():
    view = metrics.view(token="s3cret")

    answer = get(view, Authorization="Bearer s3cret")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain")
    assert "no-store" in answer["Cache-Control"]
    assert "aftercommit_up" in families(answer.content)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "s3cret"},
        {"Authorization": "Basic s3cret"},
        {"Authorization": "Bearer \u00e9"},
    ],
)
def test_others_learn_nothing_and_ask_no_database(headers, django_assert_num_queries):
    with django_assert_num_queries(0):
        answer = get(metrics.view(token="s3cret"), **headers)

    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
    assert b"aftercommit_" not in answer.content


def test_without_a_token_by_intention_everybody_may_read():
    assert get(metrics.view(token=None)).status_code == 200


@pytest.mark.parametrize("token", ["", "  "])
def test_an_empty_token_is_refused_when_the_page_is_made(token):
    with pytest.raises(ConfigurationError, match="token is empty, so that anybody could read"):
        metrics.view(token=token)


def test_the_page_is_only_read():
    view = metrics.view(token=None)

    assert view(RequestFactory().post("/metrics")).status_code == 405
    assert view(RequestFactory().head("/metrics")).status_code == 200


def test_a_reader_may_have_open_metrics():
    answer = get(metrics.view(token=None), Accept="application/openmetrics-text; version=1.0.0")

    assert answer["Content-Type"].startswith("application/openmetrics-text")
    assert answer.content.endswith(b"# EOF\n")


# ---- the command ----------------------------------------------------------------------


def test_the_command_writes_the_text():
    ends(1)
    said = StringIO()

    call_command("aftercommit", "metrics", stdout=said)

    assert "aftercommit_jobs_ended" in families(said.getvalue().encode())


def test_the_command_replaces_a_file_as_a_whole(tmp_path):
    file = tmp_path / "aftercommit.prom"
    file.write_text("old")
    with file.open() as reader:
        call_command("aftercommit", "metrics", "--output", str(file))
        assert reader.read() == "old"  # whoever reads it has the old one to its end

    assert "aftercommit_up" in families(file.read_bytes())
    assert file.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in tmp_path.iterdir()] == [file.name]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    file = tmp_path / "aftercommit.prom"
    file.write_text("old")

    def full(_descriptor, _mode):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command.os, "fdopen", full)
    with pytest.raises(CommandError, match="No space left on device"):
        call_command("aftercommit", "metrics", "--output", str(file))

    assert file.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("name", "told"), [("metrics.txt", "ends with .prom"), ("no/where.prom", "No such file")]
)
def test_a_file_that_nobody_would_read_is_refused(tmp_path, name, told):
    with pytest.raises(CommandError, match=told):
        call_command("aftercommit", "metrics", "--output", str(tmp_path / name))
