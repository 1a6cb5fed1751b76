"""``manage.py aftercommit pause``, ``resume``: stop the jobs of a queue for now."""

from typing import Any

from django.core.management.base import CommandParser

from aftercommit import queues
from aftercommit.management.subcommands.ruling import Ruling, named


class Pause(Ruling):
    """Let no worker claim jobs of a queue or a task, or messages for a broker."""

    name = "pause"
    help = "let no worker claim jobs of a queue or a task until it is resumed"
    done = "paused"
    as_it_was = "it was paused already"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare what is named, and the notes."""
        super().add_arguments(parser)
        parser.add_argument("--by", default="", help="who pauses, for others to see")
        parser.add_argument("--why", default="", help="why, for others to see")

    def change(self, options: dict[str, Any]) -> queues.Answer:
        """Pause."""
        return queues.pause(**named(options), by=options["by"], why=options["why"])


class Resume(Ruling):
    """End a pause."""

    name = "resume"
    help = "let workers claim paused jobs again"
    done = "resumed"
    as_it_was = "it was not paused"
    undoes = True

    def change(self, options: dict[str, Any]) -> queues.Answer:
        """Resume."""
        return queues.resume(**named(options))
