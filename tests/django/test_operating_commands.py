"""``aftercommit retry``, ``cancel``, ``move``, ``prune``, ``jobs``: windows on ``jobs.find``."""

import json
from copy import deepcopy
from datetime import datetime, timedelta
from io import StringIO
from types import SimpleNamespace
from uuid import UUID

import pytest
from django.core.management import CommandError, ManagementUtility, call_command
from django.utils import timezone

from aftercommit import group, jobs
from aftercommit.ids import first_id_of, new_job_id
from aftercommit.management.subcommands import selected
from aftercommit.models import Job
from aftercommit.store import selecting
from tests.app.tasks import add
from tests.django.conftest import claim_only_job
from tests.django.test_jobs import failed_job, job, ready_job

pytestmark = pytest.mark.django_db(databases=["default", "other"])
SELECTS = ["retry", "cancel", "move --to mail", "jobs list"]
USAGE = 2  # the status of argparse
NOTHING, LEFT = selected.NOTHING_FOUND, selected.SOME_LEFT


def run(*words):
    """Return the status of a command, and what it writes to its two outputs."""
    outputs = {"stdout": StringIO(), "stderr": StringIO()}
    status = 0
    try:
        call_command("aftercommit", *words, skip_checks=True, **outputs)
    except SystemExit as end:
        status = end.code
    return status, *(one.getvalue() for one in outputs.values())


def test_failed_jobs_of_every_database_are_retried():
    here, there = failed_job(), failed_job("other")

    status, said, complained = run("retry", "--all")

    assert said.splitlines() == ["default: 1 job ready again.", "other: 1 job ready again."]
    assert (status, complained) == (0, "")
    assert (job(here).state, job(there, "other").state) == ("ready", "ready")


def test_a_dry_run_says_how_many_there_are_and_changes_nothing():
    job_id = failed_job()

    status, said, _ = run("retry", "--task", "tests.app.tasks.add", "--dry-run")

    assert said.splitlines()[0] == "default: 1 job would be ready again."
    assert (status, job(job_id).state) == (0, "failed")


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=str)
def test_a_script_sees_that_there_was_nothing_to_do(more):
    assert run("retry", "--queue", "none", *more)[0] == NOTHING


def test_a_script_sees_that_some_were_left():
    failed_job(unique_key="key")
    ready_job(unique_key="key")

    status, said, _ = run("retry", "--all", "--database", "default")

    assert status == LEFT
    assert said == (
        "default: 0 jobs ready again, 1 left as they are, 1 of these share a unique key.\n"
    )


def test_json_for_programs():
    job_id = failed_job()

    status, said, complained = run("retry", "--all", "--json", "--database", "default")

    assert json.loads(said) == {
        "default": {
            "found": 1,
            "changed": 1,
            "left": 0,
            "asked": 0,
            "clashed": 0,
            "unmet": 0,
            "refused": 0,
            "position": str(job_id),
        }
    }
    assert (status, complained) == (0, "")


@pytest.mark.parametrize("command", [*SELECTS[:3], "prune --ended-before 0s"])
def test_json_of_a_dry_run_has_the_same_fields(command):
    ready_job(), failed_job()
    words = [*command.split(), *([] if command.startswith("prune") else ["--all"]), "--json"]

    rehearsed = json.loads(run(*words, "--dry-run")[1])
    done = json.loads(run(*words)[1])

    for database, said in rehearsed.items():
        assert said.pop("dry_run") is True
        assert said == dict.fromkeys(done[database], 0) | {
            "found": done[database]["found"],
            "position": None,
        }
    assert rehearsed["default"]["found"] == 1


def test_jobs_are_cancelled_by_id():
    chosen, other = ready_job(), ready_job()

    assert run("cancel", str(chosen))[0] == 0

    assert (job(chosen).state, job(other).state) == ("cancelled", "ready")


