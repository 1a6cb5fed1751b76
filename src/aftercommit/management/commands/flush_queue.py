"""``manage.py flush_queue``: run what is due, then end, as Django Async did."""

import signal
from collections.abc import Collection
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from aftercommit import log
from aftercommit.enqueue.transactions import refuse_inside_transaction
from aftercommit.errors import ConfigurationError, InsideTransaction
from aftercommit.management.subcommands.answers import Answers, Check
from aftercommit.management.subcommands.selected import filled
from aftercommit.management.subcommands.under_test import say_test_databases
from aftercommit.options.worker import WorkerConfig
from aftercommit.process import stop_on_signals
from aftercommit.wording import counted
from aftercommit.worker.config import served
from aftercommit.worker.inline import InlineWorker
from aftercommit.worker.interrupts import interruptible
from aftercommit.worker.share import Share, alone

USUAL_JOBS = 300  # as Django Async has it
ALL = "all"
INTERRUPTED = 130  # the exit status that shells give to a program that Ctrl-C has ended


class Command(BaseCommand):
    """Translate the command line, run."""

    help = "Run the jobs that are due, one after the other, and end."

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._answers = Answers(self._complain)

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options that Django Async gave this command."""
        parser.add_argument(
            *("-j", "--jobs"),
            type=_number_or_all,
            default=USUAL_JOBS,
            metavar="NUMBER",
            help=f"run at most so many, or 'all' (default: {USUAL_JOBS})",
        )
        parser.add_argument(
            *("-w", "--which"), type=int, default=0, help="this share, from 0 (default: 0)"
        )
        parser.add_argument(
            *("-o", "--outof"), type=int, default=1, help="of so many shares (default: 1)"
        )
        parser.add_argument(
            "--serial",
            action="store_true",
            help="do nothing while another flush of this share that was started so is running",
        )
        parser.add_argument(
            *("-f", "--filter"),
            type=filled,
            metavar="NAME",
            help="only functions and tasks whose dotted path begins with NAME",
        )

    def check(self, *args: Any, **options: Any) -> None:
        """Check; what only a database that is away could answer is left out."""
        self._answers.wait_for([Check(partial(super().check, *args, **options))])

    def handle(self, **options: Any) -> None:
        """Run them, and say how many there were."""
        say_test_databases(self._complain)
        try:
            refuse_inside_transaction("flush_queue")
            share = Share(which=options["which"], outof=options["outof"])
            most = None if options["jobs"] in {ALL, None} else options["jobs"]
            worker = InlineWorker(share=share, name=options["filter"] or "", most=most)
            aliases = sorted({one.using for one in served(WorkerConfig())})
        except (ConfigurationError, InsideTransaction) as error:
            raise CommandError(str(error)) from error
        if status := self._answers.refused(aliases, waits=False):
            raise SystemExit(status)
        log.show_log()
        log.write_log()
        try:
            with alone(share, aliases if options["serial"] else ()) as has_lock:
                if not has_lock:
                    self.stdout.write("Another flush_queue has this share: nothing was run.")
                    return
                received = self._run(worker)
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        self._tell(worker, received)

    def _run(self, worker: InlineWorker) -> Collection[int]:
        with stop_on_signals(worker.stop) as received, interruptible():
            count = worker.run()
        self.stdout.write(f"{counted(count, 'job')} {'was' if count == 1 else 'were'} run.")
        return received

    def _tell(self, worker: InlineWorker, received: Collection[int]) -> None:
        for left in worker.left_paused:
            self.stderr.write(str(left))
        if signal.SIGINT in received:  # whoever has called this must not go on either
            if self._called_from_command_line:  # type: ignore[attr-defined]
                raise SystemExit(INTERRUPTED)
            raise KeyboardInterrupt

    def _complain(self, text: str) -> None:
        self.stderr.write(text)  # which execute() may have replaced


def _number_or_all(text: str) -> int | str:
    return ALL if text == ALL else int(text)
