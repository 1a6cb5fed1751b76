"""``manage.py aftercommit doctor``: say what is misconfigured or sick, and the cure."""

import json
from functools import reduce
from operator import or_
from typing import Any

from django.core.management.base import CommandError, CommandParser

from aftercommit.errors import ConfigurationError
from aftercommit.management.subcommands.base import Subcommand
from aftercommit.options.worker import WorkerConfig
from aftercommit.windows.doctor import Ailment, Finding, examine, refused
from aftercommit.worker.config import served


class Doctor(Subcommand):
    """Write what was found for each database."""

    name = "doctor"
    help = "say what is misconfigured or sick, and the cure"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the form."""
        parser.add_argument("--json", action="store_true", help="write JSON, for programs")

    def run(self, options: dict[str, Any]) -> int:
        """Write what was found; return a bit for each kind of problem, see ``Ailment``."""
        try:
            aliases = sorted({one.using for one in served(WorkerConfig())})
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        findings = self._find(aliases)
        if options["json"]:
            self.say(json.dumps([one.as_json() for one in findings]))
        for one in () if options["json"] else findings:
            (self.complain if one.is_problem else self.say)(str(one))
        return int(reduce(or_, (one.ailment for one in findings), Ailment.NONE))

    def _find(self, aliases: list[str]) -> list[Finding]:
        found: list[Finding] = []
        for alias, refusal in self._answers.refusals(aliases).items():
            found += examine(alias) if refusal is None else [refused(alias, refusal)]
        return found
