"""A mail as JSON, and back: all that Django's mail backends read of it."""

import base64
import email.policy
from collections.abc import Mapping
from email import message_from_bytes
from email.message import Message
from email.mime.base import MIMEBase
from typing import Any

import django
from django.core.mail import DNS_NAME, EmailMessage, EmailMultiAlternatives, make_msgid

from aftercommit.enqueue.normal import is_in_json
from aftercommit.errors import PayloadError

TASK = "aftercommit.mail.send"  # its name in rows
TEXTS = ("subject", "body", "from_email", "content_subtype", "mixed_subtype")
LISTS = ("to", "cc", "bcc", "reply_to")
# Read in another way, or of this process.
OTHERS = {"attachments", "alternatives", "extra_headers", "encoding", "connection", "_connection"}
ID = "Message-ID"


def packed(mail: EmailMessage) -> dict[str, Any]:
    """Return a mail as JSON; with a ``Message-ID``, the same however often it is sent.

    Raises ``PayloadError`` for what JSON cannot hold: a subclass that builds its message itself,
    or an attribute of an object.
    """
    if type(mail).message is not EmailMessage.message:
        raise PayloadError(
            path="the mail", task_path=TASK, problem="its class overrides message()"
        )
    headers = {str(name): str(value) for name, value in mail.extra_headers.items()}
    if ID.lower() not in {name.lower() for name in headers}:
        headers[ID] = make_msgid(domain=str(DNS_NAME))
    made: dict[str, Any] = {
        name: str(getattr(mail, name)) for name in TEXTS if hasattr(mail, name)
    }
    made |= {name: [str(one) for one in getattr(mail, name)] for name in LISTS}
    made["headers"] = headers
    made["encoding"] = None if mail.encoding is None else str(mail.encoding)
    made["attachments"] = [_packed_attachment(one) for one in mail.attachments]
    if isinstance(mail, EmailMultiAlternatives):
        made["alternatives"] = [_packed_part(*one) for one in mail.alternatives]
    if extra := {name: value for name, value in vars(mail).items() if _is_extra(name)}:
        made["attributes"] = {name: _checked(name, value) for name, value in extra.items()}
    return made


def unpacked(made: Mapping[str, Any]) -> EmailMessage:
    """Return the mail that ``packed`` was given."""
    kind = EmailMultiAlternatives if "alternatives" in made else EmailMessage
    mail = kind(headers=dict(made["headers"]), **{name: made[name] for name in LISTS})
    for name in TEXTS:
        if name in made:
            setattr(mail, name, made[name])
    mail.encoding = made["encoding"]
    for one in made["attachments"]:
        if "mime" in one:
            mail.attach(_part_from(base64.b64decode(one["mime"])))
        else:
            mail.attach(one["filename"], _content_of(one), one["mimetype"])
    if isinstance(mail, EmailMultiAlternatives):
        for one in made["alternatives"]:
            mail.attach_alternative(_content_of(one), one["mimetype"])
    for name, value in made.get("attributes", {}).items():
        setattr(mail, name, value)
    return mail


def _is_extra(name: str) -> bool:
    known = name in TEXTS or name in LISTS or name in OTHERS
    return not known and not name.startswith("__")


def _checked(name: str, value: Any) -> Any:
    """Return an attribute that another backend understands, such as its tags."""
    if not is_in_json(value):
        raise PayloadError(
            path=f"the mail's attribute {name}", task_path=TASK, problem="it is no JSON"
        )
    return value


def _packed_attachment(one: Any) -> dict[str, Any]:
    if isinstance(one, Message):  # an inline image, for example
        return {"mime": _as_text(one.as_bytes())}
    filename, content, mimetype = one
    return {"filename": filename, **_packed_part(content, mimetype)}


def _packed_part(content: Any, mimetype: str | None) -> dict[str, Any]:
    if isinstance(content, EmailMessage):
        content = content.message().as_bytes()
    elif isinstance(content, Message):
        content = content.as_bytes()
    if isinstance(content, bytes | bytearray | memoryview):
        return {"bytes": _as_text(bytes(content)), "mimetype": mimetype}
    return {"text": str(content), "mimetype": mimetype}


def _content_of(one: Mapping[str, Any]) -> str | bytes:
    return base64.b64decode(one["bytes"]) if "bytes" in one else str(one["text"])


def _as_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


class _Part(MIMEBase):
    """A part of a message as Django 5.2 accepts it."""

    def __init__(self, policy: Any = email.policy.compat32) -> None:
        Message.__init__(self, policy=policy)


def _part_from(data: bytes) -> Any:
    if django.VERSION >= (6, 0):
        return message_from_bytes(data, policy=email.policy.default)
    return message_from_bytes(data, _class=_Part)
