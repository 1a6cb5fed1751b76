"""The settings with which the docstrings of the package are read."""

SECRET_KEY = "docs"  # noqa: S105 - signs nothing
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "aftercommit",
]
TASKS = {"default": {"BACKEND": "aftercommit.DatabaseBackend"}}
