"""Every exception that aftercommit raises, each with its message and its fix."""

import reprlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Self
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured

from aftercommit.printable import without_passwords
from aftercommit.wording import spoken

SHORTENED = reprlib.Repr()
SHORTENED.maxother = 80  # a moment and a span as a whole


class AftercommitError(Exception):
    """The root of everything that aftercommit raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by calling the class again: it takes facts, and the sentence is written.
        return type(self)._unpickled, (self.args,), self.__dict__

    @classmethod
    def _unpickled(cls, args: tuple[Any, ...]) -> Self:
        error = cls.__new__(cls)
        error.args = args
        return error


class ConfigurationError(AftercommitError, ImproperlyConfigured):
    """A setting, an option or an argument of a command says something impossible."""

    def __init__(self, *parts: object) -> None:
        # Some sentences repeat what was given, and that may be an address with a password.
        super().__init__(
            *(without_passwords(one) if isinstance(one, str) else one for one in parts)
        )


class MissingBackport(ConfigurationError):
    """Django is older than 6.0 and the ``django-tasks`` backport is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "This Django has no django.tasks, and the backport is not installed.\n"
            "No task can be defined or run without one of them.\n"
            "Fix: pip install 'aftercommit[backport]' and add 'django_tasks' to "
            "INSTALLED_APPS, or use Django 6.0 or newer."
        )


class BadSelection(AftercommitError, ValueError):
    """``jobs.find()``, or an operation on what it finds, was asked for something impossible."""

    def __init__(self, name: str, expected: str, got: object) -> None:
        super().__init__(
            f"{name}: expected {expected}, got {SHORTENED.repr(got)}.\n"
            "It selects no job, or asks for what cannot be done. Nothing was read or changed.\n"
            f"Fix: pass another {name}, or leave it out."
        )


class PayloadError(AftercommitError, TypeError):
    """An argument or a result is not JSON, or does not survive the way there and back."""

    def __init__(self, *, path: str, problem: str, task_path: str) -> None:
        super().__init__(
            f"{task_path}: {path}: {problem}.\n"
            "Arguments and results travel as JSON; nothing was enqueued or stored.\n"
            "Fix: pass strings, numbers, booleans, None, lists and dicts with string "
            "keys, for example str(uuid), moment.isoformat() or obj.pk."
        )
        self.path = path
        self.task_path = task_path


class HoldsSecret(PayloadError):
    """A ``Secret`` was passed where nothing encrypts it."""

    def __init__(self, *, path: str, task_path: str) -> None:
        AftercommitError.__init__(
            self,
            f"{task_path}: {path} is a Secret. Only arguments of jobs in the table of a "
            "DatabaseBackend are encrypted.\n"
            "It would be readable for others; nothing was enqueued or stored.\n"
            "Fix: use a DatabaseBackend for this task; do not return a Secret, or put it into "
            "meta data.",
        )
        self.path = path
        self.task_path = task_path


class PayloadTooLarge(AftercommitError, ValueError):
    """Arguments or a result are larger than the backend allows."""

    def __init__(self, *, what: str, size: int, limit: int, task_path: str) -> None:
        super().__init__(
            f"{task_path}: {what} take {size:,} bytes as JSON; the limit is {limit:,}.\n"
            "Large rows slow every query on the table; nothing was enqueued or stored.\n"
            "Fix: store the data in a model or a file and pass its id, or raise "
            "OPTIONS['max_payload']."
        )
        self.size = size
        self.limit = limit


class Unreadable(AftercommitError, ValueError):
    """A value in a job's row is not what aftercommit writes there."""

    def __init__(self, *, what: str, problem: str) -> None:
        super().__init__(
            f"The stored {what} of the job cannot be read: {problem}.\n"
            "Another program has changed the row, or a restore was incomplete; the job cannot "
            "run.\n"
            "Fix: correct the row by SQL and retry the job, or delete it."
        )
        self.what = what


