"""Settings of a site that relays for every library, for rows that somebody else has written."""

from tests.brokers.addresses import broker_url, queue_name
from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, TASKS

INSTALLED_APPS = [*INSTALLED_APPS, "django_q"]
Q_CLUSTER = {"name": queue_name("q"), "redis": broker_url("redis"), "log_level": "CRITICAL"}
RQ_QUEUES = {
    queue_name("rq"): {"URL": broker_url("redis")},
    queue_name("sync"): {"URL": broker_url("redis"), "ASYNC": False},
}
TASKS["mail"] = {"BACKEND": "tests.brokers.elsewhere.RedisBackend"}
TASKS["default"]["OPTIONS"]["relay"] = {
    "celery": {},
    "django_q": {},
    "dramatiq": {},
    "huey": {"instance": "tests.brokers.yard.huey"},
    "rq": {},
    "tasks": {"backends": ["mail"]},
}
