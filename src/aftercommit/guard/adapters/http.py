"""HTTP: the clients in which every request of their users ends."""

import http.client
from collections.abc import Callable
from functools import partial, wraps
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from aftercommit.guard.dispatches import Dispatch, passing, someone_is_interested
from aftercommit.guard.patches import OnImport, patch


def install(on_import: OnImport) -> None:
    """Notice the requests of all clients.

    ``urllib``, urllib3 and botocore send by way of ``http.client``; ``requests`` is asked above
    it, where tests do not replace it.
    """
    patch(http.client.HTTPConnection, "putrequest", _by_http_client)
    on_import.when("requests.sessions", _patch_requests)
    on_import.when("httpx._client", _patch_httpx)
    on_import.when("aiohttp.client", _patch_aiohttp)


def _patch_requests(module: ModuleType) -> None:
    patch(module.Session, "send", _by_request)


def _patch_httpx(module: ModuleType) -> None:
    patch(module.Client, "send", _by_request)
    patch(module.AsyncClient, "send", _by_request_later)


def _patch_aiohttp(module: ModuleType) -> None:
    patch(module.ClientSession, "_request", _by_aiohttp)


def _passed(method: object, host: object, send: Callable[[], Any]) -> Any:
    # Only the host: paths and queries have tokens and names of people in them.
    subject = f"A {method} request to {host}"
    return passing(Dispatch(adapter="http", subject=subject, send=send))


def _by_http_client(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def putrequest(self: Any, method: str, *args: Any, **options: Any) -> Any:
        send = partial(original, self, method, *args, **options)
        return _passed(method, self.host, send) if someone_is_interested() else send()

    return putrequest


def _by_request(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``send(request)`` of requests and of httpx."""

    @wraps(original)
    def send(self: Any, request: Any, *args: Any, **options: Any) -> Any:
        go = partial(original, self, request, *args, **options)
        return _passed(request.method, _host(request), go) if someone_is_interested() else go()

    return send


def _by_request_later(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def send(self: Any, request: Any, *args: Any, **options: Any) -> Any:
        go = partial(original, self, request, *args, **options)
        interested = someone_is_interested()
        return await (_passed(request.method, _host(request), go) if interested else go())

    return send


def _by_aiohttp(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def _request(self: Any, method: str, url: Any, *args: Any, **options: Any) -> Any:
        go = partial(original, self, method, url, *args, **options)
        interested = someone_is_interested()
        return await (_passed(method, urlsplit(str(url)).hostname, go) if interested else go())

    return _request


def _host(request: Any) -> str | None:
    return urlsplit(str(request.url)).hostname
