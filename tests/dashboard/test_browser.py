"""The dashboard in a real browser: with and without its script, by eyes and without them."""

from contextlib import contextmanager
from importlib.resources import files

import pytest
from django.urls import reverse

from aftercommit.models import AuditRecord, Job
from tests.browsers import By, WebDriverWait, staleness_of
from tests.dashboard import shop
from tests.django.dashboard import add_job, url

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

SECONDS = 20
VIEWS = {  # width, height, colours
    "light": (1280, 900, "light"),
    "dark": (1280, 900, "dark"),
    "phone": (390, 844, "light"),
}
AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations", "incomplete"]}).then(
  (found) => done(found.violations.map((one) => [
    one.id, one.help, one.nodes.map((node) => node.html + " " + node.failureSummary),
  ])),
  (error) => done([["axe", String(error), []]]),
);
"""


@pytest.fixture
def wait(browser):
    return WebDriverWait(browser, SECONDS, poll_frequency=0.1)


def look(browser, view):
    """Let the browser be as wide, and as dark."""
    width, height, colours = VIEWS[view]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": colours}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


def press(browser, text, inside="main"):
    """Click on the button with a text; return it."""
    buttons = browser.find_elements(By.CSS_SELECTOR, f"{inside} button, {inside} a.button")
    button = next(one for one in buttons if one.text == text)
    button.click()
    return button


def press_and_leave(browser, wait, text):
    """Do that, and wait for the next page: a click need not wait for the answer to its form."""
    wait.until(staleness_of(press(browser, text)))
    wait.until(lambda _: browser.find_elements(By.TAG_NAME, "main"))


def text_of(browser):
    return browser.find_element(By.TAG_NAME, "main").text


def complaints(browser):
    """Return what is in the console."""
    return [one["message"] for one in browser.get_log("browser")]


@contextmanager
def no_script(browser):
    """Switch JavaScript off."""
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        yield
    finally:  # the browser is that of all tests
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def pages(made):
    yield from map(
        url,
        (
            *("overview", "jobs", "tasks", "queues", "schedules"),
            *("groups", "workers", "messages", "races", "audit"),
        ),
    )
    yield f"{url('jobs')}?state=failed&error=declined"
    yield f"{url('jobs')}?begin=nonsense"
    yield url("job", job_id=made.failed)
    yield url("job-copy", job_id=made.failed)
    yield url("graph", job_id=made.graph)
    yield url("group", group_id=made.group)
    yield url("schedule-new")
    yield f"{url('schedule-edit')}?name=refresh+prices"
    yield url("bulk", number=AuditRecord.objects.get(action="cancel").pk)


@pytest.mark.parametrize("view", VIEWS)
def test_axe_and_the_console_find_nothing_on_any_page(origin, browser, admin, view):
    axe = files("axe_selenium_python").joinpath("node_modules/axe-core/axe.min.js").read_text()
    look(browser, view)
    found = {}
    for page in pages(shop.fill()):
        browser.get(f"{origin}{page}")
        browser.execute_script(axe)
        wrong = browser.execute_async_script(AXE)
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        said = [one for one in complaints(browser) if "favicon.ico" not in one]  # of the login
        if wrong or said or wide > VIEWS[view][0]:
            found[page] = (wrong, said, wide)

    assert found == {}


ADMIN_LISTS = ("job", "group", "schedule")
TOO_WIDE = """
return [...document.querySelectorAll(".scroll, .results")]
  .filter((one) => one.scrollWidth > one.clientWidth && !one.querySelector("svg.graph"))
  .map((one) => one.textContent.trim().slice(0, 60));
