"""Two of the stories: a mail after signing up, by Celery, and a length, by RQ.

The functions that send are as they were told; each task notes whether it has found its row.
"""

import django
from django.apps import apps

if not apps.ready:
    django.setup()

import redis
from celery import Celery
from django.contrib.auth.models import User
from rq import Queue

from aftercommit.ids import new_job_id
from tests.app.models import Effect
from tests.brokers.addresses import broker_url, queue_name

SEEN = queue_name("seen")
client = redis.Redis.from_url(broker_url("redis"))
app = Celery("stories", broker=broker_url("redis"))
app.conf.update(
    task_default_queue=queue_name("stories"),
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
queue = Queue(queue_name("lengths"), connection=client)


def note(story, pk, found):
    """Say that a task has looked for its row."""
    client.rpush(SEEN, f"{story} {pk} {'found' if found else 'missing'}")


@app.task(name="stories.task_send_welcome_email")
def task_send_welcome_email(user_pk):
    """Send a mail to a user."""
    note("mail", user_pk, User.objects.filter(pk=user_pk).exists())


def get_url_length(task_id):
    """Measure a page."""
    note("length", task_id, Effect.objects.filter(pk=task_id).exists())


@app.task(name="stories.now", aftercommit="never")
def celery_now():
    """Say that the worker had time to begin."""
    note("mail", "now", True)


def rq_now():
    """Say that the worker had time to begin."""
    note("length", "now", True)


rq_now.aftercommit = "never"


def sign_up():
    """Create a user and send the mail."""
    user = User.objects.create_user(str(new_job_id()), "lennon@thebeatles.com", "johnpassword")
    task_send_welcome_email.delay(user.pk)
    return user.pk


def enter_address():
    """Store an address and measure it."""
    task = Effect.objects.create(key="https://example.org/")
    queue.enqueue(get_url_length, task.id)
    return task.pk


STORIES = {
    "mail": (sign_up, celery_now.delay),
    "length": (enter_address, lambda: queue.enqueue(rq_now)),
}
