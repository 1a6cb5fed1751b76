"""What leaves the process and is no task: HTTP, mail, and what the settings ask for."""

import asyncio
import http.client
import logging
import smtplib
import subprocess
import sys
import urllib.request

import django
import pytest
from asgiref.sync import async_to_sync
from django.core import mail
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.db import transaction

from aftercommit.errors import DispatchInTransaction

pytestmark = pytest.mark.django_db(transaction=True)

URL = "http://127.0.0.1:1/a?token=secret"  # nobody listens there


def by_http_client():
    connection = http.client.HTTPConnection("127.0.0.1", 1)
    connection.request("GET", "/a?token=secret")


def by_requests():
    pytest.importorskip("requests").get(URL, timeout=1)


def by_httpx():
    pytest.importorskip("httpx").get(URL)


def by_httpx_client():
    with pytest.importorskip("httpx").Client() as client:
        client.get(URL)


def by_httpx_async():
    async def get():
        async with pytest.importorskip("httpx").AsyncClient() as client:
            await client.get(URL)

    async_to_sync(get)()


def by_aiohttp():
    async def get():
        async with pytest.importorskip("aiohttp").ClientSession() as client:
            await client.get(URL)

    async_to_sync(get)()


HTTP = {
    "aiohttp": by_aiohttp,
    "urllib": lambda: urllib.request.urlopen(URL, timeout=1),
    "http.client": by_http_client,
    "requests": by_requests,
    "httpx": by_httpx,
    "httpx client": by_httpx_client,
    "httpx async": by_httpx_async,
}


def refused(way):
    with transaction.atomic(), pytest.raises(DispatchInTransaction) as caught:
        way()
    return caught.value.finding


@pytest.mark.parametrize("way", HTTP)
def test_a_request_is_found_without_its_path(way, watch):
    watch(mode="raise")

    finding = refused(HTTP[way])

    assert (finding.rule, finding.adapter) == ("AC401", "http")
    assert finding.subject == "A GET request to 127.0.0.1"
    assert "secret" not in str(finding)


@pytest.mark.parametrize("way", HTTP)
def test_after_the_commit_a_request_is_right(way, watch):
    watch(mode="raise")
    errors = []

    def attempt():
        try:
            HTTP[way]()
        except Exception as error:  # nobody listens
            errors.append(error)

    with transaction.atomic():
        transaction.on_commit(attempt)

    assert errors
    assert not isinstance(errors[0], DispatchInTransaction)


def test_a_request_is_one_finding(watch, found):
    watch(mode="log")
    with transaction.atomic(), pytest.raises(OSError):
        by_requests()

    assert len(found) == 1


def test_requests_cannot_wait(watch, found, caplog):
    watch(mode="defer")
    with transaction.atomic(), pytest.raises(OSError):
        by_http_client()

    assert [mode for _finding, mode in found] == ["log"]


MAIL = {
    "send_mail": lambda: mail.send_mail("a", "b", "c@example.org", ["d@example.org"]),
    "EmailMessage": lambda: mail.EmailMessage("a", "b", to=["d@example.org"]).send(),
    "send_mass_mail": lambda: mail.send_mass_mail([("a", "b", None, ["d@example.org"])]),
    "mail_admins": lambda: mail.mail_admins("a", "b"),
}


LOCMEM = "django.core.mail.backends.locmem.EmailBackend"
HAS_MAILERS = hasattr(mail, "mailers")  # Django 6.1 and later; the setting before is deprecated


@pytest.fixture(autouse=True)
def _mail(settings):
    if HAS_MAILERS:
        settings.MAILERS = {"default": {"BACKEND": LOCMEM}}
    else:
        settings.EMAIL_BACKEND = LOCMEM
    admin = "admin@example.org"
    settings.ADMINS = [admin] if django.VERSION >= (6,) else [("admin", admin)]
    settings.MANAGERS = []


@pytest.mark.parametrize("way", MAIL)
def test_a_mail_is_found(way, watch, mailoutbox):
    watch(mode="raise")

    assert refused(MAIL[way]).adapter == "mail"
    assert mailoutbox == []


@pytest.mark.parametrize("way", MAIL)
def test_a_mail_waits_if_asked_and_says_what_it_said_then(way, watch, mailoutbox):
    watch(mode="defer")
    with transaction.atomic():
        MAIL[way]()
        assert mailoutbox == []

    assert len(mailoutbox) == 1


def test_what_is_added_to_a_mail_afterwards_is_not_sent(watch, mailoutbox):
    watch(mode="defer")
    message = mail.EmailMessage("a", "b", to=["d@example.org"])
    with transaction.atomic():
        message.send()
        message.to.append("late@example.org")

    assert mailoutbox[0].to == ["d@example.org"]


def test_a_mail_that_waits_is_gone_after_a_rollback(watch, mailoutbox):
    watch(mode="defer")
    with transaction.atomic():
        MAIL["send_mail"]()
        transaction.set_rollback(True)

    assert mailoutbox == []


def test_smtplib_is_found(watch):
    watch(mode="raise")

    assert refused(lambda: smtplib.SMTP().sendmail("a@example.org", ["b"], "c")).adapter == "mail"


def test_our_own_mail_is_part_of_the_transaction(watch, settings):
    ours = "aftercommit.mail.EmailBackend"
    if HAS_MAILERS:
        options = {"mailer": "real"}
        settings.MAILERS = {
            "default": {"BACKEND": ours, "OPTIONS": options},
            "real": {"BACKEND": LOCMEM},
        }
    else:
        settings.EMAIL_BACKEND = ours
    watch(mode="raise")
    with transaction.atomic():
        MAIL["send_mail"]()


def test_mail_of_the_log_to_the_admins_is_right(watch, mailoutbox):
    from django.utils.log import AdminEmailHandler  # noqa: PLC0415 - beside its only use

    watch(mode="raise")
    record = logging.LogRecord("a", logging.ERROR, "a.py", 1, "broken", (), None)
    with transaction.atomic():
        AdminEmailHandler().emit(record)

    assert len(mailoutbox) == 1


# What the settings ask for.


def by_redis():
    client = pytest.importorskip("redis").Redis(port=1)
    client.set("a", 1)


def by_pipeline():
    pipeline = pytest.importorskip("redis").Redis(port=1).pipeline()
    pipeline.get("a")
    pipeline.set("a", 1)
    pipeline.execute()


OTHERS = {
    "redis": by_redis,
    "pipeline": by_pipeline,
    "subprocess": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
    "storage": lambda: FileSystemStorage("/nowhere").save("a", ContentFile(b"")),
}


@pytest.mark.parametrize("way", OTHERS)
def test_others_are_found_if_the_settings_ask_for_them(way, watch):
    adapter = "redis" if way == "pipeline" else way
    watch(mode="log", adapters={adapter: "raise"})

    finding = refused(OTHERS[way])

    assert (finding.rule, finding.adapter) == ("AC401", adapter)


def test_otherwise_they_are_not(watch):
    watch(mode="raise")
    with transaction.atomic():
        OTHERS["subprocess"]()


def test_reading_from_redis_is_right(watch):
    redis = pytest.importorskip("redis")
    watch(mode="raise", adapters={"redis": "raise"})
    with transaction.atomic(), pytest.raises(redis.exceptions.ConnectionError):
        redis.Redis(port=1).get("a")


def test_a_coroutine_of_no_transaction_is_right(watch):
    watch(mode="raise")

    async def get():
        async with pytest.importorskip("httpx").AsyncClient() as client:
            await client.get(URL)

    with pytest.raises(pytest.importorskip("httpx").ConnectError):
        asyncio.run(get())
