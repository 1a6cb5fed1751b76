"""The Django project that the Django queues are measured in."""

import os

from psycopg.conninfo import conninfo_to_dict

from tests.databases import django_databases

SECRET_KEY = "nothing to hide"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["aftercommit", "django_tasks_db", "dj_queue", "benchmarks"]
# What one workload wants: other versions of this project do not know each option.
_modules = os.environ.get("BENCH_MODULES", "").split()
_keep = os.environ.get("BENCH_KEEP")
TASKS = {
    "default": {
        "BACKEND": "aftercommit.DatabaseBackend",
        "QUEUES": [],
        "OPTIONS": {
            "task_modules": ["benchmarks.tasks", *_modules],
            **({"keep_result": _keep} if _keep else {}),
        },
    },
    "alone": {
        "BACKEND": "aftercommit.DatabaseBackend",
        "OPTIONS": {"task_modules": ["benchmarks.tasks"], "fuse": False},
    },
    "tasks_db": {"BACKEND": "django_tasks_db.DatabaseBackend", "QUEUES": []},
    "dj_queue": {"BACKEND": "dj_queue.backend.DjQueueBackend", "QUEUES": []},
}

_kind = os.environ["BENCH_DATABASE"]
if _kind == "postgres":
    _server = conninfo_to_dict(os.environ["BENCH_DSN"])
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": _server["host"],
            "PORT": _server["port"],
            "USER": _server["user"],
            "NAME": _server["dbname"],
        }
    }
else:
    DATABASES = {"default": django_databases(_kind, os.environ["BENCH_DSN"])["default"]}
if _kind in {"mariadb", "mysql"}:
    import pymysql

    pymysql.install_as_MySQLdb()
