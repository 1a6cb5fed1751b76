"""Each library's ways to hand work to a broker are known, and what they are not is not found."""

# ruff: noqa: E501

import pytest

from aftercommit.lint.configuration import Configuration
from aftercommit.race_rules import Severity
from tests.lint.projects import findings, write

HEAD = "from django.db import transaction\n"
SENDS = {
    "celery delay": ("from shop.tasks import celery_task as t", "t.delay(order.pk)"),
    "celery apply_async": ("from shop.tasks import celery_task as t", "t.apply_async([order.pk])"),
    "celery module": ("from shop import tasks", "tasks.celery_task.delay(order.pk)"),
    "celery app.task": ("from shop.tasks import app_task as t", "t.delay(order.pk)"),
    "celery custom base": ("from shop.tasks import Own", "Own().delay(order.pk)"),
    "celery signature": ("from shop.tasks import celery_task as t", "t.s(order.pk).delay()"),
    "celery set": ("from shop.tasks import celery_task as t", "t.s(order.pk).set(priority=1).apply_async()"),
    "celery si": ("from shop.tasks import celery_task as t", "t.si(order.pk).apply_async()"),
    "celery chain": ("from celery import chain\nfrom shop.tasks import celery_task as t", "chain(t.s(order.pk), t.s()).apply_async()"),
    "celery chain called": ("from celery import chain\nfrom shop.tasks import celery_task as t", "chain(t.s(order.pk), t.s())()"),
    "celery chain of |": ("from shop.tasks import celery_task as t", "(t.s(order.pk) | t.s()).apply_async()"),
    "celery chain of | called": ("from shop.tasks import celery_task as t", "(t.s(order.pk) | t.s())()"),
    "celery chain in a variable": ("from celery import chain\nfrom shop.tasks import celery_task as t", "c = chain(t.s(order.pk), t.s())\n        c.apply_async()"),
    "celery signature in a variable": ("from shop.tasks import celery_task as t", "s = t.s(order.pk)\n        s.delay()"),
    "celery group": ("from celery import group\nfrom shop.tasks import celery_task as t", "group(t.s(order.pk)).delay()"),
    "celery chord": ("from celery import chord\nfrom shop.tasks import celery_task as t", "chord([t.s(order.pk)])(t.s())"),
    "celery chunks": ("from shop.tasks import celery_task as t", "t.chunks([order.pk], 2).apply_async()"),
    "celery send_task": ("from celery import current_app", "current_app.send_task('x', [order.pk])"),
    "celery app.send_task": ("from shop.tasks import app", "app.send_task('x', [order.pk])"),
    "celery signature by name": ("from celery import signature", "signature('x', [order.pk]).delay()"),
    "celery imported in the function": ("", "from shop.tasks import celery_task\n        celery_task.delay(order.pk)"),
    "django_rq.enqueue": ("import django_rq", "django_rq.enqueue(print, order.pk)"),
    "django_rq.get_queue": ("import django_rq", "django_rq.get_queue('low').enqueue(print, order.pk)"),
    "rq queue": ("from rq import Queue", "queue = Queue()\n        queue.enqueue_in(5, print, order.pk)"),
    "rq job": ("from shop.tasks import rq_task", "rq_task.delay(order.pk)"),
    "rq scheduler": ("import django_rq", "django_rq.get_scheduler('x').enqueue_at(5, print, order.pk)"),
    "dramatiq send": ("from shop.tasks import actor", "actor.send(order.pk)"),
    "dramatiq options": ("from shop.tasks import actor", "actor.send_with_options(args=(order.pk,))"),
    "dramatiq pipeline": ("import dramatiq\nfrom shop.tasks import actor", "dramatiq.pipeline([actor.message(order.pk)]).run()"),
    "huey call": ("from shop.tasks import huey_task", "huey_task(order.pk)"),
    "huey schedule": ("from shop.tasks import huey_task", "huey_task.schedule((order.pk,), delay=90)"),
    "django-q2": ("from django_q.tasks import async_task", "async_task('shop.f', order.pk)"),
    "django-q2 schedule": ("from django_q.tasks import schedule", "schedule('shop.f', order.pk)"),
    "procrastinate": ("from shop.tasks import procrastinated", "procrastinated.defer(pk=order.pk)"),
    "procrastinate options": ("from shop.tasks import procrastinated", "procrastinated.configure(queue='x').defer(pk=order.pk)"),
    "django.tasks": ("from shop.tasks import django_task", "django_task.enqueue(order.pk)"),
    "django.tasks using": ("from shop.tasks import django_task", "django_task.using(priority=3).enqueue(order.pk)"),
}  # fmt: skip
TASKS = """
from celery import Celery, Task, shared_task
from django_rq import job
from huey.contrib.djhuey import db_task, on_commit_task
from django.tasks import task
import dramatiq, procrastinate, aftercommit
from procrastinate.contrib.django import app as in_django

app = Celery()
queue = procrastinate.App(connector=None)

@shared_task
def celery_task(pk): ...
@app.task(bind=True)
def app_task(self, pk): ...
class Own(Task): ...
@job("default")
def rq_task(pk): ...
@dramatiq.actor
def actor(pk): ...
@db_task()
def huey_task(pk): ...
@on_commit_task()
def huey_after_commit(pk): ...
@queue.task
def procrastinated(pk): ...
@in_django.task
def same_database(pk): ...
@task
def django_task(pk): ...
@aftercommit.task
def own_task(pk): ...
"""
DOES_NOT_SEND = {
    "a method of the project": ("class Pause:\n    def delay(self, x): ...", "Pause().delay(order.pk)"),
    "huey on commit": ("from shop.tasks import huey_after_commit as t", "t(order.pk)"),
    "huey here and now": ("from shop.tasks import huey_task as t", "t.call_local(order.pk)"),
    "procrastinate in Django's database": ("from shop.tasks import same_database as t", "t.defer(pk=order.pk)"),
    "aftercommit": ("from shop.tasks import own_task as t", "t.enqueue(order.pk)"),
    "a signature": ("from shop.tasks import celery_task as t", "t.s(order.pk)"),
    "a call of the task itself": ("from shop.tasks import celery_task as t", "t(order.pk)"),
    "a signal": ("from django.dispatch import Signal\nsignal = Signal()", "signal.send(sender=order)"),
    "a generator": ("", "order.lines.send(None)"),
    "queryset.defer": ("", "order.lines.defer('text')"),
}  # fmt: skip


