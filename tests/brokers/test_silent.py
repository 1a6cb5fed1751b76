"""A broker that is silent, or sends a byte now and then, leaves threads to other jobs."""

import socket
import threading
from contextlib import contextmanager, suppress
from datetime import timedelta

import pytest
import redis as redis_client
from celery import Celery
from django.db import transaction

from aftercommit.enqueue.outcomes import Snooze
from aftercommit.errors import TimedOut
from aftercommit.models import Job
from aftercommit.options.queues import queues_of
from aftercommit.options.worker import RELAY_TOO, WorkerConfig
from aftercommit.relay import publish as relay
from aftercommit.relay.brokers import broker_for
from aftercommit.relay.brokers.base import Away
from aftercommit.relay.brokers.servers import bounded
from aftercommit.worker.claiming import broker_backoff, broker_share
from aftercommit.worker.quota import RunQuota
from aftercommit.worker.worker import Worker
from tests.app.tasks import add
from tests.brokers.addresses import queue_name
from tests.brokers.conftest import kept
from tests.waiting import wait_until

silent = Celery("silent", set_as_current=False)
silent.conf.update(task_default_queue=queue_name("silent"))
DRIP = 0.02  # seconds between two bytes


class Server:
    """Accepts connections, and answers with nothing or very slowly."""

    def __init__(self, *, drips):
        self._drips = drips
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.open = []
        self._over = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            self.open.append(connection)
            if self._drips:
                threading.Thread(target=self._drip, args=[connection], daemon=True).start()

    def _drip(self, connection):
        try:
            connection.sendall(b"+")
            while not self._over.wait(DRIP):
                connection.sendall(b"x")  # of an answer that has no end
        except OSError:
            return

    def close(self):
        self._over.set()
        with suppress(OSError):  # closed already
            self._listener.shutdown(socket.SHUT_RDWR)  # else accept() goes on
        self._listener.close()
        for one in self.open:
            one.close()


@contextmanager
def server(*, drips):
    found = Server(drips=drips)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(autouse=True)
def undivided():
    """Forget what a worker of a test has said of its threads."""
    yield
    broker_share.divide(threads=broker_share.UNLIMITED, among_others=False)
    broker_for("celery").close()


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "drips"])
def test_ordinary_jobs_run_while_the_broker_does_not_answer(drips, relayed, monkeypatch):
    relayed("celery")
    with server(drips=drips) as broker:
        silent.conf.broker_url = f"redis://127.0.0.1:{broker.port}/0"
        with transaction.atomic():
            for number in range(30):
                silent.send_task("any", [number])
        config = WorkerConfig(backends=("default",), relay=RELAY_TOO, threads=2)
        worker = Worker(config, quota=RunQuota(None))
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            wait_until(lambda: broker_share._began["relay.celery"])
            for number in range(40):
                add.enqueue(number, 1)
            wait_until(lambda: Job.objects.filter(state="succeeded").count() == 40)
            under_way = len(broker_share._began["relay.celery"])
        finally:
            worker.stop()
            broker.close()
            thread.join(30)

    assert under_way == 1  # it waited all the time
    assert broker.open
    assert Job.objects.filter(queue="relay.celery", attempts=0, state="ready").count() == 30


def test_a_call_to_a_broker_that_drips_ends_at_its_deadline(relayed, monkeypatch):
    relayed("celery")
    monkeypatch.setattr(relay, "DEADLINE", timedelta(milliseconds=300))
    relayed("celery")
    with server(drips=True) as broker:
        silent.conf.broker_url = f"redis://127.0.0.1:{broker.port}/0"
        with transaction.atomic():
            silent.send_task("any", ["a"])
        config = WorkerConfig(backends=("default",), relay=RELAY_TOO, threads=1)
        worker = Worker(config, quota=RunQuota(None))
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            wait_until(lambda: broker_backoff.is_backing_off("relay.celery"))
            add.enqueue(1, 2)
            wait_until(lambda: Job.objects.filter(state="succeeded").exists())
        finally:
            worker.stop()
            thread.join(30)

    assert broker.open
    (job,) = kept()
    assert (job.attempts, job.error_list) == (0, [])


def test_a_call_beside_one_that_does_not_end_waits(relayed, monkeypatch):
    relayed("celery")
    entered, over = threading.Event(), threading.Event()

    def never_ends(_contents, _report):
        entered.set()
        over.wait(30)
        raise Away

    monkeypatch.setattr(broker_for("celery"), "publish_many", never_ends)
    broker_share.divide(threads=2, among_others=True)
    call = {"broker": "celery", "message_id": "m", "content": {}}
    thread = threading.Thread(target=relay.publish_many, args=[[call], lambda *_: None])
    thread.start()
    try:
        assert entered.wait(30)
        assert all(broker_share.is_used_up(queue) for queue in queues_of("celery"))
        assert not broker_share.is_used_up("relay.rq")
        ends = []
        relay.publish_many([call], lambda _number, error, value=None: ends.append(error))
    finally:
        over.set()
        thread.join(30)
    assert isinstance(ends[0], Snooze)
    assert not broker_share.is_used_up("relay.celery")


@pytest.mark.parametrize(
    ("threads", "among_others", "most"), [(1, True, 1), (4, True, 2), (5, True, 2), (4, False, 4)]
)
def test_the_share_of_threads(threads, among_others, most, monkeypatch):
    broker_share.divide(threads=threads, among_others=among_others)
    calls = [broker_share.call_to(("relay.x",)) for _number in range(most + 1)]
    assert [one.__enter__() for one in calls] == [True] * most + [False]
    for one in calls:
        one.__exit__(None, None, None)
    assert not broker_share.is_used_up("relay.x")


def test_no_call_begins_beside_one_that_has_stalled(monkeypatch):
    with broker_share.call_to(("relay.x",)) as first:
        monkeypatch.setattr(broker_share, "STALLED", timedelta(0))
        with broker_share.call_to(("relay.x",)) as second:
            assert (first, second) == (True, False)


def test_a_wait_for_a_silent_broker_is_followed_by_a_pause_that_is_as_long(relayed):
    relayed("celery")
    spans = [
        relay._note_away("celery", TimedOut(), timedelta(seconds=waited)) for waited in (0, 30)
    ]
    assert spans[0] < timedelta(seconds=1)
    assert spans[1] == timedelta(seconds=30)


def test_a_client_without_a_limit_gets_one_of_its_own():
    with server(drips=False) as broker:
        without = redis_client.Redis(host="127.0.0.1", port=broker.port, socket_timeout=None)
        limited = bounded(without)
        assert limited is not without
        assert limited.connection_pool.make_connection().socket_timeout == 30
        assert without.connection_pool.make_connection().socket_timeout is None

        own = redis_client.Redis(host="127.0.0.1", port=broker.port, socket_timeout=2)
        assert bounded(own) is own
