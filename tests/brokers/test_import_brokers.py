"""aftercommit import: what the real libraries have queued in Redis becomes jobs, once."""

import json
from datetime import UTC, datetime, timedelta

import dramatiq
import pytest
from celery import Celery, chain
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from dramatiq.brokers.redis import RedisBroker
from kombu import Connection
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from aftercommit import task
from aftercommit.importing.values import Place
from aftercommit.models import Job
from tests.brokers.addresses import broker_url, queue_name
from tests.brokers.imports import LATER, check_order, importing, run

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("redis", "transactional_db"),
]

ATOMIC_EXIT = transaction.Atomic.__exit__
HERE = f"{__name__}.brought"
URL = broker_url("redis")
PREFIX = f"{queue_name('import')}_"  # of the keys of one library
KEYS = f"*{queue_name('import')}*"


@task
def brought(first, second="none"):
    """Be called by messages of others."""
    return f"{first} {second}"


class AsCelery:
    """Sends by Celery."""

    name, words = "celery", ("--prefix", PREFIX)
    place = Place(url=URL, prefix=PREFIX)

    def __init__(self):
        self.app = Celery("importing", broker=URL, set_as_current=False)
        self.app.conf.broker_transport_options = {"global_keyprefix": PREFIX}
        self.app.conf.update(task_ignore_result=True, task_serializer="json")

    def send(self, *args, path=HERE, at=None, **options):
        self.app.send_task(path, args=args, eta=at, **options)

    def close(self):
        self.app.close()


class AsDramatiq:
    """Sends by Dramatiq."""

    name, words = "dramatiq", ("--prefix", PREFIX)
    place = Place(url=URL, prefix=PREFIX)

    def __init__(self):
        self.broker = RedisBroker(url=URL, namespace=PREFIX)
        self.broker.declare_queue("default")

    def send(self, *args, path=HERE, at=None, **options):
        message = dramatiq.Message("default", path, args, {}, options)
        span = None if at is None else (at - datetime.now(UTC)) / timedelta(milliseconds=1)
        self.broker.enqueue(message, delay=None if span is None else int(span))

    def close(self):
        self.broker.close()


class AsRQ:
    """Sends by RQ, with its serializer for JSON."""

    name, words = "rq", ("--queue", PREFIX)
    place = Place(url=URL, queues=(PREFIX,))
    serializer = JSONSerializer

    def __init__(self):
        self.client = Redis.from_url(URL)
        self.queue = Queue(PREFIX, connection=self.client, serializer=self.serializer)
        self.number = 0

    def send(self, *args, path=HERE, at=None, **options):
        self.number += 1
        options["job_id"] = f"{queue_name('import')}-{self.number}"
        if at is None:
            return self.queue.enqueue(path, *args, **options)
        return self.queue.enqueue_at(at, path, *args, **options)

    def close(self):
        self.client.close()


class AsPickledRQ(AsRQ):
    """Sends by RQ as it is without a setting."""

    serializer = None


@pytest.fixture(params=[AsCelery, AsDramatiq, AsRQ])
def library(request):
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def made():
    """Return a function that makes one of these libraries."""
    opened = []

    def make(kind):
        opened.append(kind())
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def ours(redis):
    """Return the keys in which messages are that were taken."""
    return [key for key in redis.scan_iter(KEYS) if key.startswith(b"aftercommit:")]


def test_what_is_queued_becomes_jobs_in_its_order(library, capsys, redis):
    check_order(library, capsys)

    assert not ours(redis)


def test_a_dry_run_changes_nothing(library, capsys, redis):
    library.send("one")
    before = {key: redis.dump(key) for key in redis.scan_iter(KEYS)}

    assert run(capsys, library, "--dry-run")[1].endswith("would be imported.")

    assert {key: redis.dump(key) for key in redis.scan_iter(KEYS)} == before
    assert not Job.objects.exists()


