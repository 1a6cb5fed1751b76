"""``manage.py flush_queue``: run what is due, then end, as Django Async did."""

import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from aftercommit import log
from aftercommit.enqueue.transactions import refuse_inside_transaction
from aftercommit.errors import ConfigurationError, InsideTransaction
from aftercommit.management.subcommands.answers import Answers
from aftercommit.management.subcommands.selected import filled
from aftercommit.options.worker import WorkerConfig
from aftercommit.process import stop_on_signals
from aftercommit.worker.config import served
from aftercommit.worker.inline import InlineWorker
from aftercommit.worker.interrupts import interruptible
from aftercommit.worker.share import Share

INTERRUPTED = 130  # the exit status that shells give to a program that Ctrl-C has ended


class Command(BaseCommand):
    """Translate the command line, run."""

    help = "Run the jobs that are due, one after the other, and end."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options that Django Async gave this command."""
        parser.add_argument("--jobs", type=int, help="run at most so many (default: all)")
        parser.add_argument("--which", type=int, default=1, help="this share (from 1)")
        parser.add_argument("--outof", type=int, default=1, help="of so many shares (default: 1)")
        parser.add_argument(
            "--filter",
            type=filled,
            metavar="NAME",
            help="only functions and tasks whose dotted path begins with NAME",
        )

    def handle(self, **options: Any) -> None:
        """Run them, and say how many there were."""
        try:
            refuse_inside_transaction("flush_queue")
            share = Share(which=options["which"], outof=options["outof"])
            worker = InlineWorker(share=share, name=options["filter"] or "", most=options["jobs"])
        except (ConfigurationError, InsideTransaction) as error:
            raise CommandError(str(error)) from error
        aliases = sorted({one.using for one in served(WorkerConfig())})
        if status := Answers(self.stderr.write).refused(aliases, waits=False):
            raise SystemExit(status)
        log.show_log()
        log.write_log()
        with stop_on_signals(worker.stop) as received, interruptible():
            count = worker.run()
        self.stdout.write(f"{count} jobs were run.")
        for left in worker.left_paused:
            self.stderr.write(str(left))
        if signal.SIGINT in received:  # whoever has called this must not go on either
            if self._called_from_command_line:  # type: ignore[attr-defined]
                raise SystemExit(INTERRUPTED)
            raise KeyboardInterrupt
