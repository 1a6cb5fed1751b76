"""Secrets of a run that fails: in no row, log, page, signal, traceback or repr."""

import html
import logging
import pickle
import sys
from contextlib import suppress
from copy import deepcopy
from datetime import timedelta
from types import NoneType, SimpleNamespace
from uuid import UUID

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from aftercommit import Cancel, Discard, Secret, task
from aftercommit._compat import tasks_signals
from aftercommit.models import Job, State
from aftercommit.worker.running import pool
from aftercommit.worker.running.masking import HiddenError
from aftercommit.worker.secret_texts import texts_of
from tests.worker.rig import commits
from tests.worker.secret_tasks import (
    CANARY,
    keys,
    raises,
    row,
    run,
    upgraded,
)

pytestmark = commits
__all__ = ["keys"]  # a fixture


@pytest.fixture
def everything(caplog, settings):
    """Return a function that returns all that was logged, with tracebacks and fields."""
    caplog.set_level(logging.DEBUG)
    connection.force_debug_cursor = True
    formatter = logging.Formatter("%(message)s")

    def said():
        return "".join(
            f"{formatter.format(one)} {vars(one)!r} {one.exc_info!r}\n" for one in caplog.records
        )

    yield said
    connection.force_debug_cursor = False


class Signals:
    """Notes what receivers of Django's signals find."""

    def __init__(self):
        self.found = []

    def __call__(self, task_result, **_given):
        self.found.append(f"{task_result!r} {task_result.args} {task_result.errors} ")
        error = sys.exc_info()[1]
        while error is not None:
            self.found[-1] += f"{error!r} {frames_of(error)}"
            error = error.__cause__ or error.__context__


def frames_of(error):
    """Return the local variables of an exception's frames, as error trackers show them."""
    return [one.frame.f_locals for one in walk(error.__traceback__)]


def walk(trace):
    while trace is not None:
        yield SimpleNamespace(frame=trace.tb_frame)
        trace = trace.tb_next


def fails_with_it(context, card: Secret):
    number = card.reveal()
    try:
        raise KeyError(number)
    except KeyError as error:
        error.add_note(f"in a note: {number}")
        raise ValueError(f"card {number!r} and {{'of': {[number]}}}") from error


@task(takes_context=True, max_attempts=2, backoff=timedelta(0))
def fails(context, card: Secret):
    fails_with_it(context, card)


@task(takes_context=True, atomic=True, max_attempts=1)
def fails_atomically(context, card: Secret):
    fails_with_it(context, card)


@task(takes_context=True, max_attempts=1)
async def fails_later(context, card: Secret):
    fails_with_it(context, card)


@task(atomic=True)
def fails_afterwards(card: Secret):
    transaction.on_commit(lambda: fails_with_it(None, card))


@task
def returns_odd(card: Secret):
    return {(1, str(card.reveal())): 1}


@task
def discards(card: Secret):
    raise Discard(f"not {card.reveal()}")


@task
def cancels(card: Secret):
    raise Cancel(f"not {card.reveal()}")


class Rude(Exception):
    def __str__(self):
        raise RuntimeError(CANARY)


@task(max_attempts=1)
def is_rude(card: Secret):
    raise Rude(card.reveal())


FAILING = [
    fails,
    fails_atomically,
    fails_later,
    fails_afterwards,
    returns_odd,
    discards,
    cancels,
    is_rude,
]


@pytest.mark.parametrize(
    "value", [CANARY, 'quoted "canary" \\ \n\'s', {"number": [CANARY, 411111]}]
)
@pytest.mark.parametrize("failing", FAILING, ids=lambda one: one.func.__name__)
def test_a_run_that_fails_shows_it_nowhere(
    failing, value, everything, capsys, client, admin_user
):
    heard = Signals()
    for signal in (
        tasks_signals.task_enqueued,
        tasks_signals.task_started,
        tasks_signals.task_finished,
    ):
        signal.connect(heard)
    job_id = failing.enqueue(Secret(value)).id

    run()
    run()

    client.force_login(admin_user)
    page = client.get(f"/admin/aftercommit/job/{job_id}/change/").content.decode()
    with suppress(SystemExit):
        call_command("aftercommit", "jobs", "show", job_id)
        call_command("aftercommit", "jobs", "show", job_id, "--json")
    job = Job.objects.get(pk=job_id)
    shown = [
        row(job_id),
        everything(),
        str(capsys.readouterr()),
        page,
        html.unescape(page),
        *heard.found,
        str(failing.get_result(job_id).errors),
        repr(failing.get_result(job_id)),
        repr(job.error_list),
    ]
    for text in shown:
        assert "canary" not in text
        assert "411111" not in text
    if failing not in (fails_afterwards, cancels):
        assert job.state == State.FAILED
        assert job.error_list
    if failing is fails:
        assert len(job.error_list) == 2
        assert "ValueError: card" in job.error_list[0]["traceback"]
        assert "***" in job.error_list[0]["traceback"]


def test_a_deep_copy_is_the_same_and_a_pickle_is_refused():
    secret = Secret(CANARY)

    assert deepcopy([secret]) == [secret]
    assert repr(secret) == str(secret) == f"{secret}" == "Secret(***)"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)
    assert {secret, Secret(CANARY)} == {secret}
    assert secret != CANARY


@task(version=2, upgrade=raises)
async def upgraded_later(card): ...


@task(version=2, upgrade=raises, atomic=True)
def upgraded_atomically(card): ...


@task
async def returns_odd_later(card: Secret):
    return {(1, card.reveal()): 1}


@pytest.mark.usefixtures("alone_and_in_company")
@pytest.mark.parametrize(
    "failing",
    [
        fails_atomically,
        fails_later,
        upgraded,
        upgraded_later,
        upgraded_atomically,
        returns_odd_later,
    ],
    ids=lambda one: one.func.__name__,
)
def test_no_way_of_running_a_job_shows_it(rig, failing):
    job_id = UUID(failing.enqueue(Secret(CANARY)).id)
    Job.objects.filter(pk=job_id).update(task_path=failing.module_path)
    claim = rig.claim(job_id)

    result = rig.execute(claim)
    rig.finish(claim, result)

    assert CANARY not in rig.job(job_id).errors
    assert "***" in rig.job(job_id).errors
    assert type(result.exception) in (HiddenError, NoneType)
    assert CANARY not in f"{result.exception} {result.outcome}"


def test_what_the_worker_itself_raises_hides_them(rig, caplog):
    run = rig.hold(rig.claim(UUID(fails.enqueue(Secret(CANARY)).id)))
    run.secrets = texts_of([CANARY])
    run.has_begun = True

    pool.end_after(RuntimeError(f"sent {CANARY}"), [run])
    rig.finisher.write()

    assert CANARY not in caplog.text + rig.job(run.claim.job_id).errors
    assert "RuntimeError: sent ***" in rig.job(run.claim.job_id).errors


@task(takes_context=True, keep_log="INFO")
def notes_it(context, card: Secret):
    context.log.info("the card is %s", card.reveal())
    context.progress(1, 2, f"charges {card.reveal()}")
    logging.getLogger("shop").error("card %s", card.reveal())


def test_what_a_run_notes_does_not_show_it():
    result = notes_it.enqueue(Secret(CANARY))

    run()

    result.refresh()
    assert result.state == State.SUCCEEDED, result.errors
    noted = f"{[line.message for line in result.log]} {result.progress}"
    assert CANARY not in noted
    assert "the card is ***" in noted
    assert "charges ***" in noted
    assert "card ***" in noted
