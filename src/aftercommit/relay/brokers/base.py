"""What a broker's library has to be taught: to let its messages be kept, and to take them."""

import base64
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from uuid import UUID

from aftercommit.enqueue.task import Report

logger = logging.getLogger("aftercommit")


class Away(Exception):
    """The broker does not answer, or does not take messages now; it may later."""


class TooEarly(Exception):
    """Another message has to be published before this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a library would have published, in a form that JSON can hold."""

    broker: str
    message_id: str  # as the library calls it; the same in every copy
    name: str  # of the task, for people
    content: dict[str, Any]  # for the same library, in whatever process
    job_id: UUID | None = None  # of the job that keeps it; None: any


class Outbox(Protocol):
    """Decides whether a message is kept, and keeps it."""

    def alias(self, broker: str, *, when: str | None) -> str | None:
        """Return the database alias that keeps a message sent now; None: publish it.

        ``when`` is what the task itself says; None leaves it to the settings.
        """

    def alias_if_away(self, broker: str, *, when: str | None) -> str | None:
        """Return the alias that keeps a message whose broker is away; None: nobody does."""

    def keep(self, message: Message, *, using: str) -> None:
        """Store a message in the transaction that is open on ``using``, or in one of its own."""


class Broker(ABC):
    """One library."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self.options: Mapping[str, Any] = {}  # of OPTIONS["relay"]
        # Whether a message, by its id, is kept and not published yet.
        self.is_kept: Callable[[str], bool] = lambda _message_id: False
        # The job that keeps, or has kept, a message, by the job's id; or None.
        self.find: Callable[[str], Any] = lambda _job_id: None
        # The aliases of TASKS that are not ours.
        self.others: Callable[[], Sequence[str]] = list

    @abstractmethod
    def capture(self, outbox: Outbox) -> None:
        """Ask ``outbox`` about each message from now on. Called once in a process."""

    @abstractmethod
    def publish(self, content: dict[str, Any]) -> Any:
        """Hand a message to the broker; return when it has said that it has it.

        What it returns, as a rule None, is kept as the result of the message's job. Called
        from several threads. Raises ``Away`` if it should be tried again later,
        ``TooEarly`` if another one has to go first, anything else if the message itself is
        at fault.
        """

    def publish_many(self, contents: Mapping[int, dict[str, Any]], report: Report) -> None:
        """Hand over several messages in their order; tell of each as soon as it is known.

        ``report(number, error)`` says of the message of that number that the broker has it, or
        what ``publish`` would raise for it. Raises ``Away`` for all that were not reported;
        anything else if one of them is at fault: they are published one by one then.
        """
        self.publish_each(contents, report)

    def publish_each(self, contents: Mapping[int, dict[str, Any]], report: Report) -> None:
        """Hand over several, one after the other; see ``publish_many``."""
        for number, content in contents.items():
            try:
                value = self.publish(content)
            except Away:
                raise
            except Exception as error:
                report(number, error)
            else:
                report(number, None, value)

    def problem(self) -> str | None:
        """Return what ``publish`` would not know, as far as the settings tell."""
        return None

    def close(self) -> None:  # noqa: B027 - not every library has something to close
        """Close what ``publish`` has opened, in all threads; none of them publishes now."""


def publish_or_keep(
    outbox: Outbox,
    broker: str,
    *,
    when: str | None,
    away: tuple[type[BaseException], ...],
    publish: Callable[[], Any],
    keep: Callable[[str], Any],
) -> Any:
    """Return what ``publish`` does, or ``keep`` with the alias that is to keep the message.

    ``away`` are the errors of a broker that does not answer; its message is kept, too.
    """
    using = outbox.alias(broker, when=when)
    if using is None:
        try:
            return publish()
        except away as error:
            using = outbox.alias_if_away(broker, when=when)
            if using is None:
                raise
            # The class only: a driver's message may hold the address and the user.
            logger.warning("%s is away (%s); a message is kept", broker, type(error).__name__)
    return keep(using)


def as_json(data: bytes) -> dict[str, str]:
    """Return bytes as JSON, readable if they are text."""
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def as_bytes(stored: Mapping[str, str]) -> bytes:
    """Return the bytes that ``as_json`` was given."""
    text = stored.get("text")
    return base64.b64decode(stored["base64"]) if text is None else text.encode()
