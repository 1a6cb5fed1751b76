"""Passes bytes on between clients and a database server, and cuts where it is told to.

``before``: the statement never reaches the server. ``after``: it does, and the answer is
swallowed. Either way both ends are closed, as a network or a failover closes them. With
COMMIT and ``after`` this is the ambiguous commit: carried out, and nobody knows.
"""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

CHUNK = 256 * 1024
END_OF_TRANSACTION = re.compile(rb"\b(COMMIT|ROLLBACK(?! TO))\b")
Address = tuple[str, int] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Where to cut: every second statement that matches, so that each may be repeated."""

    statement: re.Pattern[bytes]
    when: str  # "before" or "after"
    following: re.Pattern[bytes] | None = None  # an earlier statement of the transaction


class CutProxy:
    """Listens on a port of this machine in front of ``server``, until it is closed."""

    def __init__(self, server: Address, *, port: int = 0) -> None:
        self._server = server
        self._rule: Rule | None = None
        self._lock = threading.Lock()
        self._matches = 0
        self._most = 0
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @contextlib.contextmanager
    def cutting(self, rule: Rule, *, most: int) -> Iterator[None]:
        """Cut by this rule while the block runs, ``most`` times; ``cuts`` begins anew."""
        with self._lock:
            self._matches = self.cuts = 0
            self._rule, self._most = rule, most
        try:
            yield
        finally:
            self._rule = None

    def close(self) -> None:
        """Listen no longer; connections that are open go on."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                Line(self, client, connect(self._server)).start()

    def rule(self) -> Rule | None:
        """Return the present rule."""
        return self._rule

    def is_next(self) -> bool:
        """Count a match; tell whether this one is to be cut."""
        with self._lock:
            self._matches += 1
            wanted = self._matches % 2 == 1 and self.cuts < self._most
            self.cuts += wanted
            return wanted


class Line:
    """One client and its connection to the server."""

    def __init__(self, proxy: CutProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._swallowing = threading.Event()
        self._in_transaction = b""  # what it has sent since its last COMMIT or ROLLBACK

    def start(self) -> None:
        """Begin to pass on, both ways."""
        for direction in (self._up, self._down):
            threading.Thread(target=direction, daemon=True).start()

    def _up(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._client.recv(CHUNK):
                rule = self._proxy.rule()
                if rule is not None and self._matches(rule, data) and self._proxy.is_next():
                    if rule.when == "before":
                        break
                    self._swallowing.set()
                self._remember(data)
                self._server.sendall(data)
        if not self._swallowing.is_set():
            self._cut()

    def _down(self) -> None:
        with contextlib.suppress(OSError):
            while (data := self._server.recv(CHUNK)) and not self._swallowing.is_set():
                self._client.sendall(data)
        self._cut()

    def _matches(self, rule: Rule, data: bytes) -> bool:
        if rule.following is not None and not rule.following.search(self._in_transaction):
            return False
        return rule.statement.search(data) is not None

    def _remember(self, data: bytes) -> None:
        if END_OF_TRANSACTION.search(data):
            self._in_transaction = b""
        else:
            self._in_transaction += data

    def _cut(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def connect(server: Address) -> socket.socket:
    """Connect to a port, or to the socket of this name."""
    if isinstance(server, tuple):
        line = socket.create_connection(server)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line
    line = socket.socket(socket.AF_UNIX)
    line.connect(server)
    return line
