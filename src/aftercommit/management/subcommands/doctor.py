"""``manage.py aftercommit doctor``: say whether a worker could do its work."""

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from aftercommit.errors import ConfigurationError
from aftercommit.management.subcommands.base import Subcommand
from aftercommit.options.worker import WorkerConfig
from aftercommit.windows.doctor import examine
from aftercommit.worker.config import served


class Doctor(Subcommand):
    """Write what was found for each database."""

    name = "doctor"
    help = "say whether a worker could do its work"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the form."""
        parser.add_argument("--json", action="store_true", help="write JSON, for programs")

    def run(self, options: dict[str, Any]) -> int:
        """Write what was found; return 1 if a worker could not work."""
        try:
            aliases = sorted({one.using for one in served(WorkerConfig())})
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        findings = [one for alias in aliases for one in examine(alias)]
        if options["json"]:
            self.say(json.dumps([asdict(one) for one in findings]))
        for one in () if options["json"] else findings:
            (self.complain if one.is_problem else self.say)(one.text)
        return int(any(one.is_problem for one in findings))
