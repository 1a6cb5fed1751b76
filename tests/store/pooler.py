"""A pooler between the tests and PostgreSQL: another server connection for each transaction."""

import secrets
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

ENCRYPTION = {80877103, 80877104}  # the codes of SSLRequest and GSSENCRequest
SERVERS = 2  # for each client
ENOUGH = 65536  # bytes
IDLE = b"I"


@contextmanager
def transaction_pooler(host: str, port: str, *, own_numbers: bool) -> Iterator[int]:
    """Pool in transaction mode while the block lasts; yield the port.

    ``own_numbers``: it invents the number of the server process, as PgBouncer does.
    """

    def connect() -> socket.socket:
        if host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{host}/.s.PGSQL.{port or 5432}")
            return server
        return socket.create_connection((host or "localhost", int(port or 5432)))

    with socket.create_server(("127.0.0.1", 0)) as door:
        serving = threading.Thread(target=_serve, args=(door, connect, own_numbers), daemon=True)
        serving.start()
        yield door.getsockname()[1]
        door.shutdown(socket.SHUT_RDWR)
        serving.join()


def _serve(door: socket.socket, connect: Callable[[], socket.socket], own_numbers: bool) -> None:
    clients = []
    while True:
        try:
            client, _address = door.accept()
        except OSError:  # closed
            break
        clients.append(threading.Thread(target=_relay, args=(client, connect, own_numbers)))
        clients[-1].start()
    for one in clients:
        one.join()


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


def _one_transaction(client: socket.socket, server: socket.socket) -> bool:
    """Relay until a transaction has ended; False if the client has gone."""
    pending = b""
    while True:
        for one in select.select([client, server], [], [])[0]:
            data = one.recv(ENOUGH)
            if not data or (one is client and data[:1] == b"X"):
                return False
            if one is client:
                server.sendall(data)
                continue
            pending += data
            client.sendall(data)
            messages, pending = _messages(pending)
            if any(kind == b"Z" and body == IDLE for kind, body in messages):
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
