"""Mail: the ``send_messages`` of each backend of Django, and ``smtplib``."""

import copy
import smtplib
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from django.core.mail.backends.base import BaseEmailBackend
from django.utils.log import AdminEmailHandler

from aftercommit.guard.dispatches import (
    Dispatch,
    Later,
    inside_dispatch,
    passing,
    someone_is_interested,
)
from aftercommit.guard.patches import OnImport, patch, patch_instances

# Backends that keep mail in the database, or pass it on to a library with an adapter.
RIGHT = ("aftercommit.mail", "djcelery_email.", "mailer.", "post_office.")


def install(_on_import: OnImport) -> None:
    """Notice the mails of all backends; those of tests stand for the real one."""
    patch_instances(BaseEmailBackend, "send_messages", _sending)
    patch(smtplib.SMTP, "sendmail", _by_smtplib)
    patch(AdminEmailHandler, "send_mail", _about_errors)


def _sending(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def send_messages(self: Any, email_messages: Any) -> Any:
        if not someone_is_interested() or type(self).__module__.startswith(RIGHT):
            return original(self, email_messages)
        messages = list(email_messages or ())
        return passing(
            Dispatch(
                adapter="mail",
                subject=f"Mail of {type(self).__module__}",
                send=partial(original, self, messages),
                prepare=lambda: _prepare(original, self, messages),
            )
        )

    return send_messages


def _prepare(original: Callable[..., Any], backend: Any, messages: list[Any]) -> Later:
    kept = [_as_it_is(one) for one in messages]
    return Later(len(kept), partial(original, backend, kept))


def _as_it_is(message: Any) -> Any:
    """Return a copy of a mail that does not change with it: of its recipients, say."""
    kept = copy.copy(message)
    for name, value in vars(message).items():
        if isinstance(value, (list, dict)):
            setattr(kept, name, copy.copy(value))
    return kept


def _by_smtplib(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def sendmail(self: Any, *args: Any, **options: Any) -> Any:
        send = partial(original, self, *args, **options)
        if not someone_is_interested():
            return send()
        return passing(Dispatch(adapter="mail", subject="Mail of smtplib", send=send))

    return sendmail


def _about_errors(original: Callable[..., Any]) -> Callable[..., Any]:
    """Let the log send mail to the admins: it is about what happens, not about rows."""

    @wraps(original)
    def send_mail(self: Any, *args: Any, **options: Any) -> Any:
        with inside_dispatch():
            return original(self, *args, **options)

    return send_mail