def test_running_jobs_are_asked_to_stop():
    running = ready_job(queue="running")
    claim_only_job(queue="running")

    _, said, _ = run("cancel", "--queue", "running", "--database", "default")

    assert said == "default: 1 job cancelled, 1 of them is asked to stop.\n"
    assert job(running).cancel_requested


def test_waiting_jobs_are_moved_and_failed_ones_if_asked_for():
    ready, failed = ready_job(), failed_job()

    assert run("move", "--all", "--to", "mail")[0] == 0
    assert (job(ready).queue, job(failed).queue) == ("mail", "failing")
    assert run("move", "--state", "failed", "--to", "mail")[0] == 0
    assert job(failed).queue == "mail"


def test_jobs_that_ended_long_ago_are_deleted():
    long_ago = timezone.now() - timedelta(days=8)
    old, new, ready = failed_job(id=first_id_of(long_ago)), failed_job(), ready_job()
    Job.objects.filter(pk=old).update(finished_at=long_ago)

    status, said, _ = run("prune", "--ended-before", "7d", "--database", "default")

    assert (status, said) == (0, "default: 1 job deleted.\n")
    assert set(Job.objects.values_list("pk", flat=True)) == {new, ready}
    assert run("prune", "--ended-before", "7d", "--state", "succeeded")[0] == NOTHING


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["retry"], "Say which jobs"),
        (["cancel"], "Say which jobs"),
        (["retry", "--state", "ready"], "--state: expected one of failed, cancelled"),
        (["retry", "--state", "done"], "--state: expected one of failed, cancelled"),
        (["prune", "--ended-before", "7d", "--state", "running"], "--state: expected one of"),
        (["prune", "--ended-before", "7"], "expected a span such as 90s"),
        (["prune"], "--ended-before"),
        (["retry", "--older-than", "1 day"], "expected a span such as 90s"),
        (["move", "--all", "--to", "relay.celery"], "queue: expected a queue of jobs"),
        (["retry", "--all", "--database", "replica"], "known: default"),
        (["cancel", "7"], "invalid UUID value"),
        (["jobs", "list", "--state", "done"], "state: expected one of"),
        (["jobs", "list", "--limit", "0"], "--limit: expected at least 1"),
    ],
    ids=str,
)
def test_a_mistake_is_said_and_nothing_is_changed(words, message):
    job_id = ready_job()

    with pytest.raises(CommandError, match=message):
        run(*words)

    assert job(job_id).state == "ready"


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=str)
def test_jobs_are_not_moved_to_a_queue_that_is_misspelt(settings, more):
    tasks = deepcopy(settings.TASKS)
    for backend in tasks.values():
        backend["QUEUES"] = ["default", "mail"]
    settings.TASKS = tasks
    waiting = ready_job()

    with pytest.raises(CommandError, match="got 'maill'"):
        run("move", "--all", "--to", "maill", *more)

    assert job(waiting).queue == "default"
    assert run("move", "--all", "--to", "mail", *more)[0] == 0


def test_the_jobs_of_a_group_are_chosen_by_its_id():
    other = ready_job()
    made = group([add.bind(1, 2)]).enqueue()

    with pytest.raises(CommandError, match="expected a group, or its id"):
        run("cancel", "--group", "import-42")
    assert run("cancel", "--group", made.id)[0] == 0

    made.refresh()
    assert (made.cancelled, job(other).state) == (1, "ready")


NAMED = ["--tag", "--group", "--queue", "--task", "--error", "--state", "--older-than"]


@pytest.mark.parametrize("empty", ["", " "], ids=repr)
@pytest.mark.parametrize("option", NAMED)
@pytest.mark.parametrize("command", [*SELECTS, "prune --ended-before 7d"])
def test_an_empty_condition_does_not_mean_all_jobs(command, option, empty):
    if command.startswith("prune") and option != "--state":
        pytest.skip("prune has no such option")
    waiting, failed = ready_job(), failed_job()

    # A script writes: aftercommit cancel --queue default --tag "$TAG"
    with pytest.raises(CommandError, match=f"argument {option}: expected a"):
        run(*command.split(), option, empty)

    assert (job(waiting).state, job(failed).state) == ("ready", "failed")


