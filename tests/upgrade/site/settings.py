"""The settings of a project that is upgraded; the environment names its database."""

import json
import os
from datetime import timedelta

import django

DATABASES = {"default": json.loads(os.environ["SITE_DATABASE"])}
if DATABASES["default"]["ENGINE"].endswith("mysql"):
    import pymysql

    pymysql.install_as_MySQLdb()
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["aftercommit", "shop"]
if django.VERSION < (6, 0):
    INSTALLED_APPS.append("django_tasks")  # the backport of django.tasks
TASKS = {
    "default": {
        "BACKEND": "aftercommit.DatabaseBackend",
        "QUEUES": [],
        "OPTIONS": {
            "relay": {"huey": {"instance": "shop.messages.huey"}},
            "lease": timedelta(seconds=int(os.environ["SITE_LEASE"])),
            "heartbeat": timedelta(seconds=0.5),
        },
    }
}
SECRET_KEY = "only for tests"
USE_TZ = True
