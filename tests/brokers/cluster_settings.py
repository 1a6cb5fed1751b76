"""Settings of a site with django-q2."""

from tests.brokers.addresses import broker_url, queue_name
from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, TASKS

INSTALLED_APPS = [*INSTALLED_APPS, "django_q"]
Q_CLUSTER = {"name": queue_name("q"), "redis": broker_url("redis"), "log_level": "ERROR"}
TASKS["default"]["OPTIONS"]["relay"] = ["django_q"]