@pytest.mark.parametrize("given", [{"tag": ""}, {"queue": ""}, {"task": ""}, {"error": ""}])
def test_nor_does_one_that_a_program_gives(given):
    waiting = ready_job()

    with pytest.raises(CommandError, match="expected"):
        call_command("aftercommit", "cancel", skip_checks=True, state=["ready"], **given)

    assert job(waiting).state == "ready"


@pytest.mark.parametrize(
    "words",
    [
        ["aftercommit", "cancel", "--tag", ""],
        ["aftercommit", "cancel", "--queue", "mail", "--tag", ""],
        ["flush_queue", "--filter", ""],
    ],
    ids=str,
)
def test_a_shell_sees_status_2_for_an_empty_condition(words, capsys):
    with pytest.raises(SystemExit) as ended:
        ManagementUtility(["manage.py", *words]).execute()

    assert ended.value.code == USAGE
    assert "expected a text, got ''" in capsys.readouterr().err


def test_without_a_terminal_a_line_now_and_then_says_how_far_it_is(monkeypatch):
    monkeypatch.setattr(selecting, "ONE_BATCH", 2)
    monkeypatch.setattr(selected, "SAY_EVERY", 2)
    for _ in range(5):
        failed_job()

    _, _, complained = run("retry", "--all", "--database", "default")

    assert complained.splitlines() == [
        "default: 2 jobs ready again …",
        "default: 4 jobs ready again …",
    ]


def test_ctrl_c_says_what_is_done(monkeypatch):
    monkeypatch.setattr(selecting, "ONE_BATCH", 1)
    first, second = sorted([failed_job(), failed_job()])
    stderr = StringIO()

    def interrupt(_self, *_given):
        raise KeyboardInterrupt

    monkeypatch.setattr(selected.Change, "_in_lines", lambda *_, **__: interrupt)
    words = ["retry", "--all", "--database", "default"]
    with pytest.raises(KeyboardInterrupt):
        call_command("aftercommit", *words, skip_checks=True, stderr=stderr)

    assert stderr.getvalue() == "default: stopped. 1 job ready again; these stay so.\n"
    assert (job(first).state, job(second).state) == ("ready", "failed")


def test_jobs_are_listed_and_one_is_shown():
    ready, failed = ready_job(), failed_job()

    status, said, _ = run("jobs", "list", "--database", "default")
    assert status == 0
    assert said.splitlines() == [
        f"{ready}  ready      default  tests.app.tasks.add",
        f"{failed}  failed     failing  tests.app.tasks.add",
    ]
    (row,) = json.loads(run("jobs", "list", "--state", "failed", "--json")[1])
    assert (row["id"], row["database"], row["attempts"]) == (str(failed), "default", 1)
    assert datetime.strptime(row["enqueued_at"], "%Y-%m-%dT%H:%M:%S.%f%z")
    assert len(json.loads(run("jobs", "list", "--limit", "1", "--json")[1])) == 1

    status, said, _ = run("jobs", "show", str(failed))
    assert status == 0
    assert "args: [1, 2]" in said
    assert "error 1: builtins.ValueError\nValueError: no" in said
    shown = json.loads(run("jobs", "show", str(failed), "--json")[1])
    assert (shown["args"], shown["errors"][0]["traceback"]) == ([1, 2], "ValueError: no")


def test_a_job_that_is_not_there():
    assert run("jobs", "show", str(new_job_id()))[0] == NOTHING
    assert run("jobs", "list", "--queue", "none")[0] == NOTHING


def test_a_row_that_cannot_be_read_is_shown_all_the_same():
    job_id = ready_job()
    Job.objects.update(payload="no JSON", task_path="a\nb")

    status, said, _ = run("jobs", "show", str(job_id))

    assert status == 0
    assert "a\nb" not in said
    assert UUID(said.partition("id: ")[2][:36]) == job_id


# ---- prune and the archive ----------------------------------------------------------


