"""A real browser for tests, where one is installed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

try:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.expected_conditions import staleness_of
    from selenium.webdriver.support.wait import WebDriverWait
except ImportError:
    webdriver = By = WebDriverWait = staleness_of = None

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# --no-sandbox: in a container the tests are root; the others: no calls to the internet.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
__all__ = ["By", "WebDriverWait", "open_browser", "staleness_of"]


@contextmanager
def open_browser(place: Path) -> Iterator[Any]:
    """Yield a browser with a profile of its own; skip, or fail, where there is none."""
    if webdriver is None:
        _missing("selenium")
    binary, driver = _found(BROWSERS), _found(("chromedriver",))
    if not binary or not driver:
        _missing(f"{' or '.join(BROWSERS)} with chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={place / 'profile'}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=driver)
    with webdriver.Chrome(options=options, service=service) as browser:
        yield browser


def _found(names: tuple[str, ...]) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


def _missing(what: str) -> None:
    """Fail where a browser is required; elsewhere skip, and say so."""
    message = f"{what} is not installed, so no browser was driven"
    if os.environ.get("CI_REQUIRE_BROWSER"):
        pytest.fail(message)
    pytest.skip(message)
