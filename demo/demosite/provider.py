"""A provider of messages that takes a few of each account, and then says 429 for a while."""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

TAKES, PAUSE = 4, 2.0  # messages; seconds


@dataclass
class Account:
    """What the provider remembers of one."""

    taken: int = 0
    closed_until: float = 0.0


_accounts: defaultdict[str, Account] = defaultdict(Account)
_lock = threading.Lock()


@csrf_exempt  # it is called by a job, not by a page
@require_POST
@transaction.non_atomic_requests
def message(_request: HttpRequest, account: str) -> HttpResponse:
    """Take a message of an account, or refuse it and say for how long."""
    with _lock:
        known, now = _accounts[account], time.monotonic()
        if known.taken >= TAKES:  # however slowly they have come: this is to be seen
            known.taken, known.closed_until = 0, now + PAUSE
        if now < known.closed_until:
            wait = known.closed_until - now
            return HttpResponse(status=429, headers={"Retry-After": f"{wait:.1f}"})
        known.taken += 1
    return HttpResponse(status=204)
