"""``manage.py aftercommit import``: queued calls of another library become jobs."""

import json
import os
from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandParser

from aftercommit.importing import SOURCES, TABLES, source_for
from aftercommit.importing.calls import Calls
from aftercommit.importing.run import BATCH_SIZE, Import
from aftercommit.importing.values import Place, Report
from aftercommit.jobs.asked import database
from aftercommit.management.subcommands.asking import Asking
from aftercommit.management.subcommands.selected import SOME_LEFT
from aftercommit.printable import one_line
from aftercommit.wording import counted

URL_VARIABLE = "AFTERCOMMIT_IMPORT_URL"


class ImportCalls(Asking):
    """Import them, and say what was left."""

    name = "import"
    help = "make jobs of the calls that are queued in another library"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare from where, and how."""
        parser.add_argument("source", choices=SOURCES, metavar="LIBRARY")
        parser.add_argument("--database", metavar="ALIAS", help="(default: the router's)")
        parser.add_argument(
            "--task",
            action="append",
            default=[],
            type=_renamed,
            metavar="OLD=NEW",
            help="its name there, and here; may be repeated",
        )
        parser.add_argument("--url", help=f"of the broker (default: ${URL_VARIABLE})")
        parser.add_argument(
            "--queue", action="append", default=[], metavar="NAME", help="may be repeated"
        )
        parser.add_argument("--prefix", help="of the broker's keys (default: the library's)")
        parser.add_argument(
            "--held", action="store_true", help="take what workers hold; none may be running"
        )
        parser.add_argument("--batch-size", type=_number, default=BATCH_SIZE, metavar="N")
        parser.add_argument("--limit", type=_number, metavar="N", help="import at most so many")
        parser.add_argument("--json", action="store_true", help="write JSON, for programs")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")

    def ask(self, options: dict[str, Any]) -> int:
        """Import; return ``SOME_LEFT`` if messages are left that it cannot import."""
        name, using = options["source"], database(options["database"])
        source = source_for(name, using=using, place=_place(options))
        try:
            calls = Calls(using=using, source=name, names=dict(options["task"]))
            run = Import(source, calls, using=using, batch_size=options["batch_size"])
            report = run.run(limit=options["limit"], dry_run=options["dry_run"])
        finally:
            source.close()
        if options["json"]:
            self.say(json.dumps(_as_json(report, dry_run=options["dry_run"])))
        else:
            self._say(report, name, using, is_dry=options["dry_run"])
        return SOME_LEFT if report.left else 0

    def _say(self, report: Report, name: str, using: str, *, is_dry: bool) -> None:
        for (task, why), number in report.left.items():
            self.complain(one_line(f"{task}: {counted(number, 'message')} left: {why}"))
        for why, number in report.elsewhere.items():
            if number:
                self.complain(f"{counted(number, 'message')} not looked at: {why}.")
        for task, number in sorted(report.imported.items()):
            self.say(f"{using}: {counted(number, 'job')} of {task}")
        again = f", {report.again:,} had been imported before" if report.again else ""
        left = f", {report.left.total():,} left" if report.left else ""
        number = report.imported.total()
        total, verb = counted(number, "message"), "was" if number == 1 else "were"
        verb = "would be" if is_dry else verb
        self.say(f"{using}: {total} of {name} {verb} imported{again}{left}.")


def _place(options: dict[str, Any]) -> Place:
    is_told = options["url"] or options["queue"] or options["prefix"] or options["held"]
    from_environment = os.environ.get(URL_VARIABLE)
    if not is_told and options["source"] in TABLES:
        return Place(url=None)
    return Place(
        url=options["url"] or from_environment,
        queues=tuple(options["queue"]),
        prefix=options["prefix"],
        held=options["held"],
    )


def _as_json(report: Report, *, dry_run: bool) -> dict[str, Any]:
    left = [
        {"task": task, "why": why, "messages": number}
        for (task, why), number in report.left.items()
    ]
    said = {"imported": dict(report.imported), "again": report.again, "left": left}
    said["elsewhere"] = dict(report.elsewhere)
    return {**said, "dry_run": True} if dry_run else said


def _renamed(given: str) -> tuple[str, str]:
    old, separator, new = given.partition("=")
    if not (old and separator and new):
        raise ArgumentTypeError(f"expected OLD=NEW, as in mail=shop.tasks.mail, got {given!r}")
    return old, new


def _number(given: str) -> int:
    if not given.isdecimal() or not int(given):
        raise ArgumentTypeError(f"expected a whole number from 1, got {given!r}")
    return int(given)
