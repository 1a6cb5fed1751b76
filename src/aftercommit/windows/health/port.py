"""The port of a worker: ``/healthz``, ``/readyz`` and ``/metrics``.

It is served beside the supervisor, which must not wait for whoever reads slowly, and asks no
database: a worker whose database hangs answers at once, and says so.
"""

import json
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit

from aftercommit.errors import ConfigurationError
from aftercommit.safe_log import log_error
from aftercommit.worker.counts import Counts, Row
from aftercommit.worker.processes.aside import Aside
from aftercommit.worker.processes.channel import Channel
from aftercommit.worker.processes.report import WorkerReport
from aftercommit.worker.runs import now

logger = logging.getLogger("aftercommit")

SILENT = timedelta(seconds=10)  # the supervisor tells how it is twice a second
TO_END = timedelta(seconds=1)
LONGEST = timedelta(seconds=5)  # for a request and its answer, however slowly the peer goes on
MOST_AT_ONCE = 20  # requests; more are refused, so that nobody fills the memory
NOT_YET = "the worker has not begun"


class Latest:
    """The last report of the supervisor, how long ago that was, and what was counted."""

    def __init__(self) -> None:
        self.report: WorkerReport | None = None
        self.counts = Counts()
        self._at = now()

    def note(self, report: WorkerReport) -> None:
        """Take a new one."""
        self.report, self._at = report, now()

    @property
    def silence(self) -> list[str]:
        """Why nothing is known; nothing, if the supervisor has spoken a moment ago."""
        silent_for = now() - self._at
        if silent_for < SILENT.total_seconds():
            return []
        return [f"the supervisor of the worker shows no sign of life for {silent_for:.0f} s"]

    def why_not_ready(self) -> list[str]:
        """Return why jobs are not claimed."""
        if self.report is None:
            return self.silence or [NOT_YET]
        return [*self.silence, *self.report.why_not_ready()]

    def why_not_alive(self) -> list[str]:
        """Return why only a new worker would help."""
        if self.report is None:
            return self.silence
        return [*self.silence, *self.report.why_not_alive()]


class HealthPort:
    """Serves the port, in a fork where that is safe, or in a thread."""

    def __init__(self, address: tuple[str, int], *, may_fork: bool) -> None:
        self._counts = Counts()  # that the port has not been told of
        self._aside = Aside(
            lambda channel: serve(address, channel), name="health-port", may_fork=may_fork
        )

    def tell(self, report: WorkerReport) -> None:
        """Pass a report on; one is left out if nobody reads it at this moment."""
        self._aside.tell(**report.as_message())
        self._counts.hand_on(lambda rows: self._aside.tell(counts=rows))

    def count(self, rows: list[Row]) -> None:
        """Pass on, with the next report that is read, what a process has counted."""
        try:
            self._counts.add_rows(rows)
        except Exception as error:  # a task may write to any descriptor
            log_error("What a worker process has counted cannot be read", error=error)

    def end(self) -> None:
        """Close the port."""
        self._aside.end(TO_END)


def check_free(address: tuple[str, int]) -> None:
    """Raise ``ConfigurationError`` if the port cannot be had."""
    try:
        with socket.create_server(address, family=_family(address)):
            pass
    except OSError as error:
        host, port = address
        raise ConfigurationError(
            f"--health-port: {host or '*'}:{port} cannot be had ({error.strerror or error}).\n"
            "Another worker on this machine has it, perhaps.\n"
            "Fix: give each worker a port of its own, such as --health-port 8002."
        ) from error


def serve(address: tuple[str, int], channel: Channel) -> None:
    """Serve until the channel is closed: the supervisor has ended."""
    latest = Latest()
    server = _server(address, latest)
    threading.Thread(target=server.serve_forever, name="aftercommit-health", daemon=True).start()
    try:
        for message in channel:
            try:
                if "counts" in message:
                    latest.counts.add_rows(message["counts"])
                else:
                    latest.note(WorkerReport.of(message))
            except Exception as error:
                log_error("A report of the worker cannot be read", error=error)
    finally:
        server.shutdown()
        server.server_close()


def _family(address: tuple[str, int]) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def _server(address: tuple[str, int], latest: Latest) -> ThreadingHTTPServer:
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = _family(address)
        free = threading.BoundedSemaphore(MOST_AT_ONCE)

        def process_request(self, request: Any, client_address: Any) -> None:
            if not self.free.acquire(blocking=False):
                self.shutdown_request(request)
                return
            super().process_request(request, client_address)

        def process_request_thread(self, request: Any, client_address: Any) -> None:
            try:
                super().process_request_thread(request, client_address)
            finally:
                self.free.release()

        def handle_error(self, request: Any, client_address: Any) -> None:
            logger.debug("A request to the health port failed", exc_info=True)

    class Handler(Pages):
        known = latest

    return Server(address, Handler)


class Pages(BaseHTTPRequestHandler):
    """Answers a request from what is known."""

    known: ClassVar[Latest]
    server_version, sys_version = "aftercommit", ""

    def setup(self) -> None:
        """Begin a request, which is broken off if it takes too long."""
        super().setup()
        # Not by a timeout of the socket, which begins anew with each byte.
        self._deadline = threading.Timer(LONGEST.total_seconds(), self._break_off)
        self._deadline.daemon = True
        self._deadline.start()

    def finish(self) -> None:
        """End a request."""
        self._deadline.cancel()
        super().finish()

    def do_GET(self) -> None:
        """Answer with the page."""
        pages: dict[str, Callable[[], None]] = {
            "/healthz": lambda: self._health(self.known.why_not_alive(), good="alive"),
            "/readyz": lambda: self._health(self.known.why_not_ready(), good="ready"),
            "/metrics": self._metrics,
        }
        page = pages.get(urlsplit(self.path).path)
        if page is None:
            self._answer(HTTPStatus.NOT_FOUND, b"/healthz, /readyz or /metrics\n")
        else:
            page()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Log no line for each probe."""
        logger.debug("Health port: %s", format % args)

    def _break_off(self) -> None:
        with suppress(OSError):  # the peer has gone
            self.connection.shutdown(socket.SHUT_RDWR)

    def _health(self, reasons: list[str], *, good: str) -> None:
        report = self.known.report
        content = {
            "status": f"not {good}" if reasons else good,
            "reasons": reasons,
            # What a probe of life does not count, people want to know as well.
            "notices": [one for one in self.known.why_not_ready() if one not in reasons],
            "running": 0 if report is None else report.running,
            "done": 0 if report is None else report.done,
        }
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        text = json.dumps(content, indent=1) + "\n"
        self._answer(status, text.encode(), content_type="application/json")

    def _metrics(self) -> None:
        try:
            from aftercommit.windows.metrics import worker  # noqa: PLC0415 - an optional extra
        except ImportError as error:
            self._answer(HTTPStatus.NOT_IMPLEMENTED, f"{error}\n".encode())
            return
        ready = not self.known.why_not_ready()
        content, content_type = worker.text(
            self.known.report,
            self.known.counts.sums(),
            ready=ready,
            accept=self.headers.get("Accept", ""),
        )
        self._answer(HTTPStatus.OK, content, content_type=content_type)

    def _answer(
        self, status: HTTPStatus, content: bytes, *, content_type: str = "text/plain"
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
