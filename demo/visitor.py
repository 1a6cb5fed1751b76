"""Somebody at a browser: keeps cookies, sends the forms, reads the lists."""

from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import httpx

from processes import DemoFailed

ADMIN = {"username": "admin", "password": "demo", "next": "/admin/"}
NO_INLINES = {"offers-TOTAL_FORMS": "0", "offers-INITIAL_FORMS": "0"}


class Visitor:
    """Visits the rooms of a running demo over HTTP."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        # As long as SQLite may let a request wait for the writers before it.
        self._http = httpx.Client(base_url=origin, timeout=60, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, address: str) -> httpx.Response:
        """Open a page."""
        return self._http.get(address)

    def rows(self, room: str, name: str) -> list[dict[str, str]]:
        """Return a list of a room, as the page would show it now."""
        rows: list[dict[str, str]] = self.get(f"/{room}/rows/").json()["rows"][name]
        return rows

    def text(self, room: str, name: str) -> str:
        """Return a line of a room, as the page would show it now."""
        found: str = self.get(f"/{room}/rows/").json()["texts"][name]
        return found

    def measure(self, url: str) -> httpx.Response:
        """Enter an address in the room of the URL lengths."""
        return _taken(self.submit("/lengths/", "/lengths/add/", url=url))

    def sign_up(self, name: str, *, fail: bool = False) -> httpx.Response:
        """Create an account, or let the request fail after its mail was enqueued."""
        fields = {"username": name, "email": f"{name}@example.org"}
        if fail:
            fields["fail"] = "on"
        return self.submit("/signup/", "/signup/create/", **fields)

    def start_import(self) -> httpx.Response:
        """Import the sample in the back office."""
        return _taken(self.submit("/office/", "/office/import/"))

    def send_messages(self) -> httpx.Response:
        """Send messages to the provider in the back office."""
        return _taken(self.submit("/office/", "/office/send/"))

    def start_race(self) -> httpx.Response:
        """Let a task and a batch write rows in the back office."""
        return _taken(self.submit("/office/", "/office/race/"))

    def run_report(self) -> httpx.Response:
        """Run the nightly report of the back office now."""
        return _taken(self.submit("/office/", "/office/report/"))

    def log_in(self) -> httpx.Response:
        """Enter the admin."""
        form = "/admin/login/"
        return _taken(self.submit(form, form, **ADMIN))

    def change_price(self, product: int, name: str, price: Decimal) -> httpx.Response:
        """Edit a product in the admin; ``log_in`` first."""
        form = f"/admin/shop/product/{product}/change/"
        return _taken(self.submit(form, form, name=name, price=str(price), **NO_INLINES))

    def submit(self, form: str, action: str, **fields: Any) -> httpx.Response:
        """Open the page of a form and send it; do not follow where the answer leads."""
        self.get(form).raise_for_status()
        token = self._http.cookies["csrftoken"]
        return self._http.post(action, data={**fields, "csrfmiddlewaretoken": token})


def _taken(answer: httpx.Response) -> httpx.Response:
    # Django answers a form that it took with a redirect.
    if not answer.is_redirect:
        raise DemoFailed(f"{answer.url} answered {answer.status_code}:\n{answer.text}")
    return answer