class SecretsUnreadable(AftercommitError):
    """The encrypted arguments of a job cannot be decrypted."""

    def __init__(self, *, job_id: UUID, problem: str) -> None:
        super().__init__(
            f"The secrets of job {job_id} cannot be decrypted: {problem}.\n"
            "The job has failed before its function was called; its row is as it was.\n"
            "Fix: if a key was taken away, put it back into OPTIONS['secret_keys'], behind the "
            "first one, start the workers anew, and retry the job. Otherwise enqueue it again."
        )
        self.job_id = job_id


class NotUpgraded(AftercommitError):
    """The arguments of a queued call of an earlier version could not be upgraded."""

    def __init__(self, *, task_path: str, version: int, newest: int, problem: str) -> None:
        super().__init__(
            f"{task_path}: a queued call of version {version} was to be upgraded to version "
            f"{newest}, and upgrade() {problem}.\n"
            "The job has failed before its function was called; its arguments are stored as they "
            "were enqueued.\n"
            "Fix: correct upgrade(), start the workers anew, and retry the job: "
            f"manage.py aftercommit retry --state failed --task {task_path}."
        )
        self.task_path = task_path
        self.version = version
        self.newest = newest


class NoMessageId(AftercommitError):
    """``@once`` does not know which message it is called for."""

    def __init__(self, *, consumer: str, found: object) -> None:
        super().__init__(
            f"{consumer} is decorated with @once, and the id of its message is {found!r}.\n"
            "Without an id nobody could tell a copy from another message; nothing was done.\n"
            "Fix: call it through its library (Celery, RQ, or Dramatiq with its CurrentMessage "
            "middleware), or give @once(key=...) a function that returns an id of 1 to 255 "
            "characters from the arguments. In a test, call it by __wrapped__."
        )


class EnqueueFailed(AftercommitError):
    """A unique job met a holder of its key that came and went three times."""

    def __init__(self, *, unique_key: str) -> None:
        super().__init__(
            f"No job could be enqueued with the unique key {unique_key!r}: each of three "
            "tries met another job that ended before it could be read.\n"
            "No job exists for this call.\n"
            "Fix: enqueue again; if it happens often, the key is too coarse."
        )
        self.unique_key = unique_key


class JobExists(AftercommitError):
    """A unique job was enqueued with ``on_conflict="raise"``, and a live job has its key."""

    def __init__(self, *, task_path: str, job_id: UUID | None) -> None:
        other = f"The job {job_id}" if job_id else "Another call of the same enqueue_many()"
        super().__init__(
            f"{task_path}: {other} has the unique key of this call.\n"
            'Nothing was enqueued, because the task or the call says on_conflict="raise".\n'
            'Fix: catch this error where a second call is expected, or use on_conflict="return" '
            "to get the result of the job that is there."
        )
        self.task_path = task_path
        self.job_id = job_id


class NoSuchSchedule(AftercommitError, LookupError):
    """A schedule was named that no database has, or more than one."""

    def __init__(
        self, *, name: str, near: Iterable[str] = (), several: Iterable[str] = ()
    ) -> None:
        found = ", ".join(several)
        where = f"several databases have one: {found}" if found else "no database of jobs has one"
        names = ", ".join(map(repr, near))
        fix = (
            f"name one of these: {names}."
            if names
            else (
                "list them by 'manage.py aftercommit schedules'. Those of the code are there as "
                "soon as a worker has been started."
            )
        )
        super().__init__(
            f"A schedule named {name!r} was asked for, and {where}.\n"
            "Nothing was changed.\n"
            f"Fix: {'say which database, by using=.' if found else fix}"
        )
        self.name = name


class ScheduleExists(AftercommitError):
    """A schedule was to be made, and its name is taken."""

    def __init__(self, *, name: str) -> None:
        super().__init__(
            f"There is a schedule named {name!r} already.\n"
            "Nothing was changed.\n"
            "Fix: choose another name, or edit that schedule."
        )
        self.name = name


