"""Whether the processes agree with each other, and with the database."""

from collections.abc import Iterator
from datetime import timedelta

from aftercommit.printable import one_line
from aftercommit.relay.neglected import SEEN_WITHIN
from aftercommit.store.base import Store
from aftercommit.version import VERSION
from aftercommit.windows.doctor.finding import Ailment, Finding
from aftercommit.wording import spoken

CLOCKS_APART = timedelta(seconds=10)  # more than a statement may have waited
MOST_NAMED = 5
EARLIER = "an earlier version"
CLOCK = "the time"


def versions(store: Store) -> Iterator[Finding]:
    """Say whether workers of several versions run, or of another one than this program."""
    by_version: dict[str, list[str]] = {}
    for one in store.workers.seen_lately(within=SEEN_WITHIN):
        by_version.setdefault(one.version or EARLIER, []).append(one_line(one.name))
    if by_version.keys() <= {VERSION}:
        return
    said = "; ".join(
        f"{version} as {_names(by_version[version])}" for version in sorted(by_version)
    )
    yield Finding(
        store.alias,
        "versions",
        f"Workers run other versions of aftercommit than this program's {VERSION}: {said}.",
        "Both work side by side while you deploy. Afterwards replace the workers of before.",
        ailment=Ailment.APART,
    )


def clocks(store: Store) -> Iterator[Finding]:
    """Say whose clock is not the database's, which decides what is due."""
    found = {"this program": store.clock_ahead()}
    for one in store.workers.seen_lately(within=SEEN_WITHIN):
        if one.ahead is not None:
            found[one_line(one.name)] = one.ahead
    for name, ahead in found.items():
        if abs(ahead) > CLOCKS_APART:
            side = "ahead of" if ahead > timedelta(0) else "behind"
            yield Finding(
                store.alias,
                "clocks",
                f"The clock of {name} is {spoken(abs(ahead))} {side} the database's, which "
                "decides what is due: a job for a moment of its clock runs early or late.",
                "Let both hosts follow a time server (NTP).",
                ailment=Ailment.APART,
            )


def _names(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" * (len(names) > MOST_NAMED)
    return ", ".join(names[:MOST_NAMED]) + more
