"""``aftercommit pause``, ``resume`` and ``queues``: thin windows on ``aftercommit.queues``."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from aftercommit import queues
from aftercommit.management.subcommands.selected import NOTHING_FOUND
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
    nothing = {"paused": None, "limit": None, "rate": None}
    assert {"database": "other", "queue": "mail", **nothing} in listed

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


def test_a_queue_is_limited_listed_and_let_go():
    given = ("limit", "mail", "--at-once", "3")
    assert run(*given, "--dry-run")[0].splitlines() == [
        "default: the queue mail would be limited to 3 jobs at once.",
        "other: the queue mail would be limited to 3 jobs at once.",
    ]
    assert queues.limits() == []
    assert "default: the queue mail is limited to 3 jobs at once." in run(*given)[0]
    assert run(*given)[0] == "Nothing has changed: it was limited like that already.\n"
    assert "other: mail, 3 jobs at once, set at run time (else no limit)" in run("queues")[0]
    run("pause", "mail", "--by", "ann")
    (line,) = run("queues", "--database", "other")[0].splitlines()[:1]
    assert "by ann, 3 jobs at once" in line

    said = run("unlimit", "mail")[0]
    assert "default: the queue mail is limited as code and settings say." in said
    assert run("unlimit", "mail")[0] == "Nothing has changed: no limit was set at run time.\n"
    assert queues.limits() == []
    assert len(queues.paused()) == 2


def test_a_program_limits_in_json():
    path = "tests.app.tasks.add"
    given = ("--task", path, "--database", "other", "--json")
    changed = [{"database": "other", "task": path}]
    said = json.loads(run("limit", *given, "--at-once", "2", "--dry-run")[0])
    assert said == {"limited": changed, "unused": False, "dry_run": True}
    said = json.loads(run("limit", *given, "--at-once", "2")[0])
    assert said == {"limited": changed, "unused": False}

    (found,) = [one for one in json.loads(run("queues", "--json")[0]) if one.get("task") == path]
    limit = {"at_once": 2, "at_run_time": True, "configured": None}
    said = {"paused": None, "limit": limit, "rate": None}
    assert found == {"database": "other", "task": path, **said}
    assert json.loads(run("unlimit", *given)[0]) == {"unlimited": changed, "unused": False}


@pytest.mark.parametrize(
    "words",
    [
        ["limit", "mail"],
        ["limit", "mail", "--at-once", "0"],
        ["limit", "mail", "--at-once", "-3"],
        ["limit", "mail", "--at-once", "many"],
        ["limit", "mial", "--at-once", "3"],
        ["limit", "--task", "gone.tasks.no", "--at-once", "3"],
        ["limit", "--broker", "celery", "--at-once", "3"],
        ["limit", "mail", "--broker", "rq", "--at-once", "3"],
        ["unlimit"],
        ["unlimit", "mail", "--database", "gone"],
        ["rate", "mail"],
        ["rate", "mail", "--starts", "often"],
        ["rate", "mail", "--starts", "60/m", "--burst", "0"],
        ["rate", "mial", "--starts", "60/m"],
        ["rate", "--task", "gone.tasks.no", "--starts", "60/m"],
        ["unrate"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_limited_is_an_error(words):
    with pytest.raises(CommandError):
        run(*words)
    assert queues.limits() == queues.rates() == []


def test_a_queue_is_rated_listed_and_let_go():
    given = ("rate", "mail", "--starts", "60/m", "--burst", "5")
    assert run(*given, "--dry-run")[0].splitlines() == [
        "default: the queue mail would be limited to 60/m starts, 5 at once.",
        "other: the queue mail would be limited to 60/m starts, 5 at once.",
    ]
    assert queues.rates() == []
    assert "default: the queue mail is limited to 60/m starts, 5 at once." in run(*given)[0]
    assert run(*given)[0] == "Nothing has changed: it had this rate already.\n"
    said = "other: mail, 60/m started, 5 at once, set at run time (else no rate)"
    assert said in run("queues")[0]
    run("limit", "mail", "--at-once", "2", "--database", "other")
    assert (
        "other: mail, 2 jobs at once, set at run time (else no limit), 60/m started"
        in (run("queues")[0])
    )

    said = run("unrate", "mail")[0]
    assert "default: the queue mail is rated as code and settings say." in said
    assert run("unrate", "mail")[0] == "Nothing has changed: no rate was set at run time.\n"
    assert queues.rates() == []


def test_a_program_rates_in_json():
    path = "tests.app.tasks.add"
    given = ("--task", path, "--database", "other", "--json")
    changed = [{"database": "other", "task": path}]
    assert json.loads(run("rate", *given, "--starts", "5/s")[0]) == {
        "rated": changed,
        "unused": False,
    }
    (found,) = [one for one in json.loads(run("queues", "--json")[0]) if one.get("task") == path]
    assert found["rate"] == {
        "starts": "5/s",
        "burst": 1,
        "at_run_time": True,
        "configured": None,
    }
    assert json.loads(run("unrate", *given)[0]) == {"unrated": changed, "unused": False}


@pytest.mark.parametrize("more", [[], ["--json"], ["--dry-run"]], ids=str)
@pytest.mark.parametrize("word", ["resume", "unlimit", "unrate"])
def test_a_script_sees_that_a_name_was_misspelt(backends, word, more):
    for words in (["mial"], ["--task", "tests.app.tasks.adds"], ["--broker", "celery"]):
        with pytest.raises(CommandError, match="This project has no"):
            run(word, *words, *more)

    backends(default=ours())
    with pytest.raises(SystemExit) as ended:
        run(word, "mial", *more)
    assert ended.value.code == NOTHING_FOUND


def test_a_queue_that_nobody_uses_yet_may_be_paused_twice(backends):
    backends(default=ours())

    for _ in range(2):
        assert "No job is in this queue" in run("pause", "tomorrow")[1]
    assert "is resumed" in run("resume", "tomorrow")[0]


@pytest.mark.parametrize("words", [["pause", "mail"], ["resume", "mail"]], ids=" ".join)
def test_a_dry_run_pauses_and_resumes_nothing(words):
    if words[0] == "resume":
        run("pause", "mail")
    before = queues.paused()
    said = run(*words, "--dry-run")[0]
    assert f"default: the queue mail would be {words[0]}" in said
    assert queues.paused() == before
