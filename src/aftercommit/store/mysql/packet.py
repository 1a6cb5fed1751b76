"""Which texts fit into a statement: the server breaks the connection over a larger one."""

from typing import Any

from aftercommit.errors import PayloadTooLarge

LIMIT = "SELECT @@max_allowed_packet"
SMALL = 16 * 1024  # characters; a shorter text always fits
SMALL_TOGETHER = 128 * 1024  # several texts, shorter than that together, always fit
LARGEST_ESCAPE = 8  # bytes that one character may become
ESCAPED = (b"\0", b"\n", b"\r", b"\x1a", b'"', b"'", b"\\")  # by a backslash before each
REST = 4 * 1024  # bytes, for the other values of the statement


class Packets:
    """Knows ``max_allowed_packet`` of a server, and compares texts with it before they are sent.

    The error of the server would not say which value was too large, and often it is no more
    than a lost connection.
    """

    def __init__(self) -> None:
        self._limit: int | None = None

    def limit(self, connection: Any) -> int:
        """Return the largest statement in bytes."""
        return self._ask(connection) if self._limit is None else self._limit

    def check(self, connection: Any, text: str | None, *, what: str, task_path: str) -> None:
        """Raise ``PayloadTooLarge`` if a text does not fit."""
        if text is None or len(text) < SMALL:
            return
        if len(text) * LARGEST_ESCAPE + REST <= self.limit(connection):
            return
        size = _escaped(text) + REST
        if size > self.limit(connection) and size > self._ask(connection):  # it may be larger now
            raise PayloadTooLarge(
                what=f"{what}, escaped for the database (max_allowed_packet),",
                size=size,
                limit=self.limit(connection),
                task_path=task_path,
            )

    def _ask(self, connection: Any) -> int:
        with connection.cursor() as cursor:
            cursor.execute(LIMIT)
            self._limit = limit = int(cursor.fetchone()[0])
        return limit


def _escaped(text: str) -> int:
    """Return how many bytes a text takes in a statement."""
    data = text.encode(errors="surrogatepass")
    return len(data) + sum(map(data.count, ESCAPED))
