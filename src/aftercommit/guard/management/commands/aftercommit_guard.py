"""``manage.py aftercommit_guard``: what the guard has stored, by place."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, router
from django.db.models import QuerySet

from aftercommit.guard.baseline import write_places
from aftercommit.guard.models import StoredFinding
from aftercommit.wording import counted

COLUMNS = (
    *("rule", "adapter", "subject", "path", "line", "function", "report", "count"),
    *("first_seen", "last_seen"),
)


class Command(BaseCommand):
    """``report`` lists them, ``clear`` deletes them."""

    help = "What was sent inside open transactions: list it by place, accept it, forget it."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the two words, and the options of ``report``."""
        words = parser.add_subparsers(dest="word", required=True, metavar="COMMAND")
        report: ArgumentParser = words.add_parser("report", help="list what was found, by place")
        report.add_argument("--format", choices=("text", "json"), default="text")
        report.add_argument("--rule", help="only this one: AC101")
        report.add_argument("--full", action="store_true", help="with both stacks")
        report.add_argument("--write-baseline", metavar="FILE", type=Path)
        words.add_parser("clear", help="delete what is stored")

    def handle(self, *, word: str, **options: Any) -> None:
        """Run one of them."""
        rows = StoredFinding.objects.using(router.db_for_read(StoredFinding))
        try:
            if word == "clear":
                number, _ = rows.using(router.db_for_write(StoredFinding)).all().delete()
                self.stdout.write(f"{counted(number, 'place')} forgotten.")
            else:
                rule = options["rule"]
                self._report(rows.filter(rule=rule) if rule else rows.all(), **options)
        except DatabaseError as error:
            raise CommandError(
                f"The table of findings cannot be read ({error}).\n"
                'Fix: run manage.py migrate, and set AFTERCOMMIT_GUARD = {"store": True}.'
            ) from error

    def _report(
        self,
        rows: QuerySet[StoredFinding],
        *,
        format: str,
        full: bool,
        write_baseline: Path | None,
        **_: Any,
    ) -> None:
        found = list(rows)
        if write_baseline is not None:
            places = ((one.path, one.line, one.rule) for one in found)
            number = write_places(places, write_baseline)
            self.stdout.write(f"{counted(number, 'place')} written to {write_baseline}.")
        elif format == "json":
            values = [{name: getattr(one, name) for name in COLUMNS} for one in found]
            self.stdout.write(json.dumps(values, indent=1, default=str))
        else:
            for one in found:
                place = f"{one.path}:{one.line} in {one.function}"
                self.stdout.write(f"{one.count:>7,}  {place}: {one.rule} {one.subject}")
                if full:
                    self.stdout.write(one.report)
            self.stdout.write(f"{counted(len(found), 'place')}.")
