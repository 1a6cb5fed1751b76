"""Where the body of a task reads: our router, with and without a replica."""

import logging
from datetime import timedelta

import pytest
from django.db import connections, transaction

from aftercommit import reads
from aftercommit.errors import ConfigurationError
from aftercommit.models import State
from aftercommit.options.conf import BackendOptions
from aftercommit.worker.upkeep import replicas as replicas_module
from aftercommit.worker.upkeep.replicas import ReplicaReads
from tests.app.models import Account, Effect
from tests.store.callers import statements
from tests.worker.rig import Rig, leave

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

OURS = "aftercommit.ReplicaRouter"
MIRROR = "mirror"


class ReadsElsewhere:
    """Reads effects from the other database, as projects read from a replica."""

    def db_for_read(self, model, **_):
        """Choose."""
        return "other" if model is Effect else None

    def db_for_write(self, model, **_):
        """Choose: accounts belong to the other database."""
        return "other" if model is Account else None


PROJECT = f"{__name__}.ReadsElsewhere"


@pytest.fixture
def routed(settings, transactional_db):
    """Install our router before that of the project, and return a rig."""
    settings.DATABASE_ROUTERS = [OURS, PROJECT]
    rig = Rig(options=BackendOptions(replica_wait=timedelta(milliseconds=1)))
    yield rig
    rig.close()


@pytest.fixture
def mirror():
    """Give the database under test a second name."""
    connections.settings[MIRROR] = {**connections.settings["default"]}
    connections[MIRROR].settings_dict["NAME"] = connections["default"].settings_dict["NAME"]
    connections[MIRROR].connect()  # Django's tests open only what they know
    yield MIRROR
    connections[MIRROR].close()
    del connections[MIRROR]
    del connections.settings[MIRROR]


def where(_context=None):
    """Return from where an effect is read."""
    found = Effect.objects.first()
    return None if found is None else found._state.db


def test_without_our_router_nothing_is_done(rig, settings):
    settings.DATABASE_ROUTERS = [PROJECT]
    leave("here")

    assert rig.executor._begin_reads is None
    assert rig.run(where, read_from="other").return_value is None


def test_a_task_reads_where_its_writes_go(routed):
    leave("here")

    assert routed.run(where).return_value == "default"
    assert where() is None  # outside of tasks the project's router decides


@pytest.mark.parametrize("atomic", [False, True])
def test_a_pinned_task_sends_no_statement_for_it(routed, atomic):
    job_id = routed.enqueue(lambda _context: None, atomic=atomic)
    claim = routed.claim(job_id)
    with statements() as sent:
        routed.execute(claim)

    assert not [sql for sql, _given in sent if "lsn" in sql or "gtid" in sql]


def test_an_async_task_is_pinned_as_well(routed):
    leave("here")

    async def body(_context):
        found = await Effect.objects.afirst()
        return None if found is None else found._state.db

    assert routed.run(body).return_value == "default"


def test_models_of_another_database_are_read_from_its_primary(routed, mirror):
    def body(_context):
        Account.objects.create(balance=7)
        return Account.objects.get()._state.db

    assert routed.run(body).return_value == "other"
    assert routed.run(body, read_from=mirror, max_attempts=1).state == State.FAILED  # two rows
    assert Account.objects.using("other").count() == 2


def test_a_second_name_of_the_primary_needs_no_wait(routed, mirror):
    leave("here")

    assert routed.run(where, read_from=mirror).return_value == mirror
    assert routed.run(where, read_from=["other", mirror]).return_value == mirror


def test_a_database_that_is_no_replica_is_not_read(routed, caplog):
    leave("here")

    assert routed.run(where, read_from="other").return_value == "default"
    assert "and not from the replica other" in caplog.text


def test_an_alias_that_does_not_exist_is_not_read(routed, caplog):
    leave("here")

    assert routed.run(where, read_from="nowhere").return_value == "default"
    assert "ConnectionDoesNotExist" in caplog.text


def test_an_atomic_task_reads_in_its_transaction(routed, mirror, settings):
    routed.options = BackendOptions(read_from=mirror)
    leave("here")

    assert routed.run(where, atomic=True).return_value == "default"
    assert routed.run(where).return_value == mirror
    assert routed.run(where, read_from="primary").return_value == "default"


def test_once_it_has_written_a_task_reads_from_the_primary(routed, mirror):
    leave("here")

    def body(_context):
        found = Effect.objects.get()
        before = found._state.db
        found.value = 1
        found.save()
        return before, found._state.db, where()

    assert routed.run(body, read_from=mirror).return_value == [mirror, "default", "default"]


def by_sql(found):
    """Write by a cursor."""
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE app_effect SET job_id = NULL WHERE id = %s", [found.pk])


def in_a_transaction(found):
    """Write in a transaction that has ended when the next read comes."""
    with transaction.atomic(using="default"):
        found.save(using="default")


def in_a_block(found):
    """Write where all reads go to the primary anyway."""
    with reads.from_primary():
        found.save()


WAYS = {
    "create": lambda _found: Effect.objects.using("default").create(key="b"),
    "update": lambda _found: Effect.objects.using("default").update(value=2),
    "delete": lambda _found: Effect.objects.using("default").filter(key="b").delete(),
    "save": lambda found: found.save(using="default"),
    "bulk": lambda _found: Effect.objects.using("default").bulk_create([Effect(key="b")]),
    "sql": by_sql,
    "transaction": in_a_transaction,
    "block": in_a_block,
}


