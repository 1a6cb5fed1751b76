"""No mail for each job that fails: none, or one of a kind in a while."""

import logging
from datetime import timedelta

import pytest
from django.core.cache import caches
from django.utils.log import AdminEmailHandler

from aftercommit.log import OnePerKind, mail
from aftercommit.log.mail import spare_admins

LOCAL = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
NONE = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}


class Mailer(AdminEmailHandler):
    """Keeps what would be mailed."""

    def __init__(self):
        super().__init__()
        self.setLevel(logging.ERROR)
        self.sent = []

    def emit(self, record):
        self.sent.append(record.getMessage())


@pytest.fixture(autouse=True)
def cache(settings):
    settings.CACHES = LOCAL
    caches["default"].clear()


@pytest.fixture
def mailer():
    return Mailer()


@pytest.fixture
def attach(mailer):
    """Return a function that attaches the mailer to a logger; all is undone at the end."""
    attached = []

    def attach(name):
        log = logging.getLogger(name)
        log.addHandler(mailer)
        attached.append(log)
        spare_admins()
        spare_admins()  # changes nothing

    yield attach
    for log in attached:
        log.removeHandler(mailer)


def fail(task="shop.charge", exception="builtins.ValueError", **others):
    """Log as the end of a run is logged."""
    fields = {"task": task, "exception": exception, **others}
    logging.getLogger("aftercommit").error("%s", task, extra=fields)


def test_a_handler_that_mails_gets_one_of_a_kind(mailer, attach):
    attach("aftercommit")

    for _ in range(3):
        fail("a")
        fail("b")
        fail("a", exception="builtins.KeyError")

    assert mailer.sent == ["a", "b", "a"]


def test_what_is_not_about_a_job_is_mailed_each_time(mailer, attach):
    attach("aftercommit")

    for _ in range(2):
        logging.getLogger("aftercommit").error("a database is away")

    assert len(mailer.sent) == 2


def test_a_handler_that_is_inherited_from_the_root_gets_one_of_a_kind(mailer, attach):
    attach("")

    for _ in range(3):
        fail()

    assert mailer.sent == ["shop.charge"]


@pytest.mark.parametrize("inherited_from", ["django", ""])
def test_djangos_line_about_a_failed_job_is_not_mailed(mailer, attach, inherited_from):
    attach(inherited_from)

    logging.getLogger("django.tasks").error("state=FAILED")
    logging.getLogger("django.request").error("a page has failed")

    assert mailer.sent == ["a page has failed"]


def test_it_is_mailed_if_a_handler_of_that_very_log_was_asked_for(mailer, attach):
    attach("django.tasks")

    logging.getLogger("django.tasks").error("state=FAILED")

    assert mailer.sent == ["state=FAILED"]


def test_a_filter_that_the_project_has_chosen_is_the_only_one(mailer, attach):
    chosen = OnePerKind(every=timedelta(days=1))
    mailer.addFilter(chosen)

    attach("aftercommit")

    assert mailer.filters == [chosen]


def record(task="shop.charge"):
    fields = {"name": "aftercommit", "task": task, "exception": "builtins.ValueError"}
    return logging.makeLogRecord({"levelno": logging.ERROR, **fields})


def test_one_passes_after_a_while(monkeypatch, settings):
    settings.CACHES = NONE
    moment = [0.0]
    monkeypatch.setattr(mail.time, "monotonic", lambda: moment[0])
    seldom = OnePerKind(every=timedelta(hours=1))
    assert [seldom.filter(record()) for _ in range(2)] == [True, False]

    moment[0] = 3599.0
    assert not seldom.filter(record())

    moment[0] = 3600.0
    assert [seldom.filter(record()) for _ in range(2)] == [True, False]


def test_a_cache_makes_it_one_for_all_processes():
    one, other = OnePerKind(), OnePerKind()

    assert [one.filter(record()), other.filter(record())] == [True, False]


def test_without_a_cache_it_is_one_for_each_process(settings):
    settings.CACHES = NONE
    one, other = OnePerKind(), OnePerKind()

    assert [one.filter(record()), other.filter(record())] == [True, True]
    assert [one.filter(record()), other.filter(record())] == [False, False]


def test_a_cache_that_does_not_answer_withholds_no_mail(settings):
    settings.CACHES = {"default": {"BACKEND": "no.such.Cache"}}

    assert OnePerKind().filter(record())
    assert OnePerKind(cache="no such alias").filter(record())


def test_kinds_without_number_take_no_memory_without_end(monkeypatch):
    monkeypatch.setattr(mail, "MOST_KINDS", 10)
    seldom = OnePerKind()

    for number in range(100):
        assert seldom.filter(record(f"task{number}"))

    assert len(seldom._passed) <= 10