def test_what_cannot_be_a_job_is_left_where_it_is(library, capsys):
    library.send(1, path="nobody.knows")
    library.send("one")
    library.send(1, 2, 3)

    status, _out, err = run(capsys, library, "--batch-size", "1")

    assert status == 7
    assert "nobody.knows: 1 message left: no task 'nobody.knows' is declared here" in err
    assert "brought() takes from 1 to 2 positional arguments but 3 were given" in err
    assert [job.args for job in Job.objects.all()] == [["one"]]
    status, out, _err = run(capsys, library, "--task", f"nobody.knows={HERE}")
    assert status == 7
    assert out.endswith("was imported, 1 left.")
    assert [job.args for job in Job.objects.order_by("id")] == [["one"], [1]]


@pytest.mark.parametrize("at", ["insert", "commit", "remove"])
def test_a_run_that_dies_loses_and_doubles_nothing(library, at, monkeypatch, capsys, redis):
    library.send("one")
    library.send("two")
    source, broken = importing(library)

    def die(*_given):
        raise KeyboardInterrupt

    if at == "insert":
        monkeypatch.setattr(broken, "_insert", die)
    elif at == "commit":
        monkeypatch.setattr("django.db.transaction.Atomic.__exit__", died_before_commit)
    else:
        monkeypatch.setattr(source, "remove", die)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    monkeypatch.undo()
    source.close()

    assert Job.objects.count() == (2 if at == "remove" else 0)
    assert ours(redis)
    status, out, _err = run(capsys, library)
    assert status == 0
    assert ("2 had been imported before" in out) == (at == "remove")
    assert sorted(job.args for job in Job.objects.all()) == [["one"], ["two"]]
    assert not ours(redis)


def died_before_commit(atomic, kind, value, traceback):
    """Roll back at the end of the outermost block, as a server does for a client that is gone."""
    if connections["default"].savepoint_ids or not Job.objects.exists():
        return ATOMIC_EXIT(atomic, kind, value, traceback)
    transaction.set_rollback(True)
    ATOMIC_EXIT(atomic, kind, value, traceback)
    raise KeyboardInterrupt


def test_a_message_that_a_worker_takes_meanwhile_is_left_to_it(library, redis):
    library.send("one")
    library.send("two")
    source, _run = importing(library)
    first, second = source.read(10)
    list_of = first.raw.queue
    popped = redis.rpop(list_of) if library.name == "celery" else redis.lpop(list_of)

    assert popped is not None
    assert [one.args for one in source.take([first, second])] == [["two"]]
    source.close()


def test_two_runs_at_the_same_time_double_nothing(library):
    library.send("one")
    source, one_run = importing(library)
    other_source, other_run = importing(library)
    messages = other_source.read(10)  # both have read it

    assert one_run.run().imported.total() == 1
    assert other_source.take(messages) == []
    assert other_run.run().imported.total() == 0
    source.close()
    other_source.close()


def test_pickled_jobs_of_rq_are_never_loaded(made, capsys):
    rq = made(AsPickledRQ)
    rq.send("one")

    status, _out, err = run(capsys, rq)

    assert status == 7
    assert "it is pickled, which is never loaded: let RQ's workers run it" in err
    assert rq.queue.count == 1


def test_jobs_of_rq_that_others_wait_for_are_left(made, capsys):
    rq = made(AsRQ)
    first = rq.send("one")
    rq.send("two", depends_on=first)

    status, _out, err = run(capsys, rq)

    assert status == 7
    assert "1 message left: another job waits for it" in err
    assert "1 message not looked at: they wait for other jobs." in err


def test_a_name_of_an_rq_job_may_come_again(made, capsys):
    rq = made(AsRQ)
    for _time in range(2):
        rq.number = 0
        rq.send("one")
        assert run(capsys, rq)[0] == 0

    assert Job.objects.count() == 2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"serializer": "pickle"}, "its arguments are no JSON, which alone is loaded"),
        ({"compression": "zlib"}, "it is compressed"),
        ({"expires": 60}, "it has an expiry, which a job has not"),
        ({"link": "chain"}, "a chain, a chord or a callback waits for it"),
    ],
)
def test_messages_of_celery_that_are_more_than_a_call_are_left(options, why, made, capsys):
    celery = made(AsCelery)
    if "link" in options:
        options = {"link": celery.app.signature(HERE, ("two",))}
    celery.send("one", **options)

    status, _out, err = run(capsys, celery)

    assert status == 7
    assert why in err