@pytest.mark.parametrize("way", WAYS)
def test_whichever_way_it_has_written_it_reads_from_the_primary(routed, mirror, way):
    leave("here")

    def body(_context):
        found = Effect.objects.get()
        WAYS[way](found)
        return found._state.db, where()

    assert routed.run(body, read_from=mirror).return_value[1] == "default"


def test_what_it_writes_first_counts_as_well(routed, mirror):
    def body(_context):
        Effect.objects.using("default").create(key="first")
        return where()

    assert routed.run(body, read_from=mirror).return_value == "default"


def test_a_coroutine_that_has_written_reads_from_the_primary(routed, mirror):
    async def body(_context):
        await Effect.objects.using("default").acreate(key="first")
        found = await Effect.objects.afirst()
        return found._state.db

    assert routed.run(body, read_from=mirror).return_value == "default"


def test_what_it_only_reads_there_and_what_we_write_do_not_count(routed, mirror):
    leave("here")

    def body(context):
        list(Effect.objects.using("default").select_for_update().filter(key="b").order_by()[:0])
        Effect.objects.using("default").count()
        with connections["default"].cursor() as cursor:
            cursor.execute("WITH one AS (SELECT 1) SELECT * FROM one")
        context.save({"page": 7})
        return where()

    assert routed.run(body, read_from=mirror).return_value == mirror


@pytest.mark.parametrize(
    ("sql", "writes"),
    [
        ("SELECT 1", False),
        ("/* a */ -- b\n (SELECT 1) UNION (SELECT 2)", False),
        ("SAVEPOINT a", False),
        ("WITH one AS (SELECT 1) SELECT * FROM one", False),
        ('WITH one AS (UPDATE "shop_item" SET a = 1 RETURNING id) SELECT * FROM one', True),
        ("/* a */ INSERT INTO shop_item VALUES (1)", True),
        ("/*! INSERT INTO shop_item VALUES (1) */", True),
        ("REPLACE INTO shop_item VALUES (1)", True),
        ("CALL settle()", True),
        ("COPY shop_item FROM STDIN", True),
        ('INSERT INTO "aftercommit_job" (id) VALUES (1)', False),
        ("DELETE `aftercommit_job` FROM `aftercommit_job` FORCE INDEX (PRIMARY)", False),
        ("INSERT IGNORE INTO `aftercommit_checkpoint` VALUES (1)", False),
        ("INSERT OR REPLACE INTO shop_item VALUES (1)", True),
        ("UPDATE aftercommit_job SET queue = 'a'", False),
        ("WITH due AS (SELECT 1) UPDATE aftercommit_job AS job SET state = 'b'", False),
        (object(), True),
    ],
)
def test_what_counts_as_a_write(sql, writes):
    assert reads.may_write(sql) is writes


def test_objects_of_the_primary_and_the_replica_may_be_related(routed, mirror):
    leave("here")
    router = reads.ReplicaRouter()
    one = Effect(key="a")

    def body(_context):
        one._state.db, other = "default", Effect.objects.get()
        return [router.allow_relation(one, other), other._state.db]

    assert routed.run(body, read_from=mirror).return_value == [True, mirror]
    assert router.allow_relation(one, one) is None


def test_a_block_reads_from_the_primary(routed, mirror):
    leave("here")

    def body(_context):
        with reads.from_primary():
            inside = where()
        return inside, where()

    assert routed.run(body, read_from=mirror).return_value == ["default", mirror]
    with reads.from_primary():
        assert where() is None


def test_what_a_task_has_read_from_does_not_reach_the_next(routed, mirror):
    leave("here")

    assert routed.run(where, read_from=mirror).return_value == mirror
    assert routed.run(where).return_value == "default"


def test_after_a_wait_in_vain_nobody_waits_for_a_while(routed, caplog, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(replicas_module, "now", lambda: clock[0])
    waits = []

    def is_behind(_alias, _position, *, wait):
        waits.append(wait)
        return False

    store = routed.store
    monkeypatch.setattr(store, "position", lambda: "1/1")
    monkeypatch.setattr(store, "replica_has", is_behind)
    limit = routed.options.replica_wait
    caplog.set_level(logging.WARNING)

    for moved in (0, 1, 10):
        clock[0] += moved
        assert routed.run(lambda _context: None, read_from="other").state == State.SUCCEEDED

    assert waits == [limit, timedelta(0), limit]
    assert len([one for one in caplog.records if "replica" in one.getMessage()]) == 2


def test_positions_of_few_batches_are_remembered(routed, monkeypatch):
    monkeypatch.setattr(replicas_module, "BATCHES", 2)
    chooser = ReplicaReads(routed.store)
    for _ in range(5):
        job_id = routed.enqueue(lambda _context: None)
        chooser._position_of(routed.hold(routed.claim(job_id)))

    assert len(chooser._positions) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"read_from": "other", "atomic": True}, "cannot be combined with atomic=True"),
        ({"read_from": 5}, "expected a list or a tuple"),
        ({"read_from": ""}, "expected a name"),
        ({"read_from": []}, "expected an alias of DATABASES"),
        ({"read_from": ["primary", "other"]}, "expected an alias of DATABASES"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(declare, given, said):
    with pytest.raises(ConfigurationError, match=said):
        declare(where, **given)


def test_options_that_make_no_sense_are_refused():
    for given in ({"read_from": 5}, {"replica_wait": 5}, {"replica_wait": timedelta(0)}):
        with pytest.raises(ConfigurationError):
            BackendOptions(**given)
