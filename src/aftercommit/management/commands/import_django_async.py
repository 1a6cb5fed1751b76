"""``manage.py import_django_async``: take over the queued jobs of Django Async."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from aftercommit.django_async.importing import Importing
from aftercommit.errors import ConfigurationError
from aftercommit.jobs.asked import database
from aftercommit.store.async_tables import AsyncTables
from aftercommit.wording import counted


class Command(BaseCommand):
    """Translate the command line, import, say what was imported."""

    help = "Enqueue the jobs of Django Async's tables that were neither executed nor cancelled."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--database", help="where both tables are (default: the router's)")
        parser.add_argument("--backend", default="default", help="an alias of TASKS")
        parser.add_argument(
            "--leave", action="store_true", help="leave jobs whose functions may not be run"
        )
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")

    def handle(self, **options: Any) -> None:
        """Import, or say why not."""
        using = database(options["database"])
        if not AsyncTables(using).exist():
            raise CommandError(f"The database {using!r} has no tables of Django Async.")
        try:
            importing = Importing(using, backend=options["backend"])
            done = importing.run(leave=options["leave"], dry_run=options["dry_run"])
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        for name, why in done.refused.items():
            self.stderr.write(f"{name}: {why}")
        if done.refused and not options["leave"]:
            raise CommandError(
                "Functions may not be run here; nothing was imported. List them in "
                "OPTIONS['allowed_functions'], or leave their jobs where they are by --leave."
            )
        verb = "would be" if options["dry_run"] else "were"
        what = f"{counted(done.jobs, 'job')} and {counted(done.groups, 'group')}"
        self.stdout.write(f"{using}: {what} of Django Async {verb} imported.")
