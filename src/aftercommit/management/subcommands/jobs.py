"""``manage.py aftercommit jobs list`` and ``jobs show``: look at jobs."""

import json
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from aftercommit import jobs
from aftercommit.errors import BadSelection, Unreadable
from aftercommit.management.subcommands.asking import Asking
from aftercommit.management.subcommands.base import accept_here_as_well
from aftercommit.management.subcommands.selected import (
    NOTHING_FOUND,
    add_criteria,
    add_form,
    aliases,
    given_criteria,
)
from aftercommit.printable import one_line
from aftercommit.store import store_for

if TYPE_CHECKING:
    from aftercommit.models import Job

IN_A_LIST = (
    "id",
    "state",
    "queue",
    "priority",
    "attempts",
    "max_attempts",
    "crashes",
    "enqueued_at",
    "run_after",
    "started_at",
    "finished_at",
)

WAITS = {
    "limit": "(waits for a limit)",
    "rate": "(waits for its rate)",
    "turn": "(waits for its turn)",
    "pause": "(its task is paused)",
}


class Jobs(Asking):
    """List jobs, or show one with its arguments and errors."""

    name = "jobs"
    help = "list jobs, or show one"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare both."""
        words = parser.add_subparsers(dest="word", required=True, metavar="list|show")
        several = words.add_parser("list", help="the jobs that meet all conditions, oldest first")
        add_criteria(several)
        several.add_argument(
            "--limit", type=int, default=50, help="at most so many (default: 50)"
        )
        one = words.add_parser("show", help="one job, with its arguments and errors")
        one.add_argument("id", type=UUID, metavar="ID")
        for each in (several, one):
            add_form(each)
            accept_here_as_well(each)

    def ask(self, options: dict[str, Any]) -> int:
        """Write what there is; return ``NOTHING_FOUND`` if there is nothing."""
        return self._show(options) if options["word"] == "show" else self._list(options)

    def _list(self, options: dict[str, Any]) -> int:
        found: list[dict[str, Any]] = []
        if options["limit"] < 1:
            raise CommandError("--limit: expected at least 1.")
        for using in aliases(options):
            try:
                selected = jobs.find(**given_criteria(options), using=using)
            except BadSelection as error:
                raise CommandError(str(error)) from error
            rows = islice(selected, options["limit"] - len(found))
            found += [_row(job, using) for job in rows]
        if options["json"]:
            self.say(json.dumps(found))
        else:
            for row in found:
                words = [row["id"], f"{row['state']:9}", row["queue"], row["task"]]
                words += [f"#{one_line(tag)}" for tag in row["tags"]]
                words += [WAITS[why]] if (why := row["waits"]) else []
                self.say("  ".join(words))
        return 0 if found else NOTHING_FOUND

    def _show(self, options: dict[str, Any]) -> int:
        for using in aliases(options):
            job = store_for(using).job(options["id"])
            if job is not None:
                self._write(_whole(job, using), as_json=options["json"])
                return 0
        self.complain(f"There is no job {options['id']}.")
        return NOTHING_FOUND

    def _write(self, found: dict[str, Any], *, as_json: bool) -> None:
        if as_json:
            self.say(json.dumps(found))
            return
        for name, value in found.items():
            if name == "errors" and isinstance(value, list):
                for number, error in enumerate(value, 1):
                    self.say(f"error {number}: {error['exception_class_path']}")
                    self.say(error["traceback"])
            else:
                text = value if isinstance(value, str) else json.dumps(value)
                self.say(f"{name}: {one_line(text)}")


def _row(job: "Job", using: str) -> dict[str, Any]:
    values = {name: _plain(getattr(job, name)) for name in IN_A_LIST}
    task = one_line(str(job.task_path))
    more = {"tags": job.tags, "waits": job.waits_because}
    return {**values, "task": task, **more, "database": using}


def _whole(job: "Job", using: str) -> dict[str, Any]:
    read = {"args": "args", "kwargs": "kwargs", "result": "return_value", "errors": "error_list"}
    return _row(job, using) | {name: _read(job, column) for name, column in read.items()}


def _read(job: "Job", name: str) -> Any:
    try:
        return getattr(job, name)
    except Unreadable as error:
        return str(error)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, int | None) else str(value)