class FunctionNotAllowed(AftercommitError):
    """A function was named by path and the allow-list does not cover it."""

    def __init__(self, *, path: str, allowed: Iterable[str]) -> None:
        super().__init__(
            f"{path!r} may not be run by name: allowed are functions in "
            f"{', '.join(sorted(allowed)) or '(nothing)'}.\n"
            "A name in a row must not be able to start arbitrary code.\n"
            "Fix: add its module to OPTIONS['allowed_functions'] of this backend."
        )
        self.path = path


class NotAFunction(AftercommitError):
    """A path or an object given to ``schedule()`` is not a plain module-level function."""

    def __init__(self, *, path: str, problem: str) -> None:
        super().__init__(
            f"{path!r} cannot be scheduled: {problem}.\n"
            "The worker finds a function by its dotted path, so it needs one of its own.\n"
            "Fix: name a function at the top level of a module, 'package.module.function'."
        )
        self.path = path


class ClaimLost(AftercommitError):
    """The claim on a job ended before its run did; everything in its transaction was undone."""

    def __init__(self, *, job_id: object = "(this one)") -> None:
        # The default is for Python, which raises it inside a body without arguments.
        super().__init__(
            f"Job {job_id} was taken from this worker before it could finish "
            "(lease over, or cancelled by an operator).\n"
            "Its transaction was rolled back; another worker runs the job.\n"
            "Fix: nothing, if it is rare. If it is not, look for a worker that stands "
            "still, or give the backend a longer lease."
        )


class WorkerDied(AftercommitError):
    """Recorded on a job whose worker went away while running it; never raised."""


class ProcessCrashed(AftercommitError):
    """Recorded on a job that ran alone in a process that died of itself; never raised."""


class GraphError(AftercommitError, ValueError):
    """Calls cannot be enqueued together as they are."""

    def __init__(self, problem: str, *, fix: str) -> None:
        super().__init__(
            f"Calls cannot be enqueued: {problem}.\n"
            "No order of their jobs, or no place for their results, would be right; nothing was "
            f"enqueued.\nFix: {fix}"
        )


class NeededJobMissing(AftercommitError, LookupError):
    """A call was to wait for a job that has no row."""

    def __init__(self, *, job_id: UUID) -> None:
        super().__init__(
            f"A call was to wait for job {job_id}, which this database does not have: it was "
            "deleted, or is in another database, or its transaction was rolled back.\n"
            "How it has ended is not known, so nothing was enqueued.\n"
            "Fix: wait for a job as long as its row is kept (keep_result), or enqueue the call "
            "without waiting."
        )
        self.job_id = job_id


class NeededJobFailed(AftercommitError):
    """Recorded on a job that waited for one that did not succeed; never raised."""


class TimedOut(BaseException):
    """Raised inside a task that has run longer than its ``timeout``.

    A ``BaseException``, so that ``except Exception`` in a task does not swallow it.
    """

    def __init__(self, timeout: timedelta | None = None) -> None:
        # Python raises it in the task's thread by class, without arguments.
        super().__init__(
            f"The task ran longer than its timeout of {timeout}."
            if timeout
            else "The task ran longer than its timeout."
        )


class Stopped(BaseException):
    """Raised inside a task whose worker must end at once; the job is released."""


class RolledBack(AftercommitError):
    """The body of an atomic task ended with its transaction marked for rollback."""

    def __init__(self) -> None:
        super().__init__(
            "The task returned, but its transaction is marked for rollback "
            "(set_rollback(True), or a database error that was caught inside), or a block of "
            "atomic() is entered and not left (in a generator that has not ended).\n"
            "Marking the job as done would lose its effects in silence, so the run "
            "counts as failed.\n"
            "Fix: let the error pass, or wrap the part that may fail in "
            "transaction.atomic()."
        )


class TransactionBroken(AftercommitError):
    """The transaction that holds a job's effects was ended from inside the task."""

    def __init__(self, *, using: str) -> None:
        super().__init__(
            f"The transaction on database {using!r} was ended from inside the task: a raw "
            "COMMIT or ROLLBACK, a closed connection, or (MySQL, MariaDB) a statement "
            "such as CREATE TABLE that commits by itself.\n"
            "What came before may be committed without the job being done, so it is not "
            "run again.\n"
            "Fix: leave the transaction to the worker, or declare the task without "
            "atomic=True."
        )


