"""Tasks that read from a standby: one that has the commit of their job, or the primary."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from django.db import connection, connections, transaction

from aftercommit import task
from aftercommit.models import Job, Lease
from aftercommit.options.conf import BackendOptions
from aftercommit.store import replication, store_for
from aftercommit.store.mysql.replication import MySQLReplication
from tests.app.models import Effect
from tests.process.mariadb import primary_and_replica
from tests.process.standby import PRIMARY, STANDBY, aliases_of, primary_and_standby
from tests.services import NoServer
from tests.worker.rig import Rig

pytestmark = pytest.mark.skipif("connection.vendor == 'sqlite'")

LONG, SHORT = timedelta(seconds=20), timedelta(milliseconds=50)
PROJECT = f"{__name__}.ProjectRouter"
BOTH = ["aftercommit.ReplicaRouter", PROJECT]


class ProjectRouter:
    """What projects with a replica have: reads there, writes to the primary."""

    def db_for_read(self, model: Any, **_: Any) -> str:
        """Read from the replica."""
        return STANDBY

    def db_for_write(self, model: Any, **_: Any) -> str:
        """Write to the primary."""
        return PRIMARY

    def allow_relation(self, *_: Any, **__: Any) -> bool:
        """Allow all."""
        return True


@contextmanager
def servers_of(vendor: str) -> Iterator[Any]:
    """Run a primary and its replica, of the kind under test."""
    with ExitStack() as both:
        if vendor == "postgresql":
            prefix = "aftercommit_sb_"
            made = TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
            yield both.enter_context(primary_and_standby(Path(both.enter_context(made))))
        else:
            yield both.enter_context(primary_and_replica())


@pytest.fixture(scope="module")
def pair(django_db_blocker) -> Iterator[Any]:
    """Return both, with the tables of ours."""
    try:
        with (
            django_db_blocker.unblock(),
            servers_of(connection.vendor) as pair,
            aliases_of(pair, name="story"),
        ):
            yield pair
    except NoServer as error:
        pytest.skip(str(error))


@pytest.fixture
def torn(pair, settings, django_db_blocker) -> Iterator[Any]:
    """Return both; the replica has the empty tables, and replays nothing."""
    settings.TASKS = {
        "default": {
            "BACKEND": "aftercommit.DatabaseBackend",
            "QUEUES": [],
            "OPTIONS": {"using": PRIMARY},
        }
    }
    with django_db_blocker.unblock():
        for model in (Effect, Job, Lease):
            model.objects.using(PRIMARY).all().delete()
        pair.catch_up()
        pair.pause()
        yield pair
        connections[STANDBY].close()
        pair.resume()


def run_story(routers: list[str], settings: Any, **options: Any) -> Job:
    """Commit an order with a task about it, and run the task."""
    settings.DATABASE_ROUTERS = routers
    wait = options.pop("replica_wait", LONG)
    rig = Rig(using=PRIMARY, options=BackendOptions(using=PRIMARY, replica_wait=wait))
    try:
        with transaction.atomic(using=PRIMARY):
            Effect.objects.create(key="order 7")
            job_id = rig.enqueue(options.pop("body", send_receipt), **options)
        return rig.run_again(job_id)
    finally:
        rig.close()


def send_receipt(_context: Any) -> Any:
    """Find the order, and say where."""
    found = Effect.objects.filter(key="order 7").first()
    return None if found is None else found._state.db


def when_it_waits(monkeypatch: pytest.MonkeyPatch, act: Any) -> list[object]:
    """Act as soon as a run waits for the replica; return what was waited for."""
    waits: list[object] = []

    def before(plain: Any) -> Any:
        def wait(*given: Any, **more: Any) -> Any:
            if not waits:
                act()
            waits.append(given)
            return plain(*given, **more)

        return wait

    if connection.vendor == "postgresql":
        monkeypatch.setattr(replication.time, "sleep", before(replication.time.sleep))
    else:  # the server waits
        plain = before(MySQLReplication.replica_has)
        monkeypatch.setattr(MySQLReplication, "replica_has", plain)
    return waits


def test_without_our_router_a_task_misses_what_was_committed_before_it(torn, settings):
    """The story: however long one waits before the task, the replica may be later."""
    assert run_story([PROJECT], settings).return_value is None


def test_with_it_a_task_reads_from_the_primary(torn, settings):
    assert run_story(BOTH, settings).return_value == PRIMARY


def test_a_task_that_wants_the_replica_waits_until_that_has_its_job(torn, settings, monkeypatch):
    waits = when_it_waits(monkeypatch, torn.resume)

    job = run_story(BOTH, settings, read_from=STANDBY)

    assert job.return_value == STANDBY
    assert waits


def test_a_position_from_before_the_commit_would_not_do(torn, settings, monkeypatch):
    store = store_for(PRIMARY)
    too_early = store.position()
    monkeypatch.setattr(type(store), "position", lambda _store: too_early)

    assert run_story(BOTH, settings, read_from=STANDBY).return_value is None


def test_after_the_limit_it_reads_from_the_primary_and_says_so(torn, settings, caplog):
    job = run_story(BOTH, settings, read_from=STANDBY, replica_wait=SHORT)

    assert job.return_value == PRIMARY
    (said,) = [one for one in caplog.records if one.name == "aftercommit"]
    assert said.levelno == logging.WARNING
    assert "it has not replayed the job's commit within 0:00:00.050000" in said.getMessage()


def test_an_async_task_waits_as_well(torn, settings, monkeypatch):
    when_it_waits(monkeypatch, torn.resume)

    async def body(_context):
        found = await Effect.objects.filter(key="order 7").afirst()
        return None if found is None else found._state.db

    assert run_story(BOTH, settings, read_from=STANDBY, body=body).return_value == STANDBY


def test_what_a_task_has_written_it_reads_from_the_primary(torn, settings, monkeypatch):
    waits = when_it_waits(monkeypatch, torn.resume)

    def body(_context):
        order = Effect.objects.get(key="order 7")
        before = order._state.db
        torn.pause()
        order.value = "sent"
        order.save(update_fields=["value"])
        return before, Effect.objects.get(key="order 7").value

    job = run_story(BOTH, settings, read_from=STANDBY, body=body)

    assert job.return_value == [STANDBY, "sent"]
    assert waits


def test_in_a_transaction_a_task_reads_from_the_primary(torn, settings, monkeypatch):
    when_it_waits(monkeypatch, torn.resume)

    def body(_context):
        with transaction.atomic(using=PRIMARY):
            inside = Effect.objects.get(key="order 7")._state.db
        return inside, Effect.objects.get(key="order 7")._state.db

    job = run_story(BOTH, settings, read_from=STANDBY, body=body)

    assert job.return_value == [PRIMARY, STANDBY]


def test_a_standby_that_is_away_is_none(torn, settings, caplog, monkeypatch):
    connections[STANDBY].close()
    monkeypatch.setitem(connections[STANDBY].settings_dict, "NAME", "nowhere")

    job = run_story(BOTH, settings, read_from=STANDBY)

    assert job.return_value == PRIMARY
    assert "and not from the replica standby: OperationalError" in caplog.text


def test_the_jobs_of_a_claim_share_the_position_and_a_thread_the_wait(torn, settings):
    settings.DATABASE_ROUTERS = BOTH
    torn.resume()
    rig = Rig(using=PRIMARY, options=BackendOptions(using=PRIMARY, replica_wait=LONG))
    sent = {PRIMARY: [], STANDBY: []}

    def watch(execute, sql, params, many, context):
        if "_lsn" in sql or "gtid" in sql.lower():
            sent[context["connection"].alias].append(sql)
        return execute(sql, params, many, context)

    ids = [rig.enqueue(send_receipt, read_from=STANDBY) for _ in range(5)]
    claims = [rig.claim(job_id) for job_id in ids]
    claims = [one._replace(lease_id=claims[0].lease_id) for one in claims]
    with (
        connections[PRIMARY].execute_wrapper(watch),
        connections[STANDBY].execute_wrapper(watch),
    ):
        for claim in claims:
            rig.execute(claim)
    rig.close()

    assert len(sent[PRIMARY]) == 1
    assert 1 <= len(sent[STANDBY]) < 5 or len(set(sent[STANDBY])) == 1
    assert task is not None
