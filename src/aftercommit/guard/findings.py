"""What the guard has found: one value, and how it is written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aftercommit.guard.frames import Place, places, projects
from aftercommit.guard.transactions import Opened
from aftercommit.printable import one_line, without_passwords
from aftercommit.race_rules import GUARD_RULES, Rule

VIEW = "django/core/handlers/base.py"  # calls a view, with ATOMIC_REQUESTS inside a transaction


class GuardWarning(UserWarning):
    """The guard has found something, and its mode is ``warn``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """Where a transaction was opened."""

    alias: str
    stack: tuple[Place, ...]  # the innermost first
    function: str = ""  # that ``@atomic`` or ATOMIC_REQUESTS runs, if it was opened so

    def __str__(self) -> str:
        """Return a sentence without its end."""
        how = f"The transaction on {self.alias!r} was opened"
        if self.function and self.stack and self.stack[0].path.endswith(VIEW):
            return f"{how} by ATOMIC_REQUESTS around {self.function}"
        if self.function:
            how += f" by @atomic of {self.function}"
        if not self.stack:
            return how
        first, project = self.stack[0], projects(self.stack)[0]
        if self.function:
            return f"{how}, called at {project}"
        return f"{how} at {first}" + ("" if project == first else f", called at {project}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A dispatch inside a transaction, or another fault that only a running program shows."""

    rule: str  # of aftercommit.race_rules.GUARD_RULES
    adapter: str  # who has noticed it: "celery", "http", "transactions" …
    subject: str  # what is sent, or the name that is concerned
    stack: tuple[Place, ...]  # of the dispatch, the innermost first
    transactions: tuple[Transaction, ...]  # that are open

    @property
    def place(self) -> Place:
        """Return the line of the project that did it.

        Below a coroutine there may be none; then it is where the transaction was opened.
        """
        stacks = [self.stack, *(one.stack for one in self.transactions)]
        known = [place for stack in stacks for place in stack if place.is_project]
        return next(iter([*known, *self.stack]), Place("?", 0, "?"))

    @property
    def known_rule(self) -> Rule:
        """Return the rule with its sentences."""
        return GUARD_RULES[self.rule]

    @property
    def message(self) -> str:
        """Return one sentence about what was done, and what it leads to."""
        return self.known_rule.message(self.subject)

    def __str__(self) -> str:
        """Return the whole report: where, what, in which transaction, and what to do."""
        chain = projects(self.stack)
        return "\n".join(
            [
                f"{self.place}: {self.rule} {self.message}",
                *(f"    called at {place}" for place in chain if place != self.place),
                *(f"    {one}" for one in self.transactions),
                f"    Fix: {self.known_rule.fix} See {self.known_rule.page}",
            ]
        )


def finding(
    rule: str, adapter: str, subject: str, stack: tuple[Place, ...], opened: Sequence[Opened]
) -> Finding:
    """Return a finding; what is written into it is safe to show."""
    return Finding(
        rule=rule,
        adapter=adapter,
        subject=without_passwords(one_line(subject))[:300],
        stack=stack,
        transactions=tuple(_transaction(one) for one in opened),
    )


def _transaction(opened: Opened) -> Transaction:
    return Transaction(
        alias=opened.alias,
        stack=places(opened.stack),
        function="" if opened.function is None else _name_of(opened.function),
    )


def _name_of(function: Callable[..., Any]) -> str:
    view = getattr(function, "view_class", None) or getattr(function, "cls", None)
    if isinstance(view, type):  # as_view() has made the function, of Django or of DRF
        own, full = view.__name__, view.__qualname__
        return f"{view.__module__}.{full if full.endswith(own) else own}"
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '?')}.{name}"
