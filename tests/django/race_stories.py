"""The five stories, each naive, with on_commit(), through the relay, and with our queue.

What they tell happened to people: a row that is completed by a task, a mail after signing up, an
edit whose dependent rows kept the old value, a function that is scheduled, a length by RQ.
"""

from contextlib import contextmanager
from functools import partial

import dramatiq
import redis
from celery import Celery
from django.contrib.auth.models import User
from django.core import mail
from django.db import connection, transaction
from django.db.models import F
from dramatiq.brokers.stub import StubBroker
from huey import MemoryHuey
from rq import Queue

import aftercommit
from aftercommit import once, task
from tests.app.models import Account, Effect

URL = "redis://127.0.0.1:9/0"  # nothing answers there, and nobody asks
app = Celery("race_stories", broker="memory://", set_as_current=False)
queue = Queue("race_stories", connection=redis.Redis.from_url(URL))
RELAY = {"celery": {"apps": ["tests.django.race_stories.app"]}, "rq": {"url": URL}}


# What the tasks do.


def complete(pk):
    row = Effect.objects.get(pk=pk)
    row.value = "completed"
    row.save()


def welcome(pk):
    user = User.objects.get(pk=pk)
    mail.outbox.append(mail.EmailMessage("Welcome", "…", "us@example.org", [user.email]))


def update_others(pk):
    balance = Account.objects.get(pk=pk).balance
    Effect.objects.filter(key=f"account {pk}").update(value=balance)


def charge(pk):
    user = User.objects.get(pk=pk)
    Effect.objects.update_or_create(key=f"charged {user.username}")


def get_url_length(pk):
    row = Effect.objects.get(pk=pk)
    row.value = len(row.key)
    row.save()


# What people wrote: ``send`` is how the task is dispatched.


def create_row(send):
    with transaction.atomic():
        send(Effect.objects.create(key="row").pk)


def sign_up(send):
    with transaction.atomic():
        send(User.objects.create_user("john", "john@example.org", "secret").pk)


def edit(send):
    account = Account.objects.get()
    with transaction.atomic():  # the admin opens it
        account.balance = 20
        account.save()
        send(account.pk)


def order(send):
    with transaction.atomic():
        user = User.objects.create_user("yoko")
        send(user.pk)
        user.last_name = "Ono"
        user.save()


def enter_address(send):
    with transaction.atomic():
        send(Effect.objects.create(key="https://example.org/").pk)


STORIES = {
    "create": (create_row, complete),
    "mail": (sign_up, welcome),
    "admin": (edit, update_others),
    "function": (order, charge),
    "length": (enter_address, get_url_length),
}
BY_RQ = {"length"}
ONCE = {name: once(name=name)(work) for name, (_view, work) in STORIES.items()}
CELERY = {
    name: app.task(name=f"race_stories.{name}")(work) for name, (_view, work) in STORIES.items()
}
CELERY_ONCE = {
    name: app.task(name=f"race_stories.{name}_once")(work) for name, work in ONCE.items()
}
OURS = {
    name: task(name=f"race_stories.own.{name}", atomic=True)(work)
    for name, (_view, work) in STORIES.items()
}


def naive(name):
    if name in BY_RQ:
        return partial(queue.enqueue, STORIES[name][1])
    return CELERY[name].delay


def on_commit(name):
    send = naive(name)
    return lambda pk: transaction.on_commit(partial(send, pk))


def relayed(name):
    if name in BY_RQ:
        return partial(queue.enqueue, ONCE[name])
    return CELERY_ONCE[name].delay


def own(name):
    if name == "function":
        path = f"{__name__}.charge"
        return lambda pk: aftercommit.schedule(path, args=(pk,))
    return OURS[name].enqueue


# Other tasks.


@app.task(name="race_stories.read_replica")
def read_replica(pk):
    Effect.objects.using("other").get(pk=pk)


@app.task(name="race_stories.add_one")
def add_one(pk):
    Account.objects.filter(pk=pk).update(balance=F("balance") + 1)


LOCKS = {  # of a session: what takes and gives them
    "postgresql": ("SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"),
    "mysql": ("SELECT GET_LOCK('seven', 100)", "SELECT RELEASE_LOCK('seven')"),
}


@contextmanager
def session_lock():
    """Hold a lock that the end of the session ends, whatever becomes of transactions."""
    take, give = LOCKS[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(take)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(give)


@app.task(name="race_stories.add_one_alone")
def add_one_alone(pk):
    with session_lock():
        add_one(pk)


@app.task(name="race_stories.nothing")
def nothing(pk):
    Effect.objects.get(pk=pk)


@app.task(name="race_stories.insert")
def insert(key):
    Effect.objects.create(key=key)


@app.task(name="race_stories.sends_another")
def sends_another(key):
    insert.delay(key)


@app.task(name="race_stories.enqueues_another")
def enqueues_another(pk):
    OURS["create"].enqueue(pk)


# Other libraries.

stub = StubBroker()
huey = MemoryHuey("race_stories", immediate=False)


@dramatiq.actor(broker=stub, actor_name="race_stories_actor")
def actor(pk):
    complete(pk)


@huey.task(name="race_stories_huey")
def by_huey(pk):
    complete(pk)