def project(head: str, body: str) -> dict[str, str]:
    code = (
        f"{HEAD}{head}\n\ndef f(order):\n    with transaction.atomic():\n        order.save()\n"
    )
    return {"shop/tasks.py": TASKS, "shop/code.py": f"{code}        {body}\n"}


@pytest.mark.parametrize("name", SENDS)
def test_a_dispatch_is_known(name, tmp_path):
    files = {**project(*SENDS[name]), "requirements.txt": "django-rq==3.2.0\n"}
    found = findings(tmp_path, files)

    assert [(one.rule, one.severity) for one in found] == [("AC101", Severity.ERROR)]


@pytest.mark.parametrize("name", DOES_NOT_SEND)
def test_what_sends_nothing_is_left_alone(name, tmp_path):
    assert findings(tmp_path, project(*DOES_NOT_SEND[name])) == ()


@pytest.mark.parametrize(
    ("settings", "head", "body"),
    [
        (
            'TASKS = {"default": {"BACKEND": "aftercommit.DatabaseBackend"}}',
            "from shop.tasks import django_task as t",
            "t.enqueue(order.pk)",
        ),
        (
            'Q_CLUSTER = {"orm": "default"}',
            "from django_q.tasks import async_task",
            "async_task('shop.f', order.pk)",
        ),
    ],
)
def test_a_row_of_the_same_transaction_is_no_dispatch(settings, head, body, tmp_path):
    files = project(head, body)

    assert findings(tmp_path / "with", files | {"settings.py": settings}) == ()
    assert findings(tmp_path / "without", files)


def test_names_that_the_project_declares_are_dispatches_and_transactions(tmp_path):
    files = {
        "shop/queue.py": "def publish(what): ...\n",
        "shop/db.py": "from lib import session\n",
        "shop/code.py": """
            from shop.db import session
            from shop.queue import publish
            def f(order):
                with session.begin():
                    order.save()
                    publish(order.pk)
        """,
    }
    configuration = Configuration(
        dispatchers=("shop.queue.publish",), transactions=("lib.session.begin",)
    )

    found = findings(tmp_path, files, configuration)

    assert [one.rule for one in found] == ["AC101"]


@pytest.mark.parametrize(
    ("head", "body", "subject"),
    [
        ("from shop.tasks import rq_task as t", "t.delay(order.pk)", "t.delay()"),
        ("import django_rq", "django_rq.enqueue(f, order.pk)", "f (django_rq.enqueue())"),
    ],
)
def test_what_is_sent_is_named_as_the_reader_knows_it(head, body, subject, tmp_path):
    assert [one.subject for one in findings(tmp_path, project(head, body))] == [subject]


