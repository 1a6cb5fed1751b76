"""What ``celery -A`` loads: Django first, as every project's celery.py does."""

import django

django.setup()

from tests.brokers.shop import app, rabbit  # noqa: E402

__all__ = ["app", "rabbit"]
