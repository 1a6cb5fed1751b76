"""The process that a worker starts for itself; nobody else calls it."""

from typing import Any

from django.core.management.base import CommandParser

from aftercommit.management.subcommands.base import Subcommand
from aftercommit.worker.processes import child, launch


class Process(Subcommand):
    """One worker process: what its parent has written into files."""

    name = launch.SUBCOMMAND

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the files of the parent."""
        parser.add_argument("files", nargs="+")

    def run(self, options: dict[str, Any]) -> int:
        """Be the worker process until it is told to stop."""
        child.main(options["files"])
