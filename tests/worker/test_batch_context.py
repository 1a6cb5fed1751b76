"""Where a batch reads, what is kept of its log, and how its ends are written."""

import asyncio
import logging
from datetime import timedelta

import pytest

from aftercommit.models import LogLine, State
from aftercommit.options.conf import BackendOptions
from aftercommit.worker.upkeep.replicas import ReplicaReads
from tests.app.models import Effect
from tests.worker.batched import Together
from tests.worker.rig import Rig, at_work, leave
from tests.worker.test_replicas import mirror, routed  # noqa: F401 - fixtures

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

shop = logging.getLogger("shop")


@pytest.fixture
def together(rig):
    return Together(rig)


def messages(job_id):
    lines = LogLine.objects.filter(job_id=job_id).order_by("id")
    return list(lines.values_list("message", flat=True))


def numbers(calls):
    return [call.args[0] for call in calls]


def logs(calls):
    """Log who is in the call, and raise because of the third."""
    shop.warning("%s", numbers(calls))
    if 2 in numbers(calls) and len(calls) > 1:
        raise ValueError


# ---- the log ---------------------------------------------------------------------------


def test_the_log_of_a_call_is_kept_with_its_first_job(together):
    together.run(lambda calls: shop.warning("of %d", len(calls)), keep_log="INFO")

    assert [messages(job_id) for job_id in together.ids] == [["of 3"], [], []]


def test_the_log_of_each_call_is_kept_when_a_batch_is_halved(together):
    together.run(logs, number=4, atomic=True, keep_log="INFO")

    assert together.states == [State.SUCCEEDED] * 4
    assert [messages(job_id) for job_id in together.ids] == [
        ["[0, 1, 2, 3]", "[0, 1]"],
        [],
        ["[2, 3]", "[2]"],
        ["[3]"],
    ]


def test_the_log_of_an_async_batch_is_kept(together):
    async def body(calls):
        await asyncio.sleep(0)
        shop.warning("of %d", len(calls))

    runs = together.hold(body, keep_log="INFO")
    for run, result in asyncio.run(together.batches.arun(runs, at_work)):
        together.rig.finisher.put(run, result)
    together.rig.finish_whatever_happens()

    assert together.states == [State.SUCCEEDED] * 3
    assert [messages(job_id) for job_id in together.ids] == [["of 3"], [], []]


# ---- reads -----------------------------------------------------------------------------


def where():
    """Return from where an effect is read."""
    found = Effect.objects.first()
    return None if found is None else found._state.db


def test_a_batch_that_is_halved_reads_where_it_writes(routed):  # noqa: F811
    leave("here")
    seen = []

    def body(calls):
        seen.append(where())
        if 2 in numbers(calls) and len(calls) > 1:
            raise ValueError

    together = Together(routed)
    together.run(body, atomic=True)

    assert seen == ["default"] * 5
    assert together.states == [State.SUCCEEDED] * 3


def test_a_batch_reads_from_a_replica_that_has_the_commits_of_all(routed, mirror):  # noqa: F811
    leave("here")
    seen = []
    together = Together(routed)

    together.run(lambda _calls: seen.append(where()), read_from=mirror)

    assert seen == [mirror]


@pytest.mark.parametrize("behind", [0, 1, 2])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_batch_does_not_read_from_a_replica_that_lacks_one_of_them(
    transactional_db,
    settings,
    mirror,  # noqa: F811
    monkeypatch,
    behind,
    is_async,
):
    settings.DATABASE_ROUTERS = ["aftercommit.ReplicaRouter"]
    rig = Rig(options=BackendOptions(replica_wait=timedelta(milliseconds=1)))
    store = rig.store
    positions = iter("012")
    monkeypatch.setattr(ReplicaReads, "_note", lambda *_given: None)  # SQLite's are not noted
    monkeypatch.setattr(store, "is_same_database", lambda _alias: False)
    monkeypatch.setattr(store, "position", lambda: next(positions))
    monkeypatch.setattr(
        store, "replica_has", lambda _alias, position, *, wait: position != str(behind)
    )
    leave("here")
    seen = []

    async def abody(_calls):
        seen.append((await Effect.objects.afirst())._state.db)

    together = Together(rig)
    runs = together.hold(
        abody if is_async else lambda _calls: seen.append(where()), read_from=mirror
    )
    if is_async:
        asyncio.run(together.batches.arun(runs, at_work))
    else:
        together.run()
    rig.close()

    assert len({run.claim.lease_id for run in runs}) == 3
    assert seen == ["default"]


# ---- the inline worker -----------------------------------------------------------------


def good(calls):
    """Do nothing."""


@pytest.mark.parametrize("number", [10, 40])
def test_flush_queue_writes_the_ends_of_a_batch_together(
    declare, flush_queue, monkeypatch, number
):
    from aftercommit.store import store_for  # noqa: PLC0415

    declare(good, batch_size=number).enqueue_many([(one,) for one in range(number)])
    store = type(store_for("default"))
    finish_many, written = store.finish_many, []

    def noted(self, ended):
        written.append(len(ended))
        return finish_many(self, ended)

    monkeypatch.setattr(store, "finish_many", noted)

    assert flush_queue() == number
    assert written == [number]