def test_a_chain_of_celery_is_left(made, capsys):
    celery = made(AsCelery)
    steps = [celery.app.signature(HERE, (word,)) for word in ("one", "two")]
    chain(*steps, app=celery.app).apply_async()

    assert "a chain, a chord or a callback waits for it" in run(capsys, celery)[2]


def test_a_value_that_kombu_wraps_is_left(made, capsys):
    celery = made(AsCelery)
    celery.send(LATER)

    assert "a value that kombu wraps" in run(capsys, celery)[2]


def test_priorities_of_celery_are_read_in_their_order(made, capsys):
    celery = made(AsCelery)
    celery.send("low", priority=9)
    celery.send("high", priority=0)

    assert run(capsys, celery)[0] == 0

    assert [job.args for job in Job.objects.order_by("id")] == [["high"], ["low"]]


def test_what_a_dead_worker_of_celery_held_is_taken_if_asked_for(made, capsys):
    celery = made(AsCelery)
    celery.send("one", at=LATER)
    with Connection(URL, transport_options={"global_keyprefix": PREFIX}) as worker:
        assert worker.default_channel.basic_get("celery") is not None

        status, out, err = run(capsys, celery)
        assert status == 0
        assert "1 message not looked at: workers hold them" in err
        assert "0 messages" in out

        assert run(capsys, celery, "--held")[0] == 0

    assert Job.objects.get().run_after == LATER
    assert "0 messages" in run(capsys, celery, "--held")[1]


def test_what_a_dead_worker_of_dramatiq_held_is_taken_if_asked_for(made, capsys):
    library = made(AsDramatiq)
    library.send("one")
    consumer = library.broker.consume("default", timeout=1000)
    assert next(consumer) is not None

    assert "1 message not looked at: workers hold them" in run(capsys, library)[2]
    assert run(capsys, library, "--held")[0] == 0

    assert Job.objects.get().args == ["one"]


def test_a_pipeline_of_dramatiq_is_left(made, capsys):
    library = made(AsDramatiq)
    library.send("one", pipe_target={"actor_name": HERE})

    assert "a pipeline, a group or a callback waits for it" in run(capsys, library)[2]


def test_bytes_that_are_no_json_are_left(made, redis, capsys):
    library = made(AsDramatiq)
    library.send("one")
    (field,) = redis.hkeys(f"{PREFIX}:default.msgs")
    redis.hset(f"{PREFIX}:default.msgs", field, b"\x80\x04N.")
    celery = made(AsCelery)
    redis.lpush(f"{PREFIX}celery", json.dumps({"body": "", "headers": {}}))

    assert "it is no JSON as JSONEncoder writes it" in run(capsys, library)[2]
    assert "it is no message of Celery's protocol 2" in run(capsys, celery)[2]


def test_where_the_broker_is_has_to_be_said(monkeypatch, capsys):
    monkeypatch.delenv("AFTERCOMMIT_IMPORT_URL", raising=False)
    with pytest.raises(CommandError, match="none is named"):
        call_command("aftercommit", "import", "rq")
    monkeypatch.setenv("AFTERCOMMIT_IMPORT_URL", "redis://:secret@127.0.0.1:1/0")
    with pytest.raises(CommandError) as error:
        call_command("aftercommit", "import", "rq")
    assert "cannot be read" in str(error.value)
    assert "secret" not in str(error.value)
    monkeypatch.setenv("AFTERCOMMIT_IMPORT_URL", URL)
    with pytest.raises(CommandError, match="takes neither --held nor --prefix"):
        call_command("aftercommit", "import", "rq", held=True)