RQ_SETTINGS = 'DATABASES = {"default": {"ENGINE": "x"}}\nRQ_QUEUES = {"default": {}}\n'
OF_DJANGO_RQ = [
    ("import django_rq", "django_rq.enqueue(print, order.pk)"),
    ("from django_rq import get_queue", "get_queue('low').enqueue(print, order.pk)"),
    ("import django_rq", "queue = django_rq.get_queue()\n        queue.enqueue(print, order.pk)"),
    ("from shop.tasks import rq_task", "rq_task.delay(order.pk)"),
]
BY_SETTINGS = {
    'RQ = {"COMMIT_MODE": "on_db_commit"}': [],
    'RQ = {"COMMIT_MODE": "auto"}': ["error"],
    'RQ = {"AUTOCOMMIT": True}': ["error"],
    'RQ = {"COMMIT_MODE": "request_finished"}': ["warning"],
    'RQ = {"AUTOCOMMIT": False}': ["warning"],
    'RQ = {"COMMIT_MODE": env("MODE")}': ["warning"],
    'RQ = {"SHOW_ADMIN_LINK": True}': ["warning"],
    "": ["warning"],
}
BY_VERSION = {
    ("requirements.txt", "Django\ndjango-rq==4.2.0\n"): [],
    ("requirements.txt", "django_rq[sentry] >= 4.0, < 5\n"): [],
    ("requirements/base.txt", "django-rq==3.2.0\nredis==5.0\n"): ["error"],
    ("requirements.txt", "django-rq>=3,<4\n"): ["error"],
    ("requirements.txt", "django-rq>=2.8\n"): ["warning"],
    ("requirements.txt", "django-rq\n# django-rq==4.0\nredis==5.0\n"): ["warning"],
    ("requirements.txt", "not-django-rq==3.0\ndjango-rq-scheduler==3.0\n"): ["warning"],
    ("pyproject.toml", '[project]\ndependencies = ["django-rq~=3.1", "redis>=5"]\n'): ["error"],
    ("pyproject.toml", '[tool.poetry.dependencies]\ndjango-rq = "^4.0"\n'): [],
    ("pyproject.toml", 'django-rq = {extras = ["x"], version = "^3.0"}\n'): ["error"],
    ("uv.lock", '[[package]]\nname = "django-rq"\nversion = "4.1"\n'): [],
    ("Pipfile.lock", '{"django-rq": {"index": "pypi", "version": "==3.1"}}'): ["error"],
}  # fmt: skip


def rq_severities(folder, head, body, settings, **files):
    every = {**project(head, body), "config/settings.py": RQ_SETTINGS + settings, **files}
    return [str(one.severity) for one in findings(folder, every)]


@pytest.mark.parametrize("settings", BY_SETTINGS)
def test_queues_of_django_rq_wait_as_their_settings_say(settings, tmp_path):
    for number, (head, body) in enumerate(OF_DJANGO_RQ):
        found = rq_severities(tmp_path / str(number), head, body, settings)

        assert found == BY_SETTINGS[settings], body


@pytest.mark.parametrize("where", BY_VERSION)
def test_without_a_setting_the_version_of_django_rq_says_whether_they_wait(where, tmp_path):
    name, content = where
    found = rq_severities(tmp_path, *OF_DJANGO_RQ[0], "", **{name: content})

    assert found == BY_VERSION[where]


def test_a_lock_says_more_than_a_range_and_may_stand_above(tmp_path):
    write(tmp_path, {"uv.lock": 'name = "django-rq"\nversion = "3.1"\n'})
    write(tmp_path, {"pyproject.toml": 'dependencies = ["django-rq>=4"]\n'})

    assert rq_severities(tmp_path, *OF_DJANGO_RQ[0], "") == ["error"]


@pytest.mark.parametrize(
    ("head", "body", "severities"),
    [
        ("import django_rq", "django_rq.get_queue('x', commit_mode='auto').enqueue(f, order.pk)", ["error"]),
        ("import django_rq", "q = django_rq.get_queue(autocommit=True)\n        q.enqueue(f, order.pk)", ["error"]),
        ("import django_rq", "django_rq.get_queue('x').enqueue_in(5, f, order.pk)", ["error"]),
        ("import django_rq", "django_rq.get_scheduler('x').enqueue_at(5, f, order.pk)", ["error"]),
        ("from rq import Queue", "queue = Queue()\n        queue.enqueue(f, order.pk)", ["error"]),
        ("", "order.queue.enqueue(f, order.pk)", ["warning"]),
    ],
)  # fmt: skip
def test_what_django_rq_does_not_let_wait_is_found(head, body, severities, tmp_path):
    found = rq_severities(tmp_path, head, body, 'RQ = {"COMMIT_MODE": "on_db_commit"}')

    assert found == severities


def test_a_queue_may_wait_where_the_settings_do_not(tmp_path):
    body = "django_rq.get_queue('x', commit_mode='on_db_commit').enqueue(f, order.pk)"
    settings = 'RQ = {"COMMIT_MODE": "auto"}'

    assert rq_severities(tmp_path, "import django_rq", body, settings) == []


def test_a_warning_of_django_rq_names_what_decides_and_is_not_rewritten(tmp_path):
    files = {**project(*OF_DJANGO_RQ[0]), "config/settings.py": RQ_SETTINGS}
    (found,) = findings(tmp_path, files)

    assert 'RQ["COMMIT_MODE"]' in found.message
    assert found.using is None


def test_a_setting_in_a_module_without_databases_counts(tmp_path):
    files = {
        "config/settings.py": RQ_SETTINGS,
        "config/production.py": 'from .settings import *\nRQ = {"COMMIT_MODE": "on_db_commit"}\n',
    }
    assert findings(tmp_path, {**project(*OF_DJANGO_RQ[0]), **files}) == ()