class AlreadyCommitted(AftercommitError):
    """``context.commit()`` was entered a second time in one run."""

    def __init__(self) -> None:
        super().__init__(
            "context.commit() was used twice in one run.\n"
            "The first one has already committed the effects and marked the job as done.\n"
            "Fix: put all effects into one block, or enqueue a second task inside it."
        )


OWN_TRANSACTIONS = (
    "Jobs begin, commit and roll back transactions of their own, and the caller's would be lost "
    "with what it has written; nothing was run."
)


class InsideTransaction(AftercommitError, RuntimeError):
    """What runs jobs was called while a transaction of its caller is open."""

    def __init__(
        self,
        *,
        what: str,
        using: Iterable[str],
        in_test: bool,
        why: str | None = None,
        fix: str | None = None,
    ) -> None:
        using = tuple(using)
        names = ", ".join(map(repr, using))
        fix = fix or (
            "This transaction is the one that TestCase opens around each test.\n"
            "Fix: call aftercommit.testing.run_jobs(), or use TransactionTestCase; with "
            "pytest-django: @pytest.mark.django_db(transaction=True)."
            if in_test
            else "Fix: call it after the block, for example by transaction.on_commit(); if "
            "autocommit is off, after COMMIT and set_autocommit(True)."
        )
        super().__init__(
            f"{what} was called inside a transaction that is open on database {names}.\n"
            + (why or OWN_TRANSACTIONS)
            + f"\n{fix}"
        )
        self.using = using


class NothingToPause(AftercommitError, LookupError):
    """A queue, a task or a broker was to be paused, or resumed, that does not exist."""

    def __init__(self, *, what: str, fix: str, undone: bool = False) -> None:
        why = (
            "nothing was resumed.\nWhat is paused under another name still is."
            if undone
            else "nothing was paused.\nA pause of a name that is misspelt would let the jobs run "
            "that were to be stopped."
        )
        super().__init__(f"This project has no {what}: {why}\nFix: {fix}")
        self.what = what


class NothingToLimit(AftercommitError, LookupError):
    """A queue, a task or a broker was to be limited, or no longer, that does not exist."""

    def __init__(self, *, what: str, fix: str, undone: bool = False) -> None:
        why = (
            "no limit was taken away.\nWhat is limited under another name still is."
            if undone
            else "nothing was limited.\nA limit of a name that is misspelt would let as many "
            "jobs run as before."
        )
        super().__init__(f"This project has no {what}: {why}\nFix: {fix}")
        self.what = what


class NotEndedYet(AftercommitError, TimeoutError):
    """``wait()`` or ``await_()`` of a result has lasted as long as it may; the job goes on."""

    def __init__(self, *, job_id: str, task_path: str, state: str, timeout: timedelta) -> None:
        super().__init__(
            f"Job {job_id} of {task_path} has not ended within {spoken(timeout)}: it is "
            f"{state}.\n"
            "Nothing has happened to it; it ends without being waited for.\n"
            "Fix: wait again, or longer; if it stays ready, see if a worker serves its queue."
        )
        self.job_id = job_id
        self.state = state


class GroupDoesNotExist(AftercommitError, LookupError):
    """There is no group with this id or name."""

    def __init__(self, *, group: str) -> None:
        super().__init__(
            f"There is no group {group!r}.\n"
            "It was not committed, or it was deleted some time after the last of its jobs.\n"
            "Fix: see the id or the name, and the database alias (using=)."
        )


class GroupHasEnded(AftercommitError, RuntimeError):
    """A job was to be added to a group that takes no more."""

    def __init__(self, *, group: str, why: str) -> None:
        super().__init__(
            f"No job can be added to the group {group!r}: {why}.\n"
            "Nothing was enqueued: what waits for the end of the group may have run.\n"
            "Fix: add jobs from inside a job of the group, or make a new group."
        )
        self.why = why


