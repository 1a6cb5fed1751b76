"""The three stories, played by visitors; each returns what was expected and seen."""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from processes import Demo, wait_until
from visitor import Visitor

LONG = timedelta(seconds=60)
ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One line of the table."""

    story: str
    what: str
    expected: str
    observed: str
    held: bool

    @property
    def row(self) -> tuple[str, ...]:
        """The line in the words of the table."""
        held = "yes" if self.held else "NO"
        return (self.story, self.what, self.expected, self.observed, held)


def compare(story: str, what: str, *, expected: str, observed: str) -> Observation:
    """Make a line that holds when both are the same."""
    return Observation(
        story=story,
        what=what,
        expected=expected,
        observed=observed,
        held=expected == observed,
    )


def at_once(visits: Iterable[Callable[[], Any]]) -> list[Any]:
    """Let several visitors act at the same time; return what each got."""
    with ThreadPoolExecutor(max_workers=8) as threads:
        return list(threads.map(lambda visit: visit(), visits))


def measure(demo: Demo, url: str) -> None:
    """Enter an address, as a visitor who has just come."""
    with Visitor(demo.origin) as visitor:
        visitor.measure(url)


def sign_up(demo: Demo, name: str, *, fail: bool = False) -> int:
    """Sign up as a visitor who has just come; return the answer's status."""
    with Visitor(demo.origin) as visitor:
        return visitor.sign_up(name, fail=fail).status_code


def url_lengths(demo: Demo) -> list[Observation]:
    """Play the story of the URL lengths: good pages and bad ones."""
    page = f"{demo.origin}/examples/page/"
    slow = f"{demo.origin}/examples/slow/"
    urls = [
        page,
        f"{page}?again",
        f"{page}missing",
        f"{slow}?seconds=30",
        "http://10.0.0.1/",
    ]
    at_once([partial(measure, demo, url) for url in urls])
    rows = ended_pages(demo)
    length = length_of(demo, page)
    return [
        compare(
            "URL lengths",
            what,
            expected=expected,
            observed=" ".join([rows[url]["progress"], rows[url]["length"]]).strip(),
        )
        for url, what, expected in [
            (urls[0], "a page", f"done {length}"),
            (urls[1], "the same again", f"done {length}"),
            (urls[2], "not there", "gave up after 3 runs: 404 Not Found"),
            (urls[3], "too slow", "gave up after 3 runs: took longer than 4 seconds"),
            (urls[4], "a private one", "gave up after 1 run: 10.0.0.1 is not public"),
        ]
    ]


def measuring(demo: Demo) -> list[Observation]:
    """Play the story of the URL lengths with pages that are there."""
    urls = [f"{demo.origin}/examples/page/?{number}" for number in range(4)]
    at_once(partial(measure, demo, url) for url in urls)
    rows = ended_pages(demo)
    return [
        compare(
            "URL lengths",
            f"page {number + 1}",
            expected=length_of(demo, url),
            observed=rows[url]["length"],
        )
        for number, url in enumerate(urls)
    ]


def signing_up(demo: Demo) -> list[Observation]:
    """Play the story of the sign-up: some commit, some fail."""
    kept = [f"kept{number}" for number in range(3)]
    lost = [f"lost{number}" for number in range(2)]
    statuses = at_once(
        [
            *[partial(sign_up, demo, name) for name in kept],
            *[partial(sign_up, demo, name, fail=True) for name in lost],
        ]
    )
    mailed = mailed_names(demo, at_least=len(kept))
    return [
        compare(
            "Sign up",
            "3 requests commit, 2 fail after enqueuing",
            expected="302 302 302 500 500",
            observed=" ".join(map(str, statuses)),
        ),
        compare(
            "Sign up",
            "mail goes to those who exist",
            expected=" ".join(kept),
            observed=" ".join(sorted(mailed.elements())),
        ),
    ]


def editing_prices(demo: Demo, *, saves: int = 3) -> list[Observation]:
    """Play the story of the admin: after each edit the offers have the new price."""
    seen = []
    with Visitor(demo.origin) as visitor:
        visitor.log_in()
        for number in range(saves):
            price = Decimal(100 + number)
            visitor.change_price(1, "Espresso machine", price)
            seen.append(prices_after_job(visitor, updates=number + 2))
    return [
        compare(
            "Admin",
            f"edit {number + 1}: what the offers were worked out from",
            expected=f"€ {100 + number}.00",
            observed=observed,
        )
        for number, observed in enumerate(seen)
    ]


def prices_after_job(visitor: Visitor, *, updates: int) -> str:
    """Wait for the job, whatever it writes; return the prices that the offers show."""

    def has_run() -> bool:
        rows = visitor.rows("shop", "offers-1")
        return all(int(row["updates"]) >= updates for row in rows)

    wait_until(has_run, why="the offers were updated")
    return " ".join({row["priced_from"] for row in visitor.rows("shop", "offers-1")})


def ended_pages(demo: Demo) -> dict[str, dict[str, str]]:
    """Wait until every page was measured or given up; return the rows by address."""
    with Visitor(demo.origin) as visitor:

        def ended() -> bool:
            rows = visitor.rows("lengths", "pages")
            return all(row["state"] in ENDED for row in rows)

        wait_until(ended, why="all pages have ended", within=LONG)
        return {row["url"]: row for row in visitor.rows("lengths", "pages")}


def mailed_names(demo: Demo, *, at_least: int) -> Counter[str]:
    """Wait for so many mails; count the different ones for each name."""
    with Visitor(demo.origin) as visitor:
        wait_until(
            lambda: len(visitor.rows("signup", "mails")) >= at_least,
            why=f"{at_least} mails were delivered",
            within=LONG,
        )
        return Counter(row["to"].partition("@")[0] for row in visitor.rows("signup", "mails"))


def length_of(demo: Demo, url: str) -> str:
    """Measure a page ourselves, in the words of the list."""
    with Visitor(demo.origin) as visitor:
        return f"{len(visitor.get(url).content):,} bytes"
