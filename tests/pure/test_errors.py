"""Every error says what happened, what it can lead to, and what to do."""

import inspect
import pickle
from datetime import timedelta
from uuid import UUID

import pytest
from django.core.exceptions import ImproperlyConfigured

from aftercommit import errors
from aftercommit.errors import AftercommitError

JOB = UUID(int=7)
EXAMPLES = [
    errors.MissingBackport(),
    errors.BadSelection("state", "one of ready, failed", "done"),
    errors.PayloadError(path="args[0]", problem="UUID is not JSON", task_path="app.send"),
    errors.PayloadTooLarge(what="the arguments", size=2048, limit=1024, task_path="app.send"),
    errors.EnqueueFailed(unique_key="user-1"),
    errors.JobExists(task_path="shop.tasks.export", job_id=UUID(int=7)),
    errors.Unreadable(what="arguments", problem="it is not JSON"),
    errors.HoldsSecret(path="args[0]", task_path="app.send"),
    errors.SecretsUnreadable(job_id=UUID(int=7), problem="they were changed"),
    errors.NotUpgraded(
        task_path="shop.tasks.charge", version=1, newest=2, problem="raised KeyError: 'cents'"
    ),
    errors.NoMessageId(consumer="shop.tasks.send", found=None),
    errors.FunctionNotAllowed(path="os.system", allowed=["shop", "mail"]),
    errors.NotAFunction(path="shop.tasks", problem="it is a module"),
    errors.ClaimLost(job_id=JOB),
    errors.RolledBack(),
    errors.TransactionBroken(using="other"),
    errors.AlreadyCommitted(),
    errors.ArchiveFailed(jobs=2),
    errors.NotEndedYet(
        job_id=str(JOB), task_path="shop.tasks.add", state="ready", timeout=timedelta(seconds=1)
    ),
    errors.InsideTransaction(what="flush_queue", using=["default"], in_test=False),
    errors.NotPublishedYet(message_id="m-7", what="get()"),
    errors.GroupDoesNotExist(group="import-42"),
    errors.GroupHasEnded(group="import-42", why="all of its jobs have ended"),
    errors.GroupNotEndedYet(group="import-42", left=3, timeout=timedelta(seconds=5)),
    errors.NoSuchSchedule(name="nigthly", near=["nightly"]),
    errors.ScheduleExists(name="nightly"),
    errors.NothingToPause(what="queue 'mial'", fix="mail."),
    errors.NothingToLimit(what="queue 'mial'", fix="mail."),
    errors.NotRunByWorker(),
    errors.MiddlewareError(
        task_path="shop.tasks.add",
        problem="has not called get_result(run)",
        effect="The task was not run.",
    ),
    errors.TooManyRuns(most=1000, task_path="shop.tasks.add"),
    errors.MailRefused(answers=["eve@shop.example: 550 Unknown"]),
    errors.GatherMisplaced(problem="it has ended in another thread", fix="end it here"),
    errors.NotInsertedYet(job_id=str(JOB)),
    errors.NeededJobMissing(job_id=JOB),
    errors.GraphError("calls wait for each other in a circle", fix="let one not wait."),
]
FACTS = {
    "BadSelection": ["state", "one of ready, failed", "'done'"],
    "PayloadError": ["args[0]", "UUID", "app.send"],
    "PayloadTooLarge": ["2,048", "1,024", "app.send"],
    "EnqueueFailed": ["user-1"],
    "JobExists": ["shop.tasks.export", str(UUID(int=7)), "on_conflict"],
    "Unreadable": ["arguments", "it is not JSON"],
    "InsideTransaction": ["flush_queue", "'default'"],
    "NotPublishedYet": ["m-7", "get()"],
    "GroupDoesNotExist": ["'import-42'"],
    "GroupHasEnded": ["'import-42'", "all of its jobs have ended"],
    "GroupNotEndedYet": ["'import-42'", "3 jobs", "0:00:05"],
    "NothingToPause": ["'mial'", "mail"],
    "NoSuchSchedule": ["'nigthly'", "one of these: 'nightly'"],
    "ScheduleExists": ["'nightly'", "another name"],
    "NothingToLimit": ["'mial'", "mail"],
    "NoMessageId": ["shop.tasks.send", "None"],
    "FunctionNotAllowed": ["os.system", "mail, shop"],
    "NotAFunction": ["shop.tasks", "it is a module"],
    "ClaimLost": [str(JOB)],
    "GatherMisplaced": ["another thread", "end it here"],
    "NotInsertedYet": [str(JOB), "gather()"],
    "GraphError": ["circle", "let one not wait"],
    "NeededJobMissing": [str(JOB), "keep_result"],
    "TransactionBroken": ["'other'"],
}
# Their texts are written where they are raised, or they are never raised.
WITHOUT_A_TEXT_OF_THEIR_OWN = {
    "AftercommitError",
    "ConfigurationError",
    "DispatchInTransaction",
    "ProcessCrashed",
    "WorkerDied",
    "NeededJobFailed",
    "TimedOut",
    "Stopped",
}


def name_of(error):
    """Return the class of an example, for pytest's names."""
    return type(error).__name__


def test_no_error_is_without_an_example():
    ours = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }

    assert {name_of(error) for error in EXAMPLES} == ours - WITHOUT_A_TEXT_OF_THEIR_OWN


@pytest.mark.parametrize("error", EXAMPLES, ids=name_of)
def test_it_says_what_so_what_and_now_what(error):
    what, *so_what, fix = str(error).splitlines()

    assert what.endswith((".", ":"))
    assert so_what
    assert so_what[-1].endswith(".")
    assert fix.startswith("Fix: ")
    assert fix.endswith(".")


@pytest.mark.parametrize("error", EXAMPLES, ids=name_of)
def test_it_blames_nobody_and_shouts_at_nobody(error):
    text = str(error).lower()

    assert "!" not in text
    assert not any(word in text for word in ("invalid", "illegal", "you must", "please"))


@pytest.mark.parametrize("error", EXAMPLES, ids=name_of)
def test_it_names_its_facts(error):
    for fact in FACTS.get(name_of(error), []):
        assert fact in str(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=name_of)
def test_it_is_one_of_ours_and_a_process_can_hand_it_to_another(error):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301

    assert isinstance(error, AftercommitError)
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_a_payload_error_is_the_type_error_that_django_raises():
    assert issubclass(errors.PayloadError, TypeError)
    assert issubclass(errors.PayloadTooLarge, ValueError)
    assert issubclass(errors.ConfigurationError, ImproperlyConfigured)


def test_a_timeout_passes_through_except_exception():
    assert not issubclass(errors.TimedOut, Exception)
    assert "0:02:00" in str(errors.TimedOut(timedelta(minutes=2)))
    assert str(errors.TimedOut()) == "The task ran longer than its timeout."


def test_an_empty_allow_list_is_said_to_be_empty():
    assert "(nothing)" in str(errors.FunctionNotAllowed(path="os.system", allowed=[]))