@pytest.fixture
def archived(settings):
    """Return what the archive of the backend has got; ``refuse`` says which jobs it refuses."""
    got = SimpleNamespace(ids=[], refuse=lambda _job: False)

    def archive(batch):
        if any(got.refuse(one) for one in batch):
            raise ValueError("no such field")
        got.ids += [one.id for one in batch]

    tasks = deepcopy(settings.TASKS)
    tasks["default"]["OPTIONS"]["archive"] = archive
    settings.TASKS = tasks
    return got


def ended_long_ago(count, **given):
    """Return the ids of jobs that have failed eight days ago."""
    long_ago = timezone.now() - timedelta(days=8)
    ids = []
    for _ in range(count):
        made = UUID(int=first_id_of(long_ago).int + len(ids) + Job.objects.count())
        ids.append(failed_job(id=made, **given))
    Job.objects.filter(pk__in=ids).update(finished_at=long_ago)
    return ids


PRUNE = ["prune", "--ended-before", "7d", "--database", "default"]


def test_the_archive_gets_jobs_before_they_are_deleted_as_from_a_worker(archived):
    ids = ended_long_ago(3)
    gone = ended_long_ago(1, backend="gone")
    new = failed_job()

    assert run(*PRUNE)[:2] == (0, "default: 4 jobs deleted.\n")

    assert archived.ids == ids
    assert not Job.objects.filter(pk__in=[*ids, *gone]).exists()
    assert Job.objects.get().pk == new


def test_a_dry_run_archives_nothing(archived):
    ended_long_ago(2)

    assert run(*PRUNE, "--dry-run")[1] == "default: 2 jobs would be deleted.\n"
    assert archived.ids == []


def test_a_job_that_its_archive_refuses_is_left_and_told(archived, caplog):
    ids = ended_long_ago(5)
    archived.refuse = lambda one: one.id == ids[2]

    status, said, _ = run(*PRUNE)

    assert status == LEFT
    assert said == (
        "default: 4 jobs deleted, 1 left as they are, 1 of these were refused by an archive.\n"
    )
    assert [one.pk for one in Job.objects.all()] == [ids[2]]
    assert sorted(archived.ids) == sorted({*ids} - {ids[2]})
    (record,) = [one for one in caplog.records if one.levelname == "WARNING"]
    assert "no such field" in str(record.exc_info[1])


def test_an_archive_that_is_away_ends_the_command_and_nothing_is_deleted(archived):
    ended_long_ago(5)
    archived.refuse = lambda _job: True

    with pytest.raises(CommandError, match=r"ValueError: no such field"):
        run(*PRUNE)

    assert Job.objects.count() == 5


def test_an_archive_that_is_not_there_is_a_mistake(settings):
    tasks = deepcopy(settings.TASKS)
    tasks["default"]["OPTIONS"]["archive"] = "tests.app.no"
    settings.TASKS = tasks
    ended_long_ago(1)

    with pytest.raises(CommandError, match=r"archive: 'tests.app.no' cannot be imported"):
        run(*PRUNE)
    assert Job.objects.count() == 1


def test_what_is_deleted_by_hand_is_not_archived(archived):
    ended_long_ago(1)

    assert jobs.find(state="failed").delete().changed == 1
    assert archived.ids == []


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({"blocked": 1, "waits_for": 1}, "limit"),
        ({"blocked": 3, "waits_for": 1}, "rate"),
        ({"blocked": 4, "waits_for": 1}, "turn"),
        ({"waits_for": 1}, "pause"),
    ],
    ids=str,
)
def test_a_job_that_no_worker_may_claim_says_why(columns, word):
    job_id = ready_job()
    Job.objects.filter(pk=job_id).update(claimable=False, **columns)

    (row,) = json.loads(run("jobs", "list", "--json", "--database", "default")[1])
    assert row["waits"] == word
    assert run("jobs", "list", "--database", "default")[1].endswith(")\n")
    assert f"waits: {word}" in run("jobs", "show", str(job_id))[1]
