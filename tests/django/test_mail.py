"""Mail as a part of the transaction, sent by a job to a real SMTP server."""

import email
import email.policy
import json
import socket
from collections import deque
from datetime import timedelta
from email.message import MIMEPart
from email.mime.image import MIMEImage

import django
import pytest
from aiosmtpd.controller import Controller
from django.core import mail
from django.core.mail import EmailMessage, EmailMultiAlternatives, send_mail
from django.db import Error, OperationalError, connection, transaction

from aftercommit.errors import ConfigurationError, PayloadError, PayloadTooLarge
from aftercommit.mail.messages import packed, unpacked
from aftercommit.models import Job
from aftercommit.testing import assert_enqueued, run_jobs, travel

pytestmark = pytest.mark.django_db

OURS = "aftercommit.mail.EmailBackend"
SMTP = "django.core.mail.backends.smtp.EmailBackend"
PNG = b"\x89PNG\r\n\x1a\n\x00\xff"


class Server:
    """A mail server that says what it is told to say."""

    def __init__(self):
        self.envelopes = deque()
        self.refuses = {}  # addresses, and what is said
        self.says = "250 Ok"

    async def handle_RCPT(self, _server, _session, envelope, address, _options):
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 Ok"

    async def handle_DATA(self, _server, _session, envelope):
        if self.says.startswith("250"):
            self.envelopes.append(envelope)
        return self.says

    @property
    def messages(self):
        """What has arrived, as the recipients see it."""
        policy = email.policy.default
        return [email.message_from_bytes(one.content, policy=policy) for one in self.envelopes]


@pytest.fixture(scope="module")
def controller():
    server = Server()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(server, hostname="127.0.0.1", port=port)
    controller.start()
    yield controller
    controller.stop()


@pytest.fixture
def server(controller, settings):
    """Return the server; Django's mail goes through us, and the worker sends it there."""
    server = controller.handler
    server.__init__()
    port = controller.port
    if django.VERSION >= (6, 1):
        settings.MAILERS = {
            "default": {"BACKEND": OURS, "OPTIONS": {"mailer": "real"}},
            "real": {"BACKEND": SMTP, "OPTIONS": {"host": "127.0.0.1", "port": port}},
        }
    else:
        settings.EMAIL_BACKEND = OURS
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    return server


def letter(**more):
    given = {"subject": "Grüße", "body": "Hello", "from_email": "us@shop.example"}
    return EmailMessage(**given, **{"to": ["ann@a.example"], **more})


def test_a_mail_is_sent_after_the_commit_by_a_job(server):
    with transaction.atomic():
        assert send_mail("Hi", "text", "us@shop.example", ["ann@a.example"]) == 1
        assert not server.envelopes

    (job,) = assert_enqueued("aftercommit.mail.send")
    (result,) = run_jobs()

    (message,) = server.messages
    assert (message["Subject"], message["To"]) == ("Hi", "ann@a.example")
    assert message.get_content().strip() == "text"
    assert result.return_value == {"sent": 1, "later": [], "refused": {}}
    assert result.id == str(job.id)


def test_a_mail_of_a_transaction_that_is_rolled_back_never_existed(server):
    with pytest.raises(LookupError), transaction.atomic():
        letter().send()
        raise LookupError

    assert Job.objects.count() == 0


def test_all_of_a_mail_arrives(server):
    whole_mail().send()

    run_jobs()

    (envelope,) = server.envelopes
    assert envelope.mail_from == "us@shop.example"
    assert sorted(envelope.rcpt_tos) == [
        "ann@a.example",
        "bob@a.example",
        "cc@a.example",
        "secret@a.example",
    ]
    (message,) = server.messages
    assert message["Subject"] == "Grüße"
    assert message["X-Order"] == "7"
    assert message["Reply-To"] == "answers@shop.example"
    assert message["Cc"] == "cc@a.example"
    assert "secret" not in str(message)
    assert message.get_body(["plain"]).get_content().strip() == "plain ✓"
    assert message.get_body(["html"]).get_content().strip() == "<b>rich ✓</b>"
    parts = {one.get_filename(): one for one in message.walk() if one.get_filename()}
    assert parts["notes.txt"].get_content().strip() == "text ✓"
    assert parts["bytes.bin"].get_content() == PNG * 1000
    (logo,) = [one for one in message.walk() if one["Content-ID"] == "<logo>"]
    assert (logo.get_content(), logo.get_content_disposition()) == (PNG, "inline")


def whole_mail():
    mail_ = EmailMultiAlternatives(
        "Grüße",
        "plain ✓",
        "Us <us@shop.example>",
        ["Ann <ann@a.example>", "bob@a.example"],
        bcc=["secret@a.example"],
        cc=["cc@a.example"],
        reply_to=["answers@shop.example"],
        headers={"X-Order": "7"},
    )
    mail_.attach_alternative("<b>rich ✓</b>", "text/html")
    mail_.attach("notes.txt", "text ✓", "text/plain")
    mail_.attach("bytes.bin", PNG * 1000, "application/octet-stream")
    mail_.attach(inline_image())
    return mail_


def inline_image():
    if django.VERSION < (6, 0):
        old = MIMEImage(PNG, "png")
        old["Content-ID"], old["Content-Disposition"] = "<logo>", "inline"
        return old
    inline = MIMEPart()
    inline.set_content(PNG, "image", "png", cid="<logo>", disposition="inline")
    return inline


