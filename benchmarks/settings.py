"""The Django project that the Django queues are measured in."""

import os

from psycopg.conninfo import conninfo_to_dict

_server = conninfo_to_dict(os.environ["BENCH_DSN"])

SECRET_KEY = "nothing to hide"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _server["host"],
        "PORT": _server["port"],
        "USER": _server["user"],
        "NAME": _server["dbname"],
    }
}
INSTALLED_APPS = ["aftercommit", "django_tasks_db", "benchmarks"]
TASKS = {
    "default": {
        "BACKEND": "aftercommit.DatabaseBackend",
        "OPTIONS": {"task_modules": ["benchmarks.tasks"]},
    },
    "tasks_db": {"BACKEND": "django_tasks_db.DatabaseBackend"},
}
