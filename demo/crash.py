"""The worst moment: the worker is killed while jobs run and requests are open."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

from django.contrib.auth.models import User
from django.db.models import Min

from aftercommit.models import Job
from lengths.models import Page
from processes import Demo, wait_until
from shop.models import Offer
from signup.mailbox import delivered
from stories import LONG, Observation, compare, measure, sign_up
from visitor import Visitor

STORY = "Kill -9"
LEASE = 30.0  # seconds; a worker that is found dead is not waited for so long


def killing_the_worker(demo: Demo) -> list[Observation]:
    """Play all stories at once, kill the worker's process group, start a new one."""
    slow = f"{demo.origin}/examples/slow/?seconds=3"
    wait_until(_all_ended, why="all is quiet", within=LONG)
    saves_before = _offer_updates()
    first = [
        *[partial(measure, demo, f"{slow}&crash={number}") for number in range(4)],
        partial(sign_up, demo, "crash0"),
        partial(sign_up, demo, "crash1"),
    ]
    second = [
        partial(sign_up, demo, "crash2"),
        partial(sign_up, demo, "crash3", fail=True),
        partial(_change_price, demo),
    ]
    with ThreadPoolExecutor(max_workers=len(first) + len(second)) as visitors:
        visits = [visitors.submit(visit) for visit in first]
        wait_until(lambda: _running() >= 2, why="two jobs run")
        visits += [visitors.submit(visit) for visit in second]
        time.sleep(0.3)  # into the second in which those transactions are open
        running, killed_at = _running(), datetime.now(UTC)
        demo.worker.kill()
        demo.start_worker()
    for visit in visits:
        visit.result()
    wait_until(_all_ended, why="all jobs have ended", within=LONG)
    return [
        *_fault(running, killed_at),
        *_effects(demo, saves_before),
    ]


def _change_price(demo: Demo) -> None:
    with Visitor(demo.origin) as visitor:
        visitor.log_in()
        visitor.change_price(1, "Espresso machine", Decimal(777))


def _running() -> int:
    return Job.objects.filter(state=Job.State.RUNNING).count()


def _all_ended() -> bool:
    live = [Job.State.READY, Job.State.RUNNING]
    return not Job.objects.filter(state__in=live).exists()


def _fault(running: int, killed_at: datetime) -> list[Observation]:
    """Show that the kill hit: a check whose fault missed has shown nothing."""
    hit = Job.objects.filter(crashes__gte=1, claimed_at__gt=killed_at)
    first_claim = hit.aggregate(first=Min("claimed_at"))["first"]
    waited = (first_claim - killed_at).total_seconds() if first_claim else -1.0
    return [
        Observation(
            story=STORY,
            what="jobs whose worker died under them",
            expected="1 or more",
            observed=f"{hit.count()}, of {running} that ran",
            held=hit.count() >= 1,
        ),
        Observation(
            story=STORY,
            what="until the first of them runs again",
            expected=f"less than a lease, {LEASE:g} s",
            observed=f"{waited:.1f} s",
            held=0 <= waited < LEASE,
        ),
    ]


def _effects(demo: Demo, saves_before: int) -> list[Observation]:
    pages = Page.objects.filter(url__contains="crash=")
    states = Counter(Job.objects.filter(crashes__gte=1).values_list("state", flat=True))
    users = User.objects.filter(username__startswith="crash")
    mails = [mail for mail in delivered(demo.data / "mail") if mail.to.startswith("crash")]
    return [
        compare(
            STORY,
            "how those jobs ended",
            expected="succeeded",
            observed=" ".join(sorted(states)),
        ),
        compare(
            STORY,
            "how often each of 4 lengths was stored",
            expected="1 1 1 1",
            observed=" ".join(str(page.stored) for page in pages),
        ),
        compare(
            STORY,
            "accounts: 3 requests commit, 1 fails",
            expected="crash0 crash1 crash2",
            observed=" ".join(sorted(user.username for user in users)),
        ),
        compare(
            STORY,
            f"different mails delivered ({len(mails)} with copies)",
            expected="crash0 crash1 crash2",
            observed=" ".join(sorted(mail.to.partition("@")[0] for mail in set(mails))),
        ),
        compare(
            STORY,
            "updates of the offers by 1 edit",
            expected="1",
            observed=str(_offer_updates() - saves_before),
        ),
    ]


def _offer_updates() -> int:
    """Return how often the offers of the first product were updated, all alike."""
    (updates,) = set(Offer.objects.filter(product=1).values_list("updates", flat=True))
    return int(updates)
