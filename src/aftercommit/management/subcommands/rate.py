"""``manage.py aftercommit rate``, ``unrate``: how often jobs of a queue start, for now."""

from typing import Any

from django.core.management.base import CommandParser

from aftercommit import queues
from aftercommit.management.subcommands.ruling import Ruling, named


class Rate(Ruling):
    """Let jobs of a queue or a task start so often, or messages be published."""

    name = "rate"
    help = "let jobs of a queue or a task start so often, on all machines"
    done = "rated"
    as_it_was = "it had this rate already"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare what is named, and how often."""
        super().add_arguments(parser)
        parser.add_argument(
            "--starts", metavar="RATE", required=True, help="so many in a time: 60/m, 10/30s"
        )
        parser.add_argument(
            "--burst", type=int, metavar="N", default=1, help="so many at once (default: 1)"
        )

    def in_words(self, options: dict[str, Any]) -> str:
        """Return how often."""
        burst = f", {options['burst']:,} at once" if options["burst"] > 1 else ""
        return f"limited to {options['starts']} starts{burst}"

    def change(self, options: dict[str, Any]) -> queues.Answer:
        """Set the rate."""
        return queues.rate(**named(options), rate=options["starts"], burst=options["burst"])


class Unrate(Ruling):
    """Let the rate in code or settings hold again, if there is one."""

    name = "unrate"
    help = "let the rate in code or settings hold again, or none"
    done = "unrated"
    as_it_was = "no rate was set at run time"
    undoes = True

    def in_words(self, options: dict[str, Any]) -> str:
        """Return what holds from now on."""
        return "rated as code and settings say"

    def change(self, options: dict[str, Any]) -> queues.Answer:
        """Take the rate away."""
        return queues.unrate(**named(options))