"""


def test_no_list_scrolls_sideways_on_a_phone(origin, browser, admin):
    """But for the drawing of a graph."""
    look(browser, "phone")
    lists = [reverse(f"admin:aftercommit_{one}_changelist") for one in ADMIN_LISTS]
    found = {}
    for page in (*pages(shop.fill()), *lists):
        browser.get(f"{origin}{page}")
        if wide := browser.execute_script(TOO_WIDE):
            found[page] = wide

    assert found == {}


def test_axe_would_find_something(origin, browser, admin):
    axe = files("axe_selenium_python").joinpath("node_modules/axe-core/axe.min.js").read_text()
    browser.get(f"{origin}{url('jobs')}")
    browser.execute_script("document.querySelector('#f-queue').previousSibling.remove()")
    browser.execute_script(axe)

    assert [one[0] for one in browser.execute_async_script(AXE)] == ["label"]


def test_the_policy_stops_a_script_in_a_page(origin, browser, admin):
    browser.get(f"{origin}{url('jobs')}")

    browser.execute_script(
        "const one = document.createElement('script');"
        "one.textContent = 'window.ran = true'; document.body.append(one)"
    )

    assert browser.execute_script("return window.ran") is None
    assert any("Content Security Policy" in one for one in complaints(browser))


def test_a_page_refreshes_itself_until_somebody_stops_it(origin, browser, admin, wait):
    job_id = add_job()
    browser.get(f"{origin}{url('job', job_id=job_id)}")
    browser.execute_script("window.notReloaded = true")

    Job.objects.filter(pk=job_id).update(priority=77)

    wait.until(lambda _: "77" in text_of(browser))
    assert browser.execute_script("return window.notReloaded") is True
    button = browser.find_element(By.CSS_SELECTOR, "button.live")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"


def test_jobs_that_are_chosen_stay_chosen_and_are_retried(origin, browser, admin, wait):
    chosen = [add_job("failed") for _ in range(3)]
    add_job("succeeded")
    browser.get(f"{origin}{url('jobs')}?state=failed")

    browser.find_element(By.CSS_SELECTOR, "[data-all]").click()
    assert browser.find_element(By.CSS_SELECTOR, "[data-chosen]").text == "3"
    press(browser, "Retry")

    wait.until(lambda _: "3 of 3 jobs are changed." in text_of(browser))
    assert {job.pk for job in Job.objects.filter(state="ready")} == set(chosen)


def test_the_steps_of_an_action_follow_each_other(origin, browser, admin, wait, monkeypatch):
    monkeypatch.setattr("aftercommit.store.selecting.ONE_BATCH", 2)
    monkeypatch.setattr("aftercommit.store.browsing.ONE_WINDOW", 2)
    for _ in range(5):
        add_job("failed")
    browser.get(f"{origin}{url('jobs')}?state=failed")

    browser.find_element(By.CSS_SELECTOR, "#scope option[value=filter]").click()
    press(browser, "Retry")
    wait.until(lambda _: "5 jobs meet this filter now." in text_of(browser))
    press(browser, "Retry")

    wait.until(lambda _: "That was all." in text_of(browser))
    assert "5 jobs changed, of 5 jobs found so far." in text_of(browser)
    assert Job.objects.filter(state="ready").count() == 5


def test_all_of_it_works_without_a_script(origin, browser, admin, wait):
    made = shop.fill(jobs=10)
    with no_script(browser):
        for page in pages(made):
            browser.get(f"{origin}{page}")
            assert browser.find_element(By.TAG_NAME, "h1").text
        browser.get(f"{origin}{url('job', job_id=made.failed)}")
        press_and_leave(browser, wait, "Retry")
        assert "The job is ready again." in text_of(browser)
        browser.get(f"{origin}{url('jobs')}?state=failed")
        browser.find_element(By.CSS_SELECTOR, "#scope option[value=filter]").click()
        press_and_leave(browser, wait, "Delete")
        press_and_leave(browser, wait, "Delete")
        press_and_leave(browser, wait, "Go on")
        assert "That was all." in text_of(browser)

    assert not Job.objects.filter(state="failed").exists()


def test_the_keyboard_begins_with_a_way_to_the_content(origin, browser, admin):
    browser.get(f"{origin}{url('jobs')}")
    body = browser.find_element(By.TAG_NAME, "body")

    body.send_keys("\ue004")  # Tab
    focused = browser.switch_to.active_element
    assert focused.text == "Skip to the content"
    focused.send_keys("\ue007")  # Enter

    assert browser.switch_to.active_element.get_attribute("id") == "content"
