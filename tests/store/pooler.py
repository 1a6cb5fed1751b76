"""A pooler between the tests and PostgreSQL: another server connection for each transaction."""

import secrets
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

ENCRYPTION = {80877103, 80877104}  # the codes of SSLRequest and GSSENCRequest
SERVERS = 2  # for each client
ENOUGH = 65536  # bytes
IDLE = b"I"


@contextmanager
def transaction_pooler(
    host: str, port: str, *, own_numbers: bool, shared: bool = False
) -> Iterator[int]:
    """Pool in transaction mode while the block lasts; yield the port.

    ``own_numbers``: it invents the number of the server process, as PgBouncer does.
    ``shared``: all clients share the servers, and the one that was used last is used next, as
    by PgBouncer; else each client has two of its own, in turn.
    """
    servers = _Shared()
    relay = servers.relay if shared else _relay

    def connect() -> socket.socket:
        if host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{host}/.s.PGSQL.{port or 5432}")
            return server
        return socket.create_connection((host or "localhost", int(port or 5432)))

    with socket.create_server(("127.0.0.1", 0)) as door:
        serving = threading.Thread(
            target=_serve, args=(door, connect, own_numbers, relay), daemon=True
        )
        serving.start()
        yield door.getsockname()[1]
        door.shutdown(socket.SHUT_RDWR)
        serving.join()
        servers.close()


def _serve(
    door: socket.socket,
    connect: Callable[[], socket.socket],
    own_numbers: bool,
    relay: Callable[..., None],
) -> None:
    clients = []
    while True:
        try:
            client, _address = door.accept()
        except OSError:  # closed
            break
        clients.append(
            threading.Thread(target=relay, args=(client, connect, own_numbers), daemon=True)
        )
        clients[-1].start()
    for one in clients:
        one.join()


class _Shared:
    """Servers that are free, the last used one last."""

    def __init__(self) -> None:
        self._free: list[socket.socket] = []
        self._lock = threading.Lock()

    def relay(
        self, client: socket.socket, connect: Callable[[], socket.socket], own_numbers: bool
    ) -> None:
        """Serve a client to its end."""
        with client:
            startup = _startup(client)
            server = connect()  # the answer to a login is that of a server
            welcome = _log_in(server, startup)
            client.sendall(_renumbered(welcome) if own_numbers else welcome)
            self._give_back(server)
            while _begins(client):
                with self._lock:
                    server = self._free.pop() if self._free else None
                if server is None:
                    server = connect()
                    _log_in(server, startup)
                if not _one_transaction(client, server, over=partial(self._give_back, server)):
                    server.close()
                    return

    def close(self) -> None:
        """Close those that are free, when no client is left."""
        for server in self._free:
            server.close()

    def _give_back(self, server: socket.socket) -> None:
        with self._lock:
            self._free.append(server)


def _begins(client: socket.socket) -> bool:
    """Wait for the next transaction of a client; False if it has gone."""
    try:
        first = client.recv(1, socket.MSG_PEEK)
    except OSError:
        return False
    return first not in {b"", b"X"}


def _relay(
    client: socket.socket, connect: Callable[[], socket.socket], own_numbers: bool
) -> None:
    with ExitStack() as stack:
        stack.enter_context(client)
        startup = _startup(client)
        servers = [stack.enter_context(connect()) for _ in range(SERVERS)]
        welcomes = [_log_in(server, startup) for server in servers]
        client.sendall(_renumbered(welcomes[0]) if own_numbers else welcomes[0])
        while _one_transaction(client, servers[0]):
            servers.append(servers.pop(0))


def _one_transaction(
    client: socket.socket, server: socket.socket, over: Callable[[], None] = lambda: None
) -> bool:
    """Relay until a transaction has ended; False if the client has gone.

    ``over`` is called before the client hears of the end.
    """
    pending = b""
    while True:
        for one in select.select([client, server], [], [])[0]:
            data = one.recv(ENOUGH)
            if not data or (one is client and data[:1] == b"X"):
                return False
            if one is client:
                server.sendall(data)
                continue
            messages, pending = _messages(pending + data)
            ended = any(kind == b"Z" and body == IDLE for kind, body in messages)
            if ended:
                over()
            client.sendall(data)
            if ended:
                return True


def _startup(client: socket.socket) -> bytes:
    while True:
        packet = client.recv(ENOUGH)
        if struct.unpack("!I", packet[4:8])[0] not in ENCRYPTION:
            return packet
        client.sendall(b"N")


def _log_in(server: socket.socket, startup: bytes) -> bytes:
    """Return what the server sends to a new client, up to ReadyForQuery."""
    server.sendall(startup)
    answer = b""
    while True:
        answer += server.recv(ENOUGH)
        messages, _rest = _messages(answer)
        if any(kind in {b"Z", b"E"} for kind, _body in messages):
            return answer


def _messages(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Split into whole messages and the rest."""
    found = []
    while len(data) >= 5 and len(data) > (size := struct.unpack("!I", data[1:5])[0]):
        found.append((data[:1], data[5 : size + 1]))
        data = data[size + 1 :]
    return found, data


def _renumbered(welcome: bytes) -> bytes:
    sent = b""
    for kind, body in _messages(welcome)[0]:
        told = secrets.token_bytes(len(body)) if kind == b"K" else body
        sent += kind + struct.pack("!I", len(told) + 4) + told
    return sent
