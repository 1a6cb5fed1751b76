"""``manage.py aftercommit retry``, ``cancel``, ``move``, ``prune``: many jobs at once."""

from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError, CommandParser

from aftercommit.errors import ArchiveFailed, BadSelection, ConfigurationError
from aftercommit.jobs import Progress, Selection
from aftercommit.management.subcommands.selected import Change, add_state, filled, span

Watcher = Callable[[Progress], object]


class Retry(Change):
    """Make failed and cancelled jobs ready again; without --state, failed ones only."""

    name = "retry"
    help = "make failed jobs ready again"
    done = "ready again"
    states = ("failed", "cancelled")

    def usual(self) -> dict[str, Any]:
        """Return that they failed: a cancelled job was meant not to run."""
        return {"state": "failed"}

    def change(self, found: Selection, options: dict[str, Any], progress: Watcher) -> Progress:
        """Retry."""
        return found.retry(progress=progress)


class Cancel(Change):
    """Cancel ready jobs; ask the workers of running ones to stop."""

    name = "cancel"
    help = "cancel jobs that wait, and ask running ones to stop"
    done = "cancelled"
    states = ("ready", "running")

    def usual(self) -> dict[str, Any]:
        """Return what can be cancelled."""
        return {"state": self.states}

    def change(self, found: Selection, options: dict[str, Any], progress: Watcher) -> Progress:
        """Cancel."""
        return found.cancel(progress=progress)


class Move(Change):
    """Put jobs that wait into another queue."""

    name = "move"
    help = "put jobs that wait into another queue"
    done = "moved"
    states = ("ready", "failed", "cancelled")

    def add_change(self, parser: CommandParser) -> None:
        """Declare where to."""
        parser.add_argument(
            "--to", type=filled, metavar="QUEUE", required=True, help="the other queue"
        )
        super().add_change(parser)

    def usual(self) -> dict[str, Any]:
        """Return that they wait."""
        return {"state": "ready"}

    def find(self, options: dict[str, Any], given: dict[str, Any]) -> dict[str, Selection]:
        """Return what is found; the other queue must be one of each database."""
        found = super().find(options, given)
        for one in found.values():
            try:
                one.check_target(options["to"])
            except BadSelection as error:
                raise CommandError(str(error)) from error
        return found

    def change(self, found: Selection, options: dict[str, Any], progress: Watcher) -> Progress:
        """Move."""
        return found.move(queue=options["to"], progress=progress)


class Prune(Change):
    """Delete jobs that have ended longer ago than a span."""

    name = "prune"
    help = "delete jobs that have ended long ago"
    done = "deleted"
    states = ("succeeded", "failed", "cancelled")

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare how long ago."""
        parser.add_argument(
            "--ended-before", type=span, metavar="SPAN", required=True, help="90s, 15m, 2h, 7d"
        )
        add_state(parser)
        self.add_change(parser)

    def selections(self, options: dict[str, Any]) -> dict[str, Selection]:
        """Return those that ended before."""
        given = {
            "state": self.states if options["state"] is None else options["state"],
            "finished_before": options["ended_before"],
        }
        return self.find(options, given)

    def change(self, found: Selection, options: dict[str, Any], progress: Watcher) -> Progress:
        """Delete, as workers do."""
        try:
            return found.prune(progress=progress)
        except ArchiveFailed as error:
            why = error.__cause__
            raise CommandError(f"{error} {type(why).__name__}: {why}") from error
        except ConfigurationError as error:  # an archive that cannot be imported
            raise CommandError(str(error)) from error
