"""A site with dashboard, admin and metrics, whose pages ``benchmarks.probes`` reads."""

import os

from psycopg.conninfo import conninfo_to_dict

from tests.databases import django_databases

SECRET_KEY = "nothing to hide"
USE_TZ = True
ALLOWED_HOSTS = ["testserver"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
ROOT_URLCONF = "benchmarks.site_urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "aftercommit",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
TASKS = {"default": {"BACKEND": "aftercommit.DatabaseBackend", "QUEUES": []}}

_kind, _where = os.environ["BENCH_DATABASE"], os.environ["BENCH_DSN"]
if _kind == "postgres":
    _server = conninfo_to_dict(_where)
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            **{"HOST": _server["host"], "PORT": _server["port"]},
            **{"USER": _server["user"], "NAME": _server["dbname"]},
        }
    }
else:
    DATABASES = {"default": django_databases(_kind, _where)["default"]}
if _kind in {"mariadb", "mysql"}:
    import pymysql

    pymysql.install_as_MySQLdb()
