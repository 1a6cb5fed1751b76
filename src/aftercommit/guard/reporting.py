"""What becomes of a finding: a log line, a warning, a signal; and which are left out."""

import logging
import time
import warnings
from datetime import timedelta
from threading import Lock

from aftercommit.guard import baseline
from aftercommit.guard.conf import LOG, WARN, GuardOptions
from aftercommit.guard.findings import Finding, GuardWarning
from aftercommit.guard.frames import shown
from aftercommit.guard.signals import race_found
from aftercommit.safe_log import log_error
from aftercommit.wording import counted

logger = logging.getLogger("aftercommit.guard")

AGAIN = timedelta(minutes=10)  # until the same place is logged again by one process

_logged: dict[tuple[str, str, int], tuple[float, int]] = {}  # when, and how often since
_lock = Lock()


def is_accepted(found: Finding, options: GuardOptions) -> bool:
    """Return whether the settings leave a finding out."""
    path = shown(found.place.path)
    if any(path.startswith(one) for one in options.ignore):
        return True
    return options.baseline is not None and baseline.accepts(options.baseline, found)


def announce(found: Finding, mode: str) -> None:
    """Send the signal; then write to the log, or warn."""
    for receiver, answer in race_found.send_robust(sender=None, finding=found, mode=mode):
        if isinstance(answer, Exception):
            log_error("A receiver of race_found raised: %r", receiver, error=answer)
    if mode == WARN:
        place = found.place
        warnings.warn_explicit(GuardWarning(str(found)), None, place.path, place.line)
    elif mode == LOG:
        _log(found)


def _log(found: Finding) -> None:
    """Log a finding; the same place again only after a while, with how often it was meanwhile."""
    key, now = (found.rule, found.place.path, found.place.line), time.monotonic()
    with _lock:
        last, since = _logged.get(key, (now - AGAIN.total_seconds(), 0))
        if now - last < AGAIN.total_seconds():
            _logged[key] = last, since + 1
            return
        _logged[key] = now, 0
    more = (
        f"\n    {counted(since, 'more time', 'more times')} since the last line" if since else ""
    )
    logger.warning("%s%s", found, more, extra={"finding": found})


def forget_logged() -> None:
    """Log each place again, as in a process that has just begun."""
    with _lock:
        _logged.clear()
