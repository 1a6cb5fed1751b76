"""``manage.py aftercommit limit``, ``unlimit``: how many jobs of a queue run at once, for now."""

from typing import Any

from django.core.management.base import CommandParser

from aftercommit import queues
from aftercommit.management.subcommands.ruling import Ruling, named
from aftercommit.wording import counted


class Limit(Ruling):
    """Let so many jobs of a queue or a task run at once, or so many messages be published."""

    name = "limit"
    help = "let so many jobs of a queue or a task run at once, on all machines"
    done = "limited"
    as_it_was = "it was limited like that already"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare what is named, and how many."""
        super().add_arguments(parser)
        parser.add_argument(
            "--at-once", type=int, metavar="N", required=True, help="so many jobs"
        )

    def in_words(self, options: dict[str, Any]) -> str:
        """Return to how many."""
        return f"limited to {counted(options['at_once'], 'job', 'jobs')} at once"

    def change(self, options: dict[str, Any]) -> queues.Answer:
        """Limit."""
        return queues.limit(**named(options), limit=options["at_once"])


class Unlimit(Ruling):
    """Let the limit in code or settings hold again, if there is one."""

    name = "unlimit"
    help = "let the limit in code or settings hold again, or none"
    done = "unlimited"
    as_it_was = "no limit was set at run time"
    undoes = True

    def in_words(self, options: dict[str, Any]) -> str:
        """Return what holds from now on."""
        return "limited as code and settings say"

    def change(self, options: dict[str, Any]) -> queues.Answer:
        """Take the limit away."""
        return queues.unlimit(**named(options))
