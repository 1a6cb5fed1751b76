"""Settings of the tests; ``AFTERCOMMIT_DB`` names the database they run on."""

import os

import django

from tests.databases import django_databases, name_of_this_run
from tests.liveness import options_from

DATABASE_KIND = os.environ.setdefault("AFTERCOMMIT_DB", "sqlite")
DATABASES = django_databases(DATABASE_KIND, name_of_this_run())
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if DATABASE_KIND in {"mariadb", "mysql"}:
    import pymysql

    pymysql.install_as_MySQLdb()  # needs no compiler, unlike mysqlclient

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "aftercommit",
    "aftercommit.guard",
    "tests.app",
]
if django.VERSION < (6,):
    INSTALLED_APPS.append("django_tasks")  # the backport of django.tasks

AFTERCOMMIT_GUARD = {"mode": "off"}  # its own tests switch it on

# What tests of whole processes set in the environment of the workers they start.
LIVENESS = options_from(os.environ)

TASKS = {
    "default": {"BACKEND": "aftercommit.DatabaseBackend", "QUEUES": [], "OPTIONS": {**LIVENESS}},
    "other": {
        "BACKEND": "aftercommit.DatabaseBackend",
        "QUEUES": [],
        "OPTIONS": {**LIVENESS, "using": "other"},
    },
}

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
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
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SECRET_KEY = "only for tests"
TIME_ZONE = "UTC"
USE_TZ = True
