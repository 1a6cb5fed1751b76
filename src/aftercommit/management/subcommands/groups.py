"""``manage.py aftercommit groups``: the newest groups, and how far they are."""

import json
from typing import Any

from django.core.management.base import CommandParser

from aftercommit import groups
from aftercommit.enqueue.configured import job_aliases
from aftercommit.management.subcommands.asking import Asking
from aftercommit.management.subcommands.ruling import add_form
from aftercommit.printable import one_line
from aftercommit.wording import spoken

MOST = 20


class Groups(Asking):
    """Write the newest groups."""

    name = "groups"
    help = "list the newest groups of jobs, and how far they are"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare which, and the form."""
        parser.add_argument("group", nargs="?", metavar="NAME", help="only groups of this name")
        parser.add_argument("--limit", type=int, default=MOST, help=f"default: {MOST}")
        add_form(parser)

    def ask(self, options: dict[str, Any]) -> int:
        """Write a line for each."""
        wanted = options["database"]
        aliases = job_aliases() if wanted is None else [wanted]
        found = [
            one
            for using in aliases
            for one in groups.find(name=options["group"], using=using, most=options["limit"])
        ]
        if options["json"]:
            self.say(json.dumps([_as_json(one) for one in found]))
            return 0
        for one in found:
            self.say(_line(one))
        return 0


def _line(one: groups.GroupResult) -> str:
    failed = f", {one.failed} failed" * bool(one.failed)
    left = "" if one.estimate is None or not one.left else f", about {_short(one)} left"
    end = ", cancelled" if one.is_cancelled else ", ended" if one.is_finished else left
    return f"{one.using}: {one_line(one.name) or one.id}: {one.done} of {one.total}{failed}{end}"


def _short(one: groups.GroupResult) -> str:
    return spoken(one.estimate) if one.estimate else "0 s"


def _as_json(one: groups.GroupResult) -> dict[str, Any]:
    estimate = one.estimate
    return {
        "database": one.using,
        "id": one.id,
        "name": one.name,
        "created_at": one.created_at.isoformat(),
        **{name: getattr(one, name) for name in ("total", "done", "left", "running")},
        **{name: getattr(one, name) for name in ("succeeded", "failed", "cancelled")},
        "estimate": None if estimate is None else estimate.total_seconds(),
        "is_finished": one.is_finished,
        "is_cancelled": one.is_cancelled,
    }
