"""The fetcher's rules: which addresses, how much, how long."""

import asyncio
import gzip
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import httpx
import pytest
from lengths.fetch import AddressRefused, FetchFailed, Limits, is_public, measure

OWN = "http://127.0.0.1:8000"
PUBLIC = "93.184.215.14"
PUBLIC_6 = "2606:4700:4700::1111"

NOT_PUBLIC = [
    "0.1.2.3",
    "0.0.0.0",  # noqa: S104 - an address to refuse, not to listen on
    "10.1.2.3",
    "100.64.0.1",  # shared by the customers of a provider
    "127.0.0.1",
    "127.9.9.9",
    "169.254.169.254",  # where clouds keep their credentials
    "172.16.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:10.1.2.3",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",  # 127.0.0.1 behind NAT64
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
    "2002:7f00:1::",  # 127.0.0.1 in 6to4
    "64:ff9b::a00:1",
    "64:ff9b:1::a00:1",  # the network's own NAT64
    "::7f00:1",  # as IPv6 was first written for IPv4
    "::ffff:0:7f00:1",  # and as it was translated
    "::ffff:100.64.0.1",
    "::ffff:0.0.0.0",
    "100::1",
    "2001:db8::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fec0::1",
    "feff::1",
    "fec0::1%1",
    "fe80::1",
    "fe80::1%1",
    "ff02::1",
    "ff0e::1",
]


class Web:
    """A web that answers from a dictionary, and names that resolve as told."""

    def __init__(
        self, pages: dict[str, Any] | None = None, names: dict[str, Any] | None = None
    ) -> None:
        self.pages = pages or {}
        self.names = names or {}
        self.requests: list[httpx.Request] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        page = self.pages.get(request.url.path, b"12345")
        if callable(page):
            page = await page()
        if isinstance(page, httpx.Response):
            return page
        return streamed(page)

    async def resolve(self, host: str) -> list[str]:
        found = self.names.get(host, [PUBLIC])
        if isinstance(found, Exception):
            raise found
        if isinstance(found, list):
            return found
        return next(found)

    def measure(self, url: str, limits: Limits | None = None) -> int:
        return measure(
            url,
            own_origin=OWN,
            limits=limits,
            inner=httpx.MockTransport(self.answer),
            resolver=self.resolve,
        )


def streamed(body: bytes, **headers: str) -> httpx.Response:
    async def parts() -> AsyncIterator[bytes]:
        yield body

    return httpx.Response(200, content=parts(), headers=headers)


def redirect(to: str) -> httpx.Response:
    return httpx.Response(302, headers={"Location": to})


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused_before_anything_is_sent(address):
    web = Web(names={"host.example": [address]})

    with pytest.raises(AddressRefused, match="not public"):
        web.measure("http://host.example/")

    assert web.requests == []


@pytest.mark.parametrize("address", [PUBLIC, PUBLIC_6, f"::ffff:{PUBLIC}"])
def test_a_public_address_is_fetched(address):
    assert is_public(ip_address(address))
    assert Web(names={"host.example": [address]}).measure("http://host.example/") == 5


@pytest.mark.parametrize("answers", [[PUBLIC, "10.0.0.1"], ["::1", PUBLIC, PUBLIC_6]])
def test_one_bad_address_among_good_ones_is_enough_to_refuse(answers):
    web = Web(names={"mixed.example": answers})

    with pytest.raises(AddressRefused):
        web.measure("http://mixed.example/")

    assert web.requests == []


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::1]"]
)
def test_the_systems_own_resolver_finds_this_computer_under_every_spelling(host):
    with pytest.raises(FetchFailed) as refusal:
        measure(f"http://{host}:9/", own_origin=OWN)

    # Some systems do not read all spellings; what matters is that none gets through.
    assert "not public" in str(refusal.value) or "no address" in str(refusal.value)


def test_the_connection_goes_to_the_checked_address_under_the_hosts_name():
    web = Web()

    web.measure("https://host.example:8443/page?a=b")

    (request,) = web.requests
    assert str(request.url) == f"https://{PUBLIC}:8443/page?a=b"
    assert request.headers["Host"] == "host.example:8443"
    assert request.extensions["sni_hostname"] == "host.example"


def test_an_ipv6_address_is_pinned_in_brackets():
    web = Web(names={"six.example": [PUBLIC_6]})

    web.measure("http://six.example/")

    assert str(web.requests[0].url) == f"http://[{PUBLIC_6}]/"


def test_a_name_that_changes_its_answer_gains_nothing():
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    web = Web(pages={"/": redirect("/again")}, names={"rebinding.example": answers})

    with pytest.raises(AddressRefused):
        web.measure("http://rebinding.example/")

    assert [request.url.host for request in web.requests] == [PUBLIC]


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:10.0.0.1]/",
        "http://inside.example/",
        f"{OWN}/admin/",
        "ftp://host.example/",
        "file:///etc/passwd",
    ],
)
def test_a_redirect_passes_the_same_door(target):
    names = {
        "inside.example": ["192.168.0.7"],
        "169.254.169.254": ["169.254.169.254"],
        "::ffff:10.0.0.1": ["::ffff:10.0.0.1"],
        "127.0.0.1": ["127.0.0.1"],
    }
    web = Web(pages={"/": redirect(target)}, names=names)

    with pytest.raises(FetchFailed):
        web.measure("http://host.example/")

    assert len(web.requests) == 1


