"""A server with the dashboard, and a browser that has logged in."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.db import connections
from django.test import Client
from django.test.testcases import LiveServerThread

from tests.browsers import open_browser

LONGEST_SCRIPT = 120  # seconds; axe looks at each element of a page


@pytest.fixture
def origin(transactional_db: None, settings: Any) -> Iterator[str]:
    """Serve the site of the tests, with its static files; return where."""
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    in_memory = {
        alias: connections[alias]
        for alias in connections
        if connections[alias].vendor == "sqlite" and connections[alias].is_in_memory_db()
    }
    for connection in in_memory.values():
        connection.inc_thread_sharing()
    thread = LiveServerThread("127.0.0.1", StaticFilesHandler, connections_override=in_memory)
    thread.daemon = True
    thread.start()
    thread.is_ready.wait()
    if thread.error:
        raise thread.error
    yield f"http://127.0.0.1:{thread.port}"
    thread.terminate()
    for connection in in_memory.values():
        connection.dec_thread_sharing()


@pytest.fixture
def browser(tmp_path: Any) -> Iterator[Any]:
    """Open a browser."""
    with open_browser(tmp_path) as browser:
        browser.set_script_timeout(LONGEST_SCRIPT)
        yield browser


@pytest.fixture
def admin(origin: str, browser: Any) -> User:
    """Log a superuser in."""
    user = User.objects.create_superuser("ann")
    client = Client()
    client.force_login(user)
    browser.get(f"{origin}/static/aftercommit/dashboard.css")
    name = django_settings.SESSION_COOKIE_NAME
    browser.add_cookie({"name": name, "value": client.cookies[name].value, "path": "/"})
    return user
