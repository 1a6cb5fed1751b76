"""``manage.py aftercommit doctor``: say what is misconfigured or sick, and the cure."""

import json
from functools import reduce
from operator import or_
from typing import Any

from django.core.management.base import CommandError, CommandParser

from aftercommit.errors import ConfigurationError
from aftercommit.management.subcommands.base import Subcommand
from aftercommit.management.subcommands.selected import add_form, aliases
from aftercommit.options.worker import WorkerConfig
from aftercommit.windows.doctor import Ailment, Finding, examine, refused
from aftercommit.worker.config import served


class Doctor(Subcommand):
    """Write what was found for each database."""

    name = "doctor"
    help = "say what is misconfigured or sick, and the cure"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the database, and the form."""
        add_form(parser)

    def run(self, options: dict[str, Any]) -> int:
        """Write what was found; return a bit for each kind of problem, see ``Ailment``."""
        try:
            served(WorkerConfig())  # mistakes are said here
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        findings = self._find(aliases(options))
        if options["json"]:
            self.say(json.dumps([one.as_json() for one in findings]))
        for one in () if options["json"] else findings:
            (self.complain if one.is_problem else self.say)(str(one))
        return int(reduce(or_, (one.ailment for one in findings), Ailment.NONE))

    def _find(self, asked: list[str]) -> list[Finding]:
        found: list[Finding] = []
        for alias, refusal in self._answers.refusals(asked).items():
            found += examine(alias) if refusal is None else [refused(alias, refusal)]
        return found