class GroupNotEndedYet(AftercommitError, TimeoutError):
    """``wait()`` or ``await_()`` of a group has lasted as long as it may; its jobs go on."""

    def __init__(self, *, group: str, left: int, timeout: timedelta) -> None:
        super().__init__(
            f"The group {group!r} has not ended within {timeout}: {left} jobs are left.\n"
            "Nothing has happened to them; they end without being waited for.\n"
            "Fix: wait again, or longer; if nothing ends, see if a worker serves their queues."
        )
        self.left = left


class NotPublishedYet(AftercommitError, RuntimeError):
    """Something was asked of a message that is kept in the transaction that is still open."""

    def __init__(self, *, message_id: str, what: str) -> None:
        super().__init__(
            f"{what} needs the message {message_id}, which is kept in the transaction that is "
            "open, and is sent after its commit.\n"
            "Nobody runs it before, so waiting for it would never end.\n"
            "Fix: call it after the transaction."
        )
        self.message_id = message_id
        self.what = what


class GatherMisplaced(AftercommitError, RuntimeError):
    """A block of ``gather()`` cannot insert its jobs where it stands."""

    def __init__(self, *, problem: str, fix: str) -> None:
        super().__init__(
            f"gather(): {problem}.\n"
            "The jobs that were enqueued inside it are not inserted.\n"
            f"Fix: {fix}."
        )


class NotInsertedYet(AftercommitError, RuntimeError):
    """The end of a job was waited for inside the ``gather()`` that inserts it at its end."""

    def __init__(self, *, job_id: str) -> None:
        super().__init__(
            f"Job {job_id} is inserted at the end of the gather() block that is open.\n"
            "No worker sees it before, so waiting for it would never end.\n"
            "Fix: wait after the block."
        )
        self.job_id = job_id


class ArchiveFailed(AftercommitError):
    """The function of ``OPTIONS['archive']`` raised; the jobs that it got are not deleted."""

    def __init__(self, *, jobs: int) -> None:
        super().__init__(
            f"OPTIONS['archive'] raised for {jobs} ended job(s).\nNone of them was deleted; it "
            "is called again for the same jobs.\nFix: see the exception above."
        )


class MiddlewareError(AftercommitError, RuntimeError):
    """Middleware did not call ``get_result(run)`` once; the run ends with it as an exception."""

    def __init__(self, *, task_path: str, problem: str, effect: str) -> None:
        super().__init__(
            f"{task_path}: a function of OPTIONS['middleware'] {problem}.\n{effect}\n"
            "Fix: call get_result(run) once. To end a run without its task, raise Cancel, "
            "Discard, Snooze or Retry of aftercommit."
        )


class MailRefused(AftercommitError):
    """A mail server has refused a mail for good; its job fails and is not tried again."""

    def __init__(self, *, answers: Iterable[str]) -> None:
        self.answers = tuple(answers)
        super().__init__(
            "The mail server has refused this mail, and would do so again:\n"
            + "\n".join(self.answers)
            + "\nIt was sent to nobody.\n"
            "Fix: correct the addresses or the account, and retry the job."
        )


class TooManyRuns(AftercommitError):
    """``run_jobs()`` has run many jobs, and there are still due ones."""

    def __init__(self, *, most: int, task_path: str) -> None:
        super().__init__(
            f"run_jobs() has run {most:,} jobs, and one of {task_path} is still due.\n"
            "A task may enqueue itself, or ask for a retry at once, without end.\n"
            "Fix: if so many are meant, pass most= with a larger number."
        )
        self.most = most
        self.task_path = task_path


class DispatchInTransaction(AftercommitError):
    """The guard has found something, and its mode is ``raise``; nothing was sent.

    ``finding`` is a ``guard.Finding``.
    """

    def __init__(self, finding: Any) -> None:
        super().__init__(f"{finding}")
        self.finding = finding


class NotRunByWorker(AftercommitError):
    """A context was asked outside a worker for what only a worker can do."""

    def __init__(self, what: str = "context.commit()") -> None:
        super().__init__(
            f"{what} works only while a worker runs the job.\n"
            "There is no claim here.\n"
            "Fix: enqueue the task; in a test, pass aftercommit.testing.context_for(task)."
        )