@pytest.mark.parametrize("encoding", ["identity", "gzip", "br"])
def test_the_body_of_a_redirect_is_not_read(encoding):
    read = []

    async def bomb() -> AsyncIterator[bytes]:
        read.append(1)
        yield gzip.compress(b"0" * 1_000_000)

    headers = {"Location": "/there", "Content-Encoding": encoding}
    away = httpx.Response(302, headers=headers, content=bomb())
    web = Web(pages={"/": away, "/there": b"123"})

    assert web.measure("http://host.example/", Limits(time=timedelta(seconds=60))) == 3
    assert read == []
    assert away.is_closed


@pytest.mark.parametrize(
    "location", ["http://[", "//", "\x00", "http://host.example:99999/", "x" * 70_000]
)
def test_a_redirect_to_what_is_no_address_is_the_end(location):
    away = httpx.Response(302, headers=[(b"Location", location.encode())])

    with pytest.raises(FetchFailed):
        Web(pages={"/": away}, names={"": socket.gaierror("none")}).measure(
            "http://host.example/"
        )


def test_who_is_where_inside_is_not_told():
    web = Web(names={"wiki.corp": ["10.1.2.3"]})

    with pytest.raises(AddressRefused) as refusal:
        web.measure("http://wiki.corp/")

    assert "10.1.2.3" not in str(refusal.value)


def test_a_slow_name_server_costs_no_more_than_the_time_limit(monkeypatch):
    answered, asked = threading.Event(), threading.Event()

    def slow(*_args: Any, **_more: Any) -> Any:
        asked.set()
        answered.wait(60)
        raise socket.gaierror("too late")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    # In a thread, so that a fetcher that waits for the answer is seen and does not hang.
    limits = Limits(time=timedelta(milliseconds=100))
    failures: list[FetchFailed] = []

    def fetch() -> None:
        try:
            measure("http://slow.example/", own_origin=OWN, limits=limits)
        except FetchFailed as failure:
            failures.append(failure)

    fetching = threading.Thread(target=fetch, daemon=True)
    fetching.start()
    fetching.join(30)

    assert asked.is_set()
    assert not fetching.is_alive()
    assert "took longer than 0.1 seconds" in str(failures[0])
    answered.set()


def test_a_redirect_among_public_pages_is_followed():
    web = Web(pages={"/": redirect("/there"), "/there": b"123"})

    assert web.measure("https://host.example/") == 3


def test_redirects_have_an_end():
    web = Web(pages={"/": redirect("/")})

    with pytest.raises(FetchFailed, match="more than 3 redirects"):
        web.measure("https://host.example/")


def test_only_a_visitor_may_name_the_demos_own_pages():
    assert Web(names={"127.0.0.1": ["127.0.0.1"]}).measure(f"{OWN}/examples/page/") == 5


@pytest.mark.parametrize("other", ["http://127.0.0.1:8001/", "https://127.0.0.1:8000/"])
def test_the_next_port_is_not_our_own(other):
    with pytest.raises(AddressRefused):
        Web(names={"127.0.0.1": ["127.0.0.1"]}).measure(other)


@pytest.mark.parametrize("url", ["ftp://host.example/", "file:///etc/passwd"])
def test_only_http_and_https(url):
    with pytest.raises(FetchFailed):
        Web().measure(url)


def test_a_page_that_is_not_there_says_so():
    web = Web(pages={"/": httpx.Response(404)})

    with pytest.raises(FetchFailed, match="404 Not Found"):
        web.measure("http://host.example/")


def test_a_host_without_an_address_may_be_tried_again():
    web = Web(names={"gone.example": socket.gaierror("unknown")})

    with pytest.raises(FetchFailed, match=r"no address is known for gone\.example") as no:
        web.measure("http://gone.example/")

    assert not isinstance(no.value, AddressRefused)


def test_a_host_name_that_is_too_long_is_no_crash():
    with pytest.raises(FetchFailed):
        measure(f"http://{'a' * 70}.example/", own_origin=OWN)


def test_a_body_is_read_up_to_the_limit_and_no_further():
    read = []

    async def body() -> AsyncIterator[bytes]:
        while True:
            read.append(1000)
            yield b"x" * 1000

    web = Web(pages={"/": httpx.Response(200, content=body())})

    with pytest.raises(FetchFailed, match="longer than 5,000 bytes"):
        web.measure("http://host.example/", Limits(size=5000))
    assert sum(read) == 6000


async def never() -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets this event")


async def drip() -> httpx.Response:
    return httpx.Response(200, content=drops())


async def drops() -> AsyncIterator[bytes]:
    while True:
        yield b"."
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)


@pytest.mark.parametrize("page", [never, drip])
def test_one_time_limit_covers_everything(page: Callable[[], Any]):
    limits = Limits(time=timedelta(milliseconds=100))

    with pytest.raises(FetchFailed, match=r"took longer than 0\.1 seconds"):
        Web(pages={"/": page}).measure("http://host.example/", limits)


def test_bytes_are_counted_as_they_travel_so_a_zip_bomb_stays_small():
    bomb = gzip.compress(b"0" * 1_000_000)
    web = Web(pages={"/": streamed(bomb, **{"Content-Encoding": "gzip"})})

    assert web.measure("http://host.example/") == len(bomb)
