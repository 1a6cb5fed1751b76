"""The task that sends a mail by the real backend."""

import logging
import smtplib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import django
from django.conf import settings
from django.core import mail as django_mail
from django.core.mail import EmailMessage
from django.core.mail.backends.smtp import EmailBackend as SMTP
from django.utils import timezone
from django.utils.module_loading import import_string

from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.task import BuiltInTask
from aftercommit.errors import ConfigurationError, MailRefused
from aftercommit.mail.messages import TASK, unpacked
from aftercommit.options.backoff import Exponential

logger = logging.getLogger("aftercommit")

OURS = "aftercommit.mail.EmailBackend"
SETTING = "AFTERCOMMIT_EMAIL_BACKEND"
USUAL = "django.core.mail.backends.smtp.EmailBackend"
MAX_ATTEMPTS = 10  # over some hours
BACKOFF = Exponential(base=timedelta(seconds=30), maximum=timedelta(hours=1))
LATER = timedelta(minutes=5)  # for recipients that the server has refused for now
TEMPORARY = range(400, 500)  # codes of SMTP
Refused = dict[str, tuple[int, bytes]]


def mail_task(backend: DatabaseBackend) -> BuiltInTask:
    """Return the task for jobs of a backend."""
    queues = backend.queues
    return BuiltInTask(
        path=TASK,
        func=send,
        backend=backend.alias,
        queue_name="default" if not queues or "default" in queues else sorted(queues)[0],
        priority=0,
        run_after=None,
        takes_context=True,
        max_attempts=MAX_ATTEMPTS,
        backoff=BACKOFF,
        discard_on=(MailRefused, TypeError, ValueError),  # another try would end alike
    )


def check_mailer(mailer: str | None) -> None:
    """Raise ``ConfigurationError`` if no real backend is named, or this one again."""
    if mailer is None:
        path = getattr(settings, SETTING, USUAL)
        if hasattr(settings, "MAILERS"):
            _refuse("OPTIONS['mailer'] must name the entry of MAILERS that sends")
        if path == OURS:
            _refuse(f"{SETTING} names this backend itself")
        return
    mailers: Any = getattr(settings, "MAILERS", {})
    found = mailers.get(mailer)
    if found is None:
        _refuse(f"OPTIONS['mailer'] is {mailer!r}, which MAILERS does not have")
    if found.get("BACKEND") == OURS:
        _refuse(f"OPTIONS['mailer'] is {mailer!r}, which is of this backend itself")


def _refuse(why: str) -> None:
    raise ConfigurationError(f"{OURS}: {why}. No mail was enqueued.")


def send(
    context: Any, *, mailer: str | None, mail: dict[str, Any], only: list[str] | None = None
) -> dict[str, Any]:
    """Send a mail; ``only``: to these of its recipients, as the others have it already.

    Recipients that the server refuses for now get it by a job of their own. Returns how many
    have it, and why others never will.
    """
    message: Any = unpacked(mail)
    if only is not None:
        message.recipients = lambda: only
    wanted = len(message.recipients())
    refused = _deliver(_backend(mailer), message)
    later = [one for one, (code, _text) in refused.items() if code in TEMPORARY]
    never = {
        one: f"{code} {text.decode(errors='replace')}"
        for one, (code, text) in refused.items()
        if one not in later
    }
    if never:
        logger.warning("Job %s: a mail was refused for %d recipients", context.job_id, len(never))
    with context.commit() as finish:
        if later:
            again = context.task_result.task.using(run_after=timezone.now() + LATER)
            again.enqueue(mailer=mailer, mail=mail, only=later)
        finish.return_value = {"sent": wanted - len(refused), "later": later, "refused": never}
    return {}


def _backend(mailer: str | None) -> Any:
    """Return the real backend; rows name an entry of the settings, never a class."""
    check_mailer(mailer)
    if mailer is not None:
        return django_mail.mailers[mailer]
    kind = import_string(getattr(settings, SETTING, USUAL))
    # Since 6.1 that is how Django itself makes one where settings have no MAILERS.
    return kind(alias=None) if django.VERSION >= (6, 1) else kind()


def _deliver(backend: Any, message: EmailMessage) -> Refused:
    """Send a mail; return the recipients that the server has refused while it took others.

    Raises ``MailRefused`` for what the server will never take, and else as the backend does.
    """
    try:
        if isinstance(backend, SMTP):
            with _refusals(backend) as refused:
                backend.send_messages([message])
            return refused
        backend.send_messages([message])
    except smtplib.SMTPRecipientsRefused as error:
        if any(code in TEMPORARY for code, _text in error.recipients.values()):
            raise
        raise MailRefused(answers=_answers(error.recipients)) from error
    except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
        if error.smtp_code in TEMPORARY:
            raise
        raise MailRefused(answers=[f"{error.smtp_code} {_text(error.smtp_error)}"]) from error
    return {}


@contextmanager
def _refusals(backend: Any) -> Iterator[Refused]:
    """Collect what ``sendmail()`` returns, which Django's backend does not look at."""
    found: Refused = {}
    backend.open()
    connection = backend.connection
    original: Callable[..., Refused] = connection.sendmail

    def sendmail(*args: Any, **kwargs: Any) -> Refused:
        refused = original(*args, **kwargs)
        found.update(refused)
        return refused

    connection.sendmail = sendmail
    try:
        yield found
    finally:
        backend.close()


def _answers(recipients: Mapping[str, tuple[int, bytes]]) -> Sequence[str]:
    return [f"{one}: {code} {_text(text)}" for one, (code, text) in recipients.items()]


def _text(text: bytes | str) -> str:
    return text.decode(errors="replace") if isinstance(text, bytes) else text
