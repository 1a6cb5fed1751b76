"""The first room in a real browser: type an address, see its length arrive."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browsers import By, WebDriverWait, open_browser

SECONDS = 20


@pytest.fixture
def browser(tmp_path) -> Iterator[Any]:
    with open_browser(tmp_path) as browser:
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


def test_the_bar_of_an_import_moves_without_a_reload(demo, browser, wait):
    browser.get(f"{demo.origin}/office/")
    browser.find_element(By.CSS_SELECTOR, ".panel button").click()
    browser.execute_script("window.notReloaded = true")

    bar = "return document.querySelector('[data-rows=imports] progress')?.value ?? 0"
    wait.until(lambda _: 0 < browser.execute_script(bar) < 1)
    at_last = WebDriverWait(browser, 5 * SECONDS, poll_frequency=0.1)
    at_last.until(lambda _: browser.execute_script(bar) == 1)

    said = "return document.querySelector('[data-rows=imports] tr').innerText"
    wait.until(lambda _: "199 articles, 1 lines refused" in browser.execute_script(said))
    assert browser.execute_script("return window.notReloaded") is True


@pytest.mark.parametrize("room", ["", "lengths/", "signup/", "shop/", "office/", "admin/"])
def test_the_browser_has_nothing_to_complain_of(demo, browser, room):
    browser.get(f"{demo.origin}/{room}")

    assert browser.get_log("browser") == []
