"""A context without a worker: of a test, and of Django's ``ImmediateBackend``."""

import logging
from datetime import UTC, datetime, timedelta
from uuid import NAMESPACE_OID, uuid5

import pytest
from django.db import connection, transaction

from aftercommit import Cancel, task
from aftercommit._compat import TaskResultStatus, task_backends
from aftercommit.errors import AlreadyCommitted, InsideTransaction, PayloadError
from aftercommit.testing import context_for
from aftercommit.values import Scheduled
from tests.app.models import Effect

pytestmark = pytest.mark.django_db


@task(takes_context=True)
def counts(context, key, *, fails=False):
    with context.commit() as finish:
        Effect.objects.create(key=key)
        finish.return_value = {"id": context.job_id, "attempt": context.attempt}
        if fails:
            raise LookupError(key)


@task(takes_context=True)
async def counts_in_a_coroutine(context):
    context.progress(1, 2)
    await context.asave([context.job_id])
    return await context.aonce("call", lambda: "answer")


@task(takes_context=True, rate="1/s", tags=("a",))
def uses_all(context):
    context.progress(1, 2, "half")
    context.log.info("a %s", "line")
    context.checkpoint()
    page = (context.saved or {}).get("page", 0)
    context.save({"page": page + 1})
    context.rate_limited_until(timedelta(minutes=1))
    first = context.once("charge", lambda: [page])
    return [first, context.once("charge", lambda: "another"), context.cancelled, context.tags]


@task(takes_context=True)
def commits_twice(context):
    for _number in range(2):
        with context.commit():
            pass


@task(takes_context=True)
def commits_what_is_not_json(context):
    with context.commit() as finish:
        Effect.objects.create(key="never")
        finish.return_value = {1}


@task(takes_context=True)
def keyed(context):
    key = context.idempotency_key_for("a")
    assert key == context.idempotency_key_for("a")
    return [context.job_id, key]


class TestForATest:
    def test_commit_opens_a_transaction_and_its_value_is_the_result(self):
        context = context_for(counts, attempt=3)

        counts.call(context, "one")

        assert Effect.objects.get().key == "one"
        assert context.recorded.committed
        assert context.recorded.return_value == {"id": context.job_id, "attempt": 3}
        assert not connection.needs_rollback

    def test_a_block_that_raises_commits_nothing(self):
        context = context_for(counts)

        with pytest.raises(LookupError):
            counts.call(context, "one", fails=True)

        assert not Effect.objects.exists()
        assert not context.recorded.committed

    def test_commit_is_allowed_once(self):
        with pytest.raises(AlreadyCommitted):
            commits_twice.call(context_for(commits_twice))

    def test_the_result_must_be_json(self):
        with pytest.raises(PayloadError):
            commits_what_is_not_json.call(context_for(commits_what_is_not_json))

        assert not Effect.objects.exists()

    def test_what_the_function_does_with_it_is_recorded(self):
        context = context_for(uses_all, saved={"page": 6}, tags=["b"])

        answer = uses_all.call(context)

        recorded = context.recorded
        assert answer == [[6], [6], False, ["a", "b"]]
        assert (recorded.progress.done, recorded.progress.message) == (1, "half")
        assert [(line.level, line.message) for line in recorded.log] == [(logging.INFO, "a line")]
        assert recorded.saved == '{"page":7}'
        assert recorded.answers == {"charge": "[6]"}
        assert recorded.paused_until == timedelta(minutes=1)

    def test_a_cancelled_job_ends_at_its_checkpoint(self):
        context = context_for(uses_all, cancelled=True)

        with pytest.raises(Cancel):
            uses_all.call(context)

    def test_the_schedule_is_what_was_given(self):
        moment = Scheduled("nightly", datetime(2030, 1, 1, tzinfo=UTC))

        assert context_for(counts, schedule=moment).schedule == moment
        assert context_for(counts).schedule is None

    def test_keys_are_stable(self):
        context = context_for(counts)

        assert context.idempotency_key == context.job_id
        assert context.idempotency_key_for("a") == context.idempotency_key_for("a")
        assert context.idempotency_key_for("a") != context.idempotency_key_for("b")

    def test_calls_are_not_recorded_inside_a_transaction(self):
        with pytest.raises(InsideTransaction), transaction.atomic():
            context_for(counts).once("call", lambda: 1)


class TestOfAnotherBackend:
    @pytest.fixture(autouse=True)
    def _immediate(self, settings):
        package = task_backends.__module__.partition(".")[0]
        module = "django.tasks" if package == "django" else package
        settings.TASKS = {"default": {"BACKEND": f"{module}.backends.immediate.ImmediateBackend"}}

    def test_a_task_has_its_context(self):
        result = counts.enqueue("one")

        assert result.status == TaskResultStatus.SUCCESSFUL, result.errors
        assert result.return_value == {"id": result.id, "attempt": 1}
        assert Effect.objects.get().key == "one"

    def test_also_inside_a_transaction(self):
        with transaction.atomic():
            result = counts.enqueue("one")

        assert result.status == TaskResultStatus.SUCCESSFUL, result.errors

    def test_a_block_that_raises_commits_nothing(self):
        result = counts.enqueue("one", fails=True)

        assert result.status == TaskResultStatus.FAILED
        assert not Effect.objects.exists()

    def test_a_coroutine_has_it_too(self):
        result = counts_in_a_coroutine.enqueue()

        assert result.return_value == "answer", result.errors

    def test_all_of_the_context_is_there(self):
        result = uses_all.enqueue()

        assert result.return_value == [[0], [0], False, ["a"]], result.errors

    def test_the_id_is_fit_for_keys(self):
        result = keyed.enqueue()

        namespace = uuid5(NAMESPACE_OID, result.id)
        assert result.return_value == [result.id, str(uuid5(namespace, "a"))], result.errors