def test_what_is_stored_is_json_and_comes_back_equal():
    first = letter(headers={"Message-ID": "<a@b>"}, bcc=["b@c.example"])
    first.content_subtype = "html"
    first.encoding = "iso-8859-1"
    first.tags = ["invoice"]

    made = packed(unpacked(json.loads(json.dumps(packed(first)))))

    assert made == packed(first)
    assert made["attributes"] == {"tags": ["invoice"]}
    assert "connection" not in str(made)


def test_a_mail_has_the_same_id_however_often_it_is_sent(server):
    letter().send()
    server.says = "451 Later"

    run_jobs(until=timedelta(minutes=5), raise_errors=False)  # by far not all its attempts
    server.says = "250 Ok"
    with travel(timedelta(hours=3)):
        run_jobs()

    (job,) = Job.objects.all()
    assert job.attempts > 2
    assert server.messages[0]["Message-ID"] == job.kwargs["mail"]["headers"]["Message-ID"]


@pytest.mark.parametrize("says", ["550 No", "554 Spam"])
def test_what_the_server_refuses_for_good_is_not_tried_again(server, says):
    server.says = says
    letter().send()

    (result,) = run_jobs(raise_errors=False)

    assert result.state == "failed"
    assert says in result.errors[0].traceback
    assert result.errors[0].exception_class is not None


def test_what_it_refuses_for_now_is_tried_again(server):
    server.refuses = {"ann@a.example": "450 Greylisted"}
    letter().send()

    (first,) = run_jobs(raise_errors=False)
    server.refuses = {}
    with travel(timedelta(minutes=5)):
        (second,) = run_jobs()

    assert (first.state, second.state) == ("ready", "succeeded")
    assert len(server.envelopes) == 1


def test_each_recipient_gets_a_mail_once(server):
    server.refuses = {"bob@a.example": "450 Later", "eve@a.example": "550 Unknown"}
    letter(to=["ann@a.example", "bob@a.example"], bcc=["eve@a.example"]).send()

    (first,) = run_jobs()
    server.refuses = {}
    with travel(timedelta(minutes=10)):
        (second,) = run_jobs()

    assert first.return_value == {
        "sent": 1,
        "later": ["bob@a.example"],
        "refused": {"eve@a.example": "550 Unknown"},
    }
    assert second.return_value == {"sent": 1, "later": [], "refused": {}}
    assert [one.rcpt_tos for one in server.envelopes] == [["ann@a.example"], ["bob@a.example"]]
    assert server.messages[1]["To"] == "ann@a.example, bob@a.example"
    assert len({one["Message-ID"] for one in server.messages}) == 1


def test_a_server_that_is_away_is_tried_again(server, settings):
    if django.VERSION >= (6, 1):
        settings.MAILERS["real"]["OPTIONS"]["port"] = 1
    else:
        settings.EMAIL_PORT = 1
    letter().send()

    (result,) = run_jobs(raise_errors=False)

    assert result.state == "ready"
    with pytest.raises(ConnectionRefusedError), travel(timedelta(minutes=5)):
        run_jobs()


def test_a_mail_that_is_too_large_is_refused_with_its_subject(server):
    large = letter(attachments=[("film.bin", b"x" * 900_000, "application/octet-stream")])

    with pytest.raises(PayloadTooLarge, match=r"a mail \('Grüße', attachments: 1\)"):
        large.send()

    assert Job.objects.count() == 0


def test_a_mail_that_is_no_json_is_refused(server):
    odd = letter()
    odd.template = object()

    with pytest.raises(PayloadError, match="attribute template"):
        odd.send()

    class Own(EmailMessage):
        def message(self, **_):
            raise NotImplementedError

    with pytest.raises(PayloadError, match=r"overrides message\(\)"):
        Own("s", "b", None, ["ann@a.example"]).send()


def silent():
    """Return our backend, which raises nothing where it need not."""
    from aftercommit.mail import EmailBackend  # noqa: PLC0415

    named = {"mailer": "real", "alias": "default"} if django.VERSION >= (6, 1) else {}
    return EmailBackend(fail_silently=True, **named)


def test_failing_silently_leaves_such_a_mail_out(server, caplog):
    odd = letter()
    odd.template = object()

    assert silent().send_messages([odd, letter()]) == 1
    assert "A mail was not enqueued" in caplog.text
    assert Job.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_failing_silently_leaves_a_mail_out_while_the_database_is_away(
    server, monkeypatch, caplog
):
    connection.close()
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "NAME", "/not/there")
        try:
            assert silent().send_messages([letter()]) == 0
            with pytest.raises(Error):
                letter().send()
        finally:
            connection.close()

    assert "A mail was not enqueued: database 'default': OperationalError" in caplog.text
    assert Job.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_an_error_of_the_database_in_a_transaction_is_raised_in_any_case(server):
    def fails(execute, sql, params, many, context):
        if "INSERT INTO" in sql:
            raise OperationalError("away")
        return execute(sql, params, many, context)

    with (
        pytest.raises(OperationalError, match="away"),
        connection.execute_wrapper(fails),
        transaction.atomic(),
    ):
        silent().send_messages([letter()])


def test_a_mail_to_nobody_is_none(server):
    assert letter(to=[]).send() == 0
    assert Job.objects.count() == 0


@pytest.mark.skipif(django.VERSION < (6, 1), reason="before MAILERS")
def test_the_real_mailer_must_be_another_one(settings):
    for options, why in (
        ({}, "must name the entry"),
        ({"mailer": "nowhere"}, "does not have"),
        ({"mailer": "default"}, "of this backend itself"),
    ):
        settings.MAILERS = {"default": {"BACKEND": OURS, "OPTIONS": options}}
        with pytest.raises(ConfigurationError, match=why):
            mail.mailers["default"]
