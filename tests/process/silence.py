"""A network that eats packets: connections stay open, and nobody ever answers."""

import contextlib
import socket
import threading

CHUNK = 64 * 1024


class SilentProxy:
    """Passes bytes on between clients and a database server, until it falls silent.

    From then on it reads what comes and keeps it; nothing is closed, and new connections
    are accepted. So does a firewall that has forgotten a connection.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._silent = threading.Event()
        self._open: list[socket.socket] = []
        self.eaten = b""  # what clients and the server have sent since then
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def fall_silent(self) -> None:
        """Pass nothing on any more, either way."""
        self._silent.set()

    def close(self) -> None:
        """Close everything."""
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                server = socket.create_connection(self._server)
                self._open += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                if not self._silent.is_set():
                    target.sendall(data)
                else:
                    self.eaten += data
        if not self._silent.is_set():
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
