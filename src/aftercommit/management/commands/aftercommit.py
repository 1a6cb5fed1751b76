"""``manage.py aftercommit``: translate the command line and run one of the subcommands."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from aftercommit.management.subcommands.answers import Answers, Check
from aftercommit.management.subcommands.base import Subcommand, accept_here_as_well
from aftercommit.management.subcommands.change import Cancel, Move, Prune, Retry
from aftercommit.management.subcommands.doctor import Doctor
from aftercommit.management.subcommands.groups import Groups
from aftercommit.management.subcommands.importing import ImportCalls
from aftercommit.management.subcommands.jobs import Jobs
from aftercommit.management.subcommands.limit import Limit, Unlimit
from aftercommit.management.subcommands.metrics import Metrics
from aftercommit.management.subcommands.pause import Pause, Resume
from aftercommit.management.subcommands.process import Process
from aftercommit.management.subcommands.queues import Queues
from aftercommit.management.subcommands.rate import Rate, Unrate
from aftercommit.management.subcommands.schedules import Schedules
from aftercommit.management.subcommands.secrets import Secrets
from aftercommit.management.subcommands.status import Status
from aftercommit.management.subcommands.under_test import say_test_databases
from aftercommit.management.subcommands.worker import Relay, Worker

SUBCOMMANDS: Sequence[type[Subcommand]] = (
    Worker,
    Relay,
    Status,
    Metrics,
    Doctor,
    Jobs,
    Retry,
    Cancel,
    Move,
    Prune,
    Pause,
    Resume,
    Limit,
    Unlimit,
    Rate,
    Unrate,
    Queues,
    Groups,
    Secrets,
    Schedules,
    ImportCalls,
    Process,
)


class Command(BaseCommand):
    """Each subcommand has a module of its own in ``management/subcommands``."""

    help = "Background jobs: run workers, look at jobs, change them."
    stealth_options = ("stdin",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._answers = Answers(self._complain)
        made = [one(self, self._answers) for one in SUBCOMMANDS]
        self._subcommands = {one.name: one for one in made}

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the subcommands."""
        commands = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
        for name, one in self._subcommands.items():
            # Without a help text it is not listed: it is for ourselves.
            listed: dict[str, Any] = {"help": one.help} if one.help else {}
            mine = commands.add_parser(name, **listed)
            one.add_arguments(mine)
            accept_here_as_well(mine)

    def check(self, *args: Any, **options: Any) -> None:
        """Check; what only a database that is away could answer is left out."""
        self._answers.wait_for([Check(partial(super().check, *args, **options))])

    def handle(self, *, subcommand: str, **options: Any) -> None:
        """Run the subcommand; exit with its status."""
        say_test_databases(self._complain)
        status = self._subcommands[subcommand].run(options)
        if status:
            raise SystemExit(status)

    def _complain(self, text: str) -> None:
        self.stderr.write(text)  # which execute() may have replaced
