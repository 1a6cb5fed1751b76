"""``aftercommit pause``, ``resume`` and ``queues``: thin windows on ``aftercommit.queues``."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from aftercommit import queues
from tests.django.conftest import ours

pytestmark = pytest.mark.django_db(databases=["default", "other"])


@pytest.fixture(autouse=True)
def two_databases(backends):
    """Let there be a backend with queues in each database."""
    given = {"queues": ["mail", "reports"], "relay": ["rq"]}
    backends(default=ours(**given), slow=ours(**given, using="other"))


def run(*words):
    """Return what a command writes to its two outputs."""
    outputs = {"stdout": StringIO(), "stderr": StringIO()}
    call_command("aftercommit", *words, skip_checks=True, **outputs)
    return tuple(one.getvalue() for one in outputs.values())


def test_a_queue_is_paused_listed_and_resumed():
    said, complained = run("pause", "mail", "--by", "ann", "--why", "it is down")

    assert said.splitlines() == [
        "default: the queue mail is paused.",
        "other: the queue mail is paused.",
    ]
    assert complained == ""
    (first, *_others) = run("queues", "--database", "other")[0].splitlines()
    assert first.startswith("other: mail, paused since 20")
    assert first.endswith(" UTC by ann: it is down")

    assert run("pause", "mail")[0] == "Nothing has changed: it was paused already.\n"
    assert "default: the queue mail is resumed." in run("resume", "mail")[0]
    assert run("resume", "mail")[0] == "Nothing has changed: it was not paused.\n"
    assert queues.paused() == []


def test_a_program_is_told_in_json():
    said, _complained = run("pause", "--broker", "rq", "--database", "other", "--json")
    both = [{"database": "other", "queue": f"relay.rq{end}"} for end in ("", ".in_order")]
    assert json.loads(said) == {"paused": both, "unused": False}

    listed = json.loads(run("queues", "--json")[0])
    assert [one["queue"] for one in listed if one["paused"]] == ["relay.rq", "relay.rq.in_order"]
    assert {"database": "other", "queue": "mail", "paused": None} in listed

    said, _complained = run("resume", "relay.rq", "--json")
    assert json.loads(said) == {"resumed": both, "unused": False}


def test_a_task_is_paused_by_its_path():
    path = "tests.app.tasks.add"
    given = ("--task", path, "--database", "other")
    assert run("pause", *given) == (f"other: the task {path} is paused.\n", "")

    assert f"other: the task {path}, paused since 20" in run("queues")[0]
    listed = json.loads(run("queues", "--json")[0])
    assert [one["paused"]["by"] for one in listed if one.get("task") == path] == [""]
    said = json.loads(run("resume", *given, "--json")[0])
    assert said == {"resumed": [{"database": "other", "task": path}], "unused": False}


@pytest.mark.parametrize(
    "words",
    [
        ["pause"],
        ["pause", "mial"],
        ["pause", "--task", "gone.tasks.no"],
        ["pause", "--broker", "celery"],
        ["pause", "mail", "--broker", "rq"],
        ["pause", "mail", "--database", "gone"],
        ["resume"],
        ["queues", "--database", "gone"],
    ],
    ids=" ".join,
)
def test_a_mistake_is_said_and_nothing_is_paused(words):
    with pytest.raises(CommandError):
        run(*words)
    assert queues.paused() == []


def test_a_queue_that_nobody_uses_is_said(backends):
    backends(default=ours())

    assert run("pause", "mial") == (
        "default: the queue mial is paused.\n",
        "No job is in this queue, and no task is known that enqueues there.\n",
    )
