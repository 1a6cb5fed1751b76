"""Measure a page without becoming a door into the private network.

The visitor chooses the address, so it is checked where the connection is made: the
host is resolved once, *every* address it has must be public, and the connection goes to
an address that was checked. A name whose answer changes between the check and the
connection (DNS rebinding) gains nothing, and a redirect passes the same door. Nothing is
decompressed, and of a redirect only its headers are read.
"""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx

Address = IPv4Address | IPv6Address
Resolver = Callable[[str], Awaitable[list[str]]]

# All that is given to networks of the internet. Outside are site-local addresses, NAT64 and
# other disguises of IPv4, and whatever is reserved.
GLOBAL_UNICAST = IPv6Network("2000::/3")
# Python calls them global, or did; the last is for documentation.
NOT_FETCHED = (IPv4Network("192.88.99.0/24"), IPv6Network("2001::/23"), IPv6Network("3fff::/20"))


class FetchFailed(Exception):
    """The page could not be measured this time."""


class AddressRefused(FetchFailed):
    """The page is at an address that this site does not fetch, today or later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of somebody else's server we are ready to endure."""

    size: int = 5_000_000  # bytes of the body, as they travel
    time: timedelta = timedelta(seconds=4)  # for everything, redirects included
    redirects: int = 3


def is_public(address: Address) -> bool:
    """Say whether an address is one that anybody on the internet may talk to."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
        if address.sixtofour or address not in GLOBAL_UNICAST:
            return False
    refused = any(address.version == one.version and address in one for one in NOT_FETCHED)
    return address.is_global and not address.is_multicast and not refused


async def resolve(host: str) -> list[str]:
    """Ask the system for all addresses of a host."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def give(found: list[str] | None, error: Exception | None) -> None:
        if answer.done():
            return  # nobody waits any more
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found or [])

    def ask() -> None:
        found, failure = None, None
        try:
            found = [one[4][0] for one in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError) as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(give, found, failure)

    # Not loop.getaddrinfo(): at its end the loop would wait for that thread, which may take
    # minutes if the name server is slow.
    threading.Thread(target=ask, daemon=True).start()
    return await answer


class CheckedTransport(httpx.AsyncBaseTransport):
    """Connect to public addresses only, and to exactly the address that was checked.

    ``own_origin``, the demo's own address, is the one exception.
    """

    def __init__(
        self,
        *,
        own_origin: httpx.URL | None = None,
        inner: httpx.AsyncBaseTransport | None = None,
        resolver: Resolver = resolve,
    ) -> None:
        self._own_origin = own_origin
        self._inner = inner or httpx.AsyncHTTPTransport()
        self._resolve = resolver

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Check, then send; a redirect comes here again."""
        address = await self._checked_address(request.url)
        return await self._inner.handle_async_request(_pinned(request, address))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    async def _checked_address(self, url: httpx.URL) -> str:
        if url.scheme not in ("http", "https"):
            raise AddressRefused(f"only http and https are fetched, not {url.scheme}")
        if self._own_origin and _same_origin(url, self._own_origin):
            return self._own_origin.host
        host = url.raw_host.decode("ascii")
        try:
            found = await self._resolve(host)
        except (OSError, UnicodeError) as error:
            raise FetchFailed(f"no address is known for {host}") from error
        addresses = [ip_address(address) for address in found]
        if not all(map(is_public, addresses)):
            # Without the address: nobody is to learn by our name server who is where inside.
            raise AddressRefused(f"{host} is not public")
        # IPv4 first: a computer without IPv6 is more common than one without IPv4.
        return str(min(addresses, key=lambda address: address.version))


def _pinned(request: httpx.Request, address: str) -> httpx.Request:
    """Aim the request at an address; Host header and certificate stay the name's."""
    name = request.url.raw_host.decode("ascii")
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        extensions={**request.extensions, "sni_hostname": name},
    )


def _same_origin(url: httpx.URL, origin: httpx.URL) -> bool:
    return (url.scheme, url.host, url.port) == (origin.scheme, origin.host, origin.port)


def measure(
    url: str,
    *,
    own_origin: str,
    limits: Limits | None = None,
    inner: httpx.AsyncBaseTransport | None = None,
    resolver: Resolver = resolve,
) -> int:
    """Return how many bytes the page at ``url`` has.

    Raises ``AddressRefused`` when it will never be fetched, ``FetchFailed`` when it
    could not be fetched now; both say why in words for the visitor.
    """
    limits = limits or Limits()
    try:
        # Only a visitor may name our own pages; no page elsewhere redirects to them.
        own = httpx.URL(own_origin)
        transport = CheckedTransport(
            own_origin=own if _same_origin(httpx.URL(url), own) else None,
            inner=inner,
            resolver=resolver,
        )
        return asyncio.run(_measure(url, transport, limits))
    except TimeoutError as error:
        seconds = limits.time.total_seconds()
        raise FetchFailed(f"took longer than {seconds:g} seconds") from error
    except httpx.InvalidURL as error:
        raise AddressRefused(f"not an address: {error}") from error
    except httpx.HTTPError as error:
        raise FetchFailed(str(error) or type(error).__name__) from error


async def _measure(url: str, transport: CheckedTransport, limits: Limits) -> int:
    # One time limit around everything: a limit for each read would never end a server
    # that sends a byte now and then.
    async with (
        asyncio.timeout(limits.time.total_seconds()),
        httpx.AsyncClient(
            transport=transport,
            timeout=None,  # noqa: S113 - see above
            trust_env=False,
            headers={"Accept-Encoding": "identity", "User-Agent": "aftercommit-demo"},
        ) as client,
        _last_response(client, url, limits) as response,
    ):
        if response.is_error:
            raise FetchFailed(f"{response.status_code} {response.reason_phrase}")
        return await _length_of(response, limits)


@asynccontextmanager
async def _last_response(
    client: httpx.AsyncClient, url: str, limits: Limits
) -> AsyncIterator[httpx.Response]:
    """Yield the response after all redirects.

    Not by ``follow_redirects``: httpx would read the body of each redirect, decompressed and
    without a limit.
    """
    request = client.build_request("GET", url)
    for _ in range(limits.redirects + 1):
        response = await client.send(request, stream=True)
        try:
            if response.next_request is None:
                yield response
                return
            request = response.next_request
        finally:
            await response.aclose()
    raise FetchFailed(f"more than {limits.redirects} redirects")


async def _length_of(response: httpx.Response, limits: Limits) -> int:
    length = 0
    async for part in response.aiter_raw():
        length += len(part)
        if length > limits.size:
            raise FetchFailed(f"longer than {limits.size:,} bytes")
    return length
