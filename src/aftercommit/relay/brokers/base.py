"""The contract of a broker: capture the messages of its library, and publish them."""

import base64
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol
from uuid import UUID

from aftercommit.errors import ConfigurationError
from aftercommit.relay.brokers.logins import Login

logger = logging.getLogger("aftercommit")


class Away(Exception):
    """The broker does not answer, or does not accept messages now; it may later."""


class TooEarly(Exception):
    """Another message must be published before this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a library would have published, in a form that JSON can hold."""

    broker: str
    message_id: str  # the id in the library; the same in every copy
    name: str  # of the task, for display
    content: dict[str, Any]  # for the same library, in any process
    job_id: UUID | None = None  # of the job that stores it; None: a new one


class Report(Protocol):
    """Reports how one of several calls ended: the exception that it raised, or its value."""

    def __call__(self, number: int, error: BaseException | None, value: Any = None) -> None: ...


class Outbox(Protocol):
    """Decides whether a message is stored, and stores it."""

    def alias(self, broker: str, *, when: str | None) -> str | None:
        """Return the database alias where a message is to be stored; None: publish it now.

        ``when`` is the task's own choice; None: the settings decide.
        """

    def alias_if_away(self, broker: str, *, when: str | None) -> str | None:
        """Return the alias that stores a message whose broker is away; None: it is not stored."""

    def keep(self, message: Message, *, using: str) -> None:
        """Store a message in the transaction that is open on ``using``, or in one of its own."""


class Broker(ABC):
    """One library."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self.options: Mapping[str, Any] = {}  # of OPTIONS["relay"]
        # Whether a message, by its id, is in the outbox and not published yet.
        self.is_kept: Callable[[str], bool] = lambda _message_id: False
        # The job of a message, by the job's id; or None.
        self.find: Callable[[str], Any] = lambda _job_id: None
        # The aliases in TASKS of other libraries' backends.
        self.others: Callable[[], Sequence[str]] = list

    @abstractmethod
    def capture(self, outbox: Outbox) -> None:
        """Ask ``outbox`` about each message from now on. Called once in a process."""

    @abstractmethod
    def publish(self, content: dict[str, Any]) -> Any:
        """Publish a message; return when the broker has confirmed that it has the message.

        The return value, usually None, is stored as the result of the message's job. Called
        from several threads. Raises ``Away`` if it should be called again later,
        ``TooEarly`` if another message must be published before, and any other exception if
        the message itself is at fault.
        """

    def publish_many(self, contents: Mapping[int, dict[str, Any]], report: Report) -> None:
        """Publish several messages in their order; report each as soon as its end is known.

        ``report(number, error)`` means that the broker has the message of that number, or that
        ``publish`` would raise ``error`` for it. Raises ``Away`` for all messages that were not
        reported, and any other exception if one of them is at fault; the caller then publishes
        them one by one.
        """
        self.publish_each(contents, report)

    def publish_each(self, contents: Mapping[int, dict[str, Any]], report: Report) -> None:
        """Publish several messages, one after the other; see ``publish_many``."""
        for number, content in contents.items():
            try:
                value = self.publish(content)
            except Away:
                raise
            except Exception as error:
                report(number, error)
            else:
                report(number, None, value)

    def with_headers(
        self, content: dict[str, Any], _headers: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return a message with the headers of its enqueuer, if it has a place for them.

        What the library has written under a name stays.
        """
        return content

    def covers(self, _backend: str) -> bool:
        """Return whether the messages of an alias of TASKS are captured here."""
        return True

    def problem(self) -> str | None:
        """Return what the settings do not say although ``publish`` needs it, or None."""
        return None

    def logins(self) -> list[Login]:
        """Return the servers to which ``publish`` goes, as far as they are known here."""
        return []

    def close(self) -> None:  # noqa: B027 - not every library has something to close
        """Close the connections of ``publish``, in all threads; no thread may be publishing."""


def publish_or_keep(
    outbox: Outbox,
    broker: str,
    *,
    when: str | None,
    away: tuple[type[BaseException], ...],
    publish: Callable[[], Any],
    keep: Callable[[str], Any],
    fault: Callable[[], str | None] = lambda: None,
    there: Callable[[], bool] = lambda: True,
) -> Any:
    """Return the result of ``publish``, or of ``keep`` with the alias that stores the message.

    ``away`` are the errors of a broker that does not answer; the message is stored then, too,
    and if ``there`` says before that its server cannot be reached.
    ``fault`` says why the relay could not publish the message to the server that is meant;
    then it is not stored. Raises ``ConfigurationError`` if it cannot be published now either.
    """
    using, why = outbox.alias(broker, when=when), ""
    if using is not None and (error := fault()):
        raise ConfigurationError(error)
    if using is None:
        later = outbox.alias_if_away(broker, when=when)
        if later is not None and not there() and not fault():
            using, why = later, "cannot be reached"
    if using is None:
        try:
            return publish()
        except away as error:
            if later is None or fault():
                raise
            # Only the class: a driver's message may contain the address and the user.
            using, why = later, type(error).__name__
    if why:
        logger.warning("%s does not answer (%s); a message is stored", broker, why)
    return keep(using)


def as_json(data: bytes) -> dict[str, str]:
    """Return bytes as JSON: as text if possible, else in base64."""
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def as_bytes(stored: Mapping[str, str]) -> bytes:
    """Return the bytes that ``as_json`` has converted."""
    text = stored.get("text")
    return base64.b64decode(stored["base64"]) if text is None else text.encode()
