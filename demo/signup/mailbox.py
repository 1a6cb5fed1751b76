"""The delivered mails: files that Django's file backend has written."""

from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path

BETWEEN_MAILS = b"-" * 79 + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A delivered mail."""

    message_id: str
    to: str
    subject: str


def delivered(folder: Path) -> list[Mail]:
    """Return all mails in the folder, oldest first."""
    files = sorted(folder.glob("*.log"), key=lambda file: (file.stat().st_mtime_ns, file))
    return [mail for file in files for mail in _mails_in(file.read_bytes())]


def _mails_in(content: bytes) -> list[Mail]:
    # What stands after the last line of dashes was still being written when its worker
    # was killed; the job runs again and delivers it whole.
    *whole, _unfinished = content.split(BETWEEN_MAILS)
    return [_mail(message_from_bytes(part)) for part in whole]


def _mail(message: Message) -> Mail:
    return Mail(
        message_id=str(message["Message-ID"]),
        to=str(message["To"]),
        subject=str(message["Subject"]),
    )
