"""The first room in a real browser: type an address, see its length arrive."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

try:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait
except ImportError:
    webdriver = None

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
SECONDS = 20


def found(names: tuple[str, ...]) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


def missing(what: str) -> None:
    """Fail where a browser is required; elsewhere skip, and say so."""
    message = f"{what} is not installed, so no browser was driven"
    if os.environ.get("CI_REQUIRE_BROWSER"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture
def browser(tmp_path) -> Iterator[Any]:
    if webdriver is None:
        missing("selenium")
    binary, driver = found(BROWSERS), found(("chromedriver",))
    if not binary or not driver:
        missing(f"{' or '.join(BROWSERS)} with chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=driver)
    with webdriver.Chrome(options=options, service=service) as browser:
        yield browser


@pytest.fixture
def wait(browser):
    return WebDriverWait(browser, SECONDS, poll_frequency=0.1)


def first_row(browser: Any) -> str:
    return browser.execute_script(
        "return document.querySelector('[data-rows=pages] tr')?.innerText ?? ''"
    )


def test_a_length_arrives_without_a_reload(demo, browser, wait):
    url = f"{demo.origin}/examples/slow/?seconds=3&browser"
    browser.get(f"{demo.origin}/lengths/")
    browser.find_element(By.NAME, "url").send_keys(url)
    browser.find_element(By.CSS_SELECTOR, ".panel button").click()
    wait.until(lambda _: url in first_row(browser))
    browser.execute_script("window.notReloaded = true")
    assert "bytes" not in first_row(browser)

    wait.until(lambda _: "12,500 bytes" in first_row(browser))

    assert "done" in first_row(browser)
    assert browser.execute_script("return window.notReloaded") is True


def test_a_row_that_somebody_else_adds_appears_too(demo, browser, wait, visitor):
    browser.get(f"{demo.origin}/lengths/")
    url = f"{demo.origin}/examples/page/?somebody-else"

    visitor.measure(url)

    wait.until(lambda _: url in first_row(browser) and "done" in first_row(browser))


@pytest.mark.parametrize("room", ["", "lengths/", "signup/", "shop/", "admin/"])
def test_the_browser_has_nothing_to_complain_of(demo, browser, room):
    browser.get(f"{demo.origin}/{room}")

    assert browser.get_log("browser") == []
