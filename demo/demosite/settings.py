"""Settings of the demo. What is about aftercommit stands in the first block."""

import os
import secrets
from pathlib import Path

import django

BASE = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("DEMO_DATA", BASE / "data"))
PORT = int(os.environ.get("DEMO_PORT", "8000"))
ORIGIN = f"http://127.0.0.1:{PORT}"

INSTALLED_APPS = [
    "aftercommit",
    "lengths",
    "signup",
    "shop",
    "office",
    "demosite",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
]
if django.VERSION < (6, 0):
    INSTALLED_APPS.append("django_tasks")  # the backport of django.tasks
TASKS = {
    "default": {
        "BACKEND": "aftercommit.DatabaseBackend",
        "QUEUES": ["default", "mail", "together"],
    }
}
# "celery" or "rq": the rooms send to Redis as ever, and this makes it right.
QUEUE = os.environ.get("QUEUE", "aftercommit")
if QUEUE != "aftercommit":
    TASKS["default"]["OPTIONS"] = {"relay": [QUEUE]}

SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": DATA / "demo.sqlite3",
    "OPTIONS": {
        # Without IMMEDIATE, a transaction that reads before it writes is refused
        # with "database is locked" when another one wrote meanwhile.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL;",
    },
}
POSTGRES = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": os.environ.get("PGDATABASE", "aftercommit_demo"),
    "HOST": os.environ.get("PGHOST", "localhost"),
    "PORT": os.environ.get("PGPORT", "5432"),
    "USER": os.environ.get("PGUSER", "postgres"),
    "PASSWORD": os.environ.get("PGPASSWORD", ""),
}
DATABASES = {
    "default": {
        **{"sqlite": SQLITE, "postgres": POSTGRES}[os.environ.get("DB", "sqlite")],
        # As in the story: each request is one transaction.
        "ATOMIC_REQUESTS": True,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS = os.environ.get("DEMO_REDIS_URL", "redis://127.0.0.1:6379/0")
PREFIX = os.environ.get("DEMO_PREFIX", "aftercommit-demo")  # of this demo's queues in Redis
if QUEUE == "celery":
    import demosite.celery  # noqa: F401 - shared tasks are this app's

    CELERY_BROKER_URL = REDIS
    CELERY_TASK_DEFAULT_QUEUE = PREFIX
    CELERY_WORKER_HIJACK_ROOT_LOGGER = False
if QUEUE == "rq":
    INSTALLED_APPS.append("django_rq")
    RQ_QUEUES = {PREFIX: {"URL": REDIS}}

EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = DATA / "mail"
DEFAULT_FROM_EMAIL = "demo@aftercommit.example"

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "demosite.middleware.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
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
# The flash messages need no database, so no request of the demo writes by itself.
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
ROOT_URLCONF = "demosite.urls"
STATIC_URL = "static/"
TIME_ZONE = "UTC"
USE_TZ = True

# For this computer only: `run.py` listens on the loopback address and nowhere else.
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
SECRET_KEY = os.environ.get("DEMO_SECRET_KEY") or secrets.token_urlsafe(50)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {"httpx": {"level": "WARNING"}},  # else a line for each request
}
