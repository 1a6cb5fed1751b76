"""What a broker's library has to be taught: to let its messages be kept, and to take them."""

import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol


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


class Keeper(Protocol):
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

    @abstractmethod
    def capture(self, keeper: Keeper) -> None:
        """Ask ``keeper`` about each message from now on. Called once in a process."""

    @abstractmethod
    def publish(self, content: dict[str, Any]) -> None:
        """Hand a message to the broker; return when it has said that it has it.

        Called from several threads. Raises ``Away`` if it should be tried again later,
        ``TooEarly`` if another one has to go first, anything else if the message itself is
        at fault.
        """

    def problem(self) -> str | None:
        """Return what ``publish`` would not know, as far as the settings tell."""
        return None

    def close(self) -> None:  # noqa: B027 - not every library has something to close
        """Close what ``publish`` has opened, in all threads; none of them publishes now."""


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
