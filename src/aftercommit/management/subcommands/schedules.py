"""``manage.py aftercommit schedules``: list periodic tasks; enable, disable, reset or run one."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from aftercommit import schedules
from aftercommit.errors import NoSuchSchedule, PayloadError
from aftercommit.management.subcommands.asking import Asking
from aftercommit.management.subcommands.ruling import add_form, rolled_back
from aftercommit.printable import one_line
from aftercommit.schedules import Schedule
from aftercommit.wording import counted, spoken

CHANGES: dict[str, tuple[str, Callable[..., Schedule]]] = {
    "enable": ("enabled", schedules.enable),
    "disable": ("disabled", schedules.disable),
    "reset": ("as code or settings declare it", schedules.reset),
}
RUN_NOW = "run-now"


class Schedules(Asking):
    """Write the schedules that there are, or change one."""

    name = "schedules"
    help = "list periodic tasks with their next runs; enable, disable or reset one, or run it now"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare what is to be done, and to which."""
        actions = (*CHANGES, RUN_NOW)
        parser.add_argument("action", nargs="?", choices=actions, metavar="ACTION", help=_HELP)
        parser.add_argument("name", nargs="?", metavar="NAME", help="of a schedule")
        add_form(parser)
        parser.add_argument("--dry-run", action="store_true", help="only say what would change")

    def ask(self, options: dict[str, Any]) -> int:
        """List them, or change one."""
        action, name = options["action"], options["name"]
        if action is None:
            self._list(schedules.find(options["database"]), for_programs=options["json"])
            return 0
        if name is None:
            raise CommandError(f"{action}: name a schedule; 'aftercommit schedules' lists them.")
        try:
            with rolled_back(options["dry_run"]):
                self._change(action, name, options)
        except (NoSuchSchedule, PayloadError, TypeError) as error:
            raise CommandError(str(error)) from error
        return 0

    def _change(self, action: str, name: str, options: dict[str, Any]) -> None:
        using, dry = options["database"], options["dry_run"]
        if action == RUN_NOW:
            job_id = schedules.run_now(name, using=using).id
            text = "would be enqueued" if dry else f"is enqueued as job {job_id}"
            said: dict[str, Any] = {"schedule": name, "job_id": None if dry else job_id}
            text = f"{one_line(name)}: it {text}."
        else:
            words, change = CHANGES[action]
            found = change(name, using=using)
            said = as_json(found)
            text = f"{found.using}: {one_line(name)} {'would be' if dry else 'is'} {words}"
            text += f", next run {_at(found, found.next_run)}." if found.next_run else "."
        self.say(
            json.dumps({**said, "dry_run": True} if dry else said) if options["json"] else text
        )

    def _list(self, found: Sequence[Schedule], *, for_programs: bool) -> None:
        if for_programs:
            self.say(json.dumps([as_json(one) for one in found]))
            return
        for one in found:
            self.say(line(one))
        if not found:
            self.say(
                "There are no schedules; those of the code appear when a worker has started."
            )


_HELP = "enable, disable, reset or run-now; none lists them"


def line(one: Schedule) -> str:
    """Return what is known of a schedule, for people."""
    parts = [f"{one.using}: {one_line(one.name)} ({one.when})"]
    parts += [_state(one)]
    parts += [f"last run {_at(one, one.last_run)}"] if one.last_run else []
    parts += [f"{counted(one.missed, 'moment')} missed"] if one.missed else []
    parts += [f"{one.skipped:,} skipped"] if one.skipped else []
    parts += [f"edited: {', '.join(one.edited)}"] if one.edited else []
    parts += [f"problem: {one_line(one.problem)}"] if one.problem else []
    return ", ".join(parts)


def _state(one: Schedule) -> str:
    if one.late is not None:
        return f"late by {spoken(timedelta(seconds=int(one.late.total_seconds())))}"
    return f"next run {_at(one, one.next_run)}" if one.next_run else one.state


def _at(one: Schedule, moment: datetime | None) -> str:
    return "" if moment is None else f"{one.local(moment):%Y-%m-%d %H:%M:%S %Z}"


def as_json(one: Schedule) -> dict[str, Any]:
    """Return a schedule as values of JSON; spans in seconds, moments in UTC."""
    found = {name: _plain(value) for name, value in asdict(one).items()}
    return {"database": found.pop("using"), **found, "state": one.state}


def _plain(value: Any) -> Any:
    match value:
        case timedelta():
            return value.total_seconds()
        case datetime():
            return value.astimezone(UTC).isoformat()
        case tuple():
            return list(value)
        case None | bool() | int() | str() | list() | dict():
            return value
    return str(value)
