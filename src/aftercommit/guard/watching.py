"""The guard itself: decides whether a dispatch is right here, and applies the mode if not."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from aftercommit.errors import DispatchInTransaction
from aftercommit.guard import reporting, strict, waiting
from aftercommit.guard.adapters.names import EFFECTS
from aftercommit.guard.allowing import is_allowed
from aftercommit.guard.conf import DEFER, LOG, OFF, RAISE, GuardOptions
from aftercommit.guard.dispatches import Dispatch
from aftercommit.guard.findings import Finding, finding
from aftercommit.guard.frames import places, steps
from aftercommit.guard.transaction_faults import committed
from aftercommit.guard.transactions import Opened, open_here, some_open, unseen
from aftercommit.relayed import is_kept

MOST = 60  # frames of a dispatch: the libraries' and the project's


class Guard:
    """Is asked about each dispatch of this process."""

    def __init__(self, options: GuardOptions) -> None:
        self.options = options
        self._strict = options.strict

    def is_interested(self) -> bool:
        """See ``dispatches.Interceptor``: whether a transaction may be open here."""
        return some_open() or committed.get() is not None or self._strict

    def __call__(self, dispatch: Dispatch, proceed: Callable[[], Any]) -> Any:
        """See ``dispatches.Interceptor``."""
        opened = self._opened()
        if not opened and (alias := committed.get()) is not None:
            self._look_at_callback(dispatch, alias)
        mode = self.options.mode_of(dispatch.adapter) if opened else OFF
        if mode == OFF or (dispatch.eager and not self.options.eager):
            return _sent(dispatch, proceed)
        rule = _rule(dispatch, opened)
        if rule is None or _is_kept(dispatch, [one.alias for one in opened]):
            return _sent(dispatch, proceed)
        can_wait = dispatch.prepare is not None and not dispatch.eager
        # on_commit() waits only for atomic(), and is called in the thread of the transaction.
        known = all(one.frame is not None and one.connection is not None for one in opened)
        defers = mode == DEFER and can_wait and known
        told = LOG if mode == DEFER and not defers else mode
        self.report(rule, dispatch.adapter, dispatch.subject, opened, told)
        if not defers or dispatch.prepare is None or is_allowed():
            return _sent(dispatch, proceed)
        later = dispatch.prepare()
        waiting.after_commit_of_all(opened, later.send)
        return later.result

    def _look_at_callback(self, dispatch: Dispatch, alias: str) -> None:
        """Report a message of an on_commit callback that the relay would have kept before."""
        if _is_kept(dispatch, [alias]):
            mode = self.options.mode_of("transactions")
            self.report("AC404", "transactions", dispatch.subject, [], mode)

    def report(
        self, rule: str, adapter: str, subject: str, opened: Sequence[Opened], mode: str
    ) -> None:
        """Report a finding, unless it is allowed here; in the mode ``raise`` by an exception."""
        if mode == OFF or is_allowed():
            return
        stack = places(steps(sys._getframe(1), MOST))
        self.found(finding(rule, adapter, subject, stack, opened), mode)

    def found(self, one: Finding, mode: str) -> None:
        """Announce a finding and apply the mode, unless the project has accepted it."""
        if reporting.is_accepted(one, self.options):
            return
        reporting.announce(one, mode)
        if mode == RAISE:
            raise DispatchInTransaction(one)

    def _opened(self) -> list[Opened]:
        opened = open_here()
        return strict.and_by_hand(opened) if self._strict else opened


def _is_kept(dispatch: Dispatch, aliases: list[str]) -> bool:
    return is_kept(dispatch.adapter, dispatch.when, dispatch.backend, aliases)


def _rule(dispatch: Dispatch, opened: Sequence[Opened]) -> str | None:
    """Return the rule that a dispatch breaks while these are open, or None."""
    if dispatch.database is not None:
        return "AC405" if any(one.alias != dispatch.database for one in opened) else None
    return "AC401" if dispatch.adapter in EFFECTS else "AC101"


def _sent(dispatch: Dispatch, proceed: Callable[[], Any]) -> Any:
    if not dispatch.eager:
        return proceed()
    with unseen():  # a worker would run it in another process
        return proceed()
