"""``manage.py aftercommit queues``: which queues there are, and what is set for them."""

import json
from typing import Any

from django.core.management.base import CommandParser

from aftercommit import queues
from aftercommit.management.subcommands.asking import Asking
from aftercommit.management.subcommands.ruling import add_form
from aftercommit.values import TASK
from aftercommit.wording import counted


class Queues(Asking):
    """Write the queues that there are, what is paused, and what has a limit or a rate."""

    name = "queues"
    help = "list the queues, what is paused, and what has a limit or a rate"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the form, and the database."""
        add_form(parser)

    def ask(self, options: dict[str, Any]) -> int:
        """Write a line for each."""
        found = queues.list(options["database"])
        tasks = _tasks(options["database"])
        rates = queues.paused_rates(options["database"])
        if options["json"]:
            rows = [
                _as_json("queue", one.using, one.name, one.pause, one.limit, one.rate)
                for one in found
            ]
            rows += [
                _as_json("task", using, name, *rules) for (using, name), rules in tasks.items()
            ]
            rows += [_paused_rate_as_json(one) for one in rates]
            self.say(json.dumps(rows))
            return 0
        for one in found:
            self.say(f"{one.using}: {one.name}{_rules(one.pause, one.limit, one.rate)}")
        for (using, name), rules in tasks.items():
            self.say(f"{using}: the task {name}{_rules(*rules)}")
        for paused in rates:
            self.say(_paused_rate(paused))
        return 0


Rules = tuple[queues.Paused | None, queues.Limited | None, queues.Rated | None]


def _tasks(database: str | None) -> dict[tuple[str, str], Rules]:
    """Return the tasks that are paused, or have a limit or a rate of run time."""
    pauses = {(one.using, one.name): one for one in queues.paused(database) if one.kind == TASK}
    limits = {(one.using, one.name): one for one in queues.limits(database) if one.kind == TASK}
    rates = {(one.using, one.name): one for one in queues.rates(database) if one.kind == TASK}
    names = sorted(pauses.keys() | limits.keys() | rates.keys())
    return {name: (pauses.get(name), limits.get(name), rates.get(name)) for name in names}


def _rules(
    pause: queues.Paused | None, limit: queues.Limited | None, rate: queues.Rated | None
) -> str:
    paused = [f"paused {pause.details}"] if pause else []
    others = [one.details for one in (limit, rate) if one is not None]
    return "".join(f", {one}" for one in (*paused, *others))


def _paused_rate(one: queues.PausedRate) -> str:
    whose = f"the task {one.task}" if one.task else "a task without live jobs"
    until = f"{one.until:%Y-%m-%d %H:%M:%S} UTC"
    return f"{one.using}: {whose} has paused {counted(one.keys, 'rate key')} until {until}"


def _paused_rate_as_json(one: queues.PausedRate) -> dict[str, Any]:
    paused = {"keys": one.keys, "until": one.until.isoformat()}
    return {"database": one.using, "task": one.task, "rate_paused": paused}


def _as_json(
    kind: str,
    using: str,
    name: str,
    pause: queues.Paused | None,
    limit: queues.Limited | None,
    rate: queues.Rated | None,
) -> dict[str, Any]:
    paused = pause and {"since": pause.since.isoformat(), "by": pause.by, "why": pause.why}
    limited = limit and {
        "at_once": limit.limit,
        "at_run_time": limit.at_run_time,
        "configured": limit.configured,
    }
    rated = rate and {
        "starts": rate.rate,
        "burst": rate.burst,
        "at_run_time": rate.at_run_time,
        "configured": rate.configured,
    }
    return {"database": using, kind: name, "paused": paused, "limit": limited, "rate": rated}
