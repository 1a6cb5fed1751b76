"""``manage.py aftercommit worker``: run the jobs of this project."""

import argparse
import atexit
import signal
import threading
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.checks import Tags
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connections
from django.utils.autoreload import run_with_reloader

from aftercommit import log
from aftercommit.enqueue.transactions import refuse_inside_transaction
from aftercommit.errors import ConfigurationError, InsideTransaction
from aftercommit.options.queues import is_queue_name
from aftercommit.options.worker import NO_MESSAGES, RELAY_ONLY, RELAY_TOO, WorkerConfig
from aftercommit.process import stop_on_signals
from aftercommit.relay.outbox import relaying
from aftercommit.windows.doctor import examine
from aftercommit.worker.config import served
from aftercommit.worker.processes import child, launch
from aftercommit.worker.processes.orphans import Orphans
from aftercommit.worker.processes.silence import longest_silence
from aftercommit.worker.processes.status_line import status_line
from aftercommit.worker.processes.supervisor import Supervisor
from aftercommit.worker.runs import now

TO_ANSWER = timedelta(seconds=10)  # for a database that is checked at the start
LOOK_EVERY = timedelta(milliseconds=100)


class Command(BaseCommand):
    """Translate the command line, wire, run."""

    help = "Background jobs: run a worker, or the relay."
    stealth_options = ("stdin",)
    _waits_until = 0.0  # for databases that do not answer

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the subcommands."""
        commands = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
        worker = commands.add_parser("worker", help="run jobs until told to stop")
        add_worker_arguments(worker)
        worker.add_argument(
            "--relay",
            action="store_const",
            const=RELAY_TOO,
            help="publish messages for brokers as well (OPTIONS['relay'])",
        )
        _accept_here_as_well(worker)
        relay = commands.add_parser("relay", help="publish messages for brokers, nothing else")
        relay.set_defaults(relay=RELAY_ONLY, queues=None)
        add_process_arguments(relay)
        _accept_here_as_well(relay)
        doctor = commands.add_parser("doctor", help="say whether a worker could do its work")
        _accept_here_as_well(doctor)
        process = commands.add_parser(launch.SUBCOMMAND)  # without help: it is for ourselves
        process.add_argument("files", nargs="+")
        _accept_here_as_well(process)

    def check(self, *args: Any, **options: Any) -> None:
        """Check; what only a database that is away could answer is left out."""
        self._wait_for([Check(partial(super().check, *args, **options))])

    def handle(self, *, subcommand: str, **options: Any) -> None:
        """Run the subcommand; exit with its status."""
        if subcommand == launch.SUBCOMMAND:
            child.main(options["files"])
        if subcommand == "doctor":
            self._examine()
            return
        config = config_from(options)
        if not self._called_from_command_line:  # type: ignore[attr-defined]
            _refuse_inside_transaction(f"aftercommit {subcommand}")
        reload = settings.DEBUG if options["reload"] is None else options["reload"]
        finite = config.drain or config.max_jobs is not None
        if reload and not finite:
            run_with_reloader(lambda: self._work(config, reloads=True))
            return
        status = self._work(config)
        if status:
            raise SystemExit(status)

    def _examine(self) -> None:
        """Write what was found for each database; exit with 1 if a worker could not work."""
        try:
            aliases = sorted({one.using for one in served(WorkerConfig())})
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        findings = [one for alias in aliases for one in examine(alias)]
        for one in findings:
            (self.stderr if one.is_problem else self.stdout).write(one.text)
        if any(one.is_problem for one in findings):
            raise SystemExit(1)

    def _work(self, config: WorkerConfig, *, reloads: bool = False) -> int:
        log.show_log()
        log.write_log()
        try:
            serving = served(config)  # mistakes are said here, once
            orphans = Orphans(serving, may_fork=config.fork)
            supervisor = Supervisor(
                config, died=orphans, longest_silence=longest_silence(config, serving)
            )
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        aliases = [one.using for one in serving]
        if reloads:
            atexit.register(supervisor.end_children)
        with stop_on_signals(supervisor.stop) as received:  # a deploy may end what has just begun
            self._check_databases(aliases, enough=lambda: supervisor.stopping)
            self._remind_of_messages(config)
            hint = f"{config.processes} processes, {config.threads} threads each. Ctrl-C stops."
            if self._called_from_command_line:  # type: ignore[attr-defined]
                _close_connections()
            with status_line(
                aliases, supervisor.progress, self.stdout, hint=hint, may_fork=config.fork
            ):
                status = supervisor.run()
            orphans.settle()
            if config.drain or config.max_jobs is not None:
                status = status or self._unfinished(orphans, supervisor.worker_ids)
        if signal.SIGINT in received and not self._called_from_command_line:  # type: ignore[attr-defined]
            raise KeyboardInterrupt  # the caller was interrupted, too
        return status

    def _unfinished(self, orphans: Orphans, worker_ids: set[UUID]) -> int:
        """Return 1, and say so, if jobs of ours are still running in a table, or may be."""
        left: dict[str, int] = {}
        check = Check(lambda: left.update(orphans.left(worker_ids)))
        check.join(TO_ANSWER.total_seconds())
        if check.is_alive() or check.error is not None:
            self.stderr.write(
                "A database does not answer: whether all outcomes are written is open."
            )
            return 1
        for using, number in left.items():
            self.stderr.write(
                f"Database {using!r}: the outcomes of {number} job(s) that this worker has "
                "claimed are not written. These jobs are still running there, and run again when "
                "their leases end."
            )
        return int(bool(left))

    def _remind_of_messages(self, config: WorkerConfig) -> None:
        """Say if somebody else has to publish what this project keeps for its brokers."""
        names = sorted({name for backend in relaying() for name in backend.config.libraries})
        if names and config.relay == NO_MESSAGES:
            self.stderr.write(
                f"Messages for {', '.join(names)} are not published by this worker: run "
                "'manage.py aftercommit relay' beside it, or give it --relay."
            )

    def _check_databases(self, aliases: list[str], *, enough: Callable[[], bool]) -> None:
        """Say at the start what would go wrong later."""
        check = super().check
        checks = [Check(partial(check, tags=[Tags.database], databases=[one])) for one in aliases]
        self._wait_for(checks, enough=enough)

    def _wait_for(
        self, checks: list["Check"], *, enough: Callable[[], bool] = lambda: False
    ) -> None:
        """Raise what they raise; wait for no answer that does not come."""
        self._waits_until = self._waits_until or now() + TO_ANSWER.total_seconds()
        for one in checks:
            while one.is_alive() and now() < self._waits_until and not enough():
                one.join(LOOK_EVERY.total_seconds())
            if one.error is not None and not isinstance(one.error, Error):
                raise one.error
            if one.error is not None or (one.is_alive() and not enough()):
                why = (
                    f"for {TO_ANSWER.seconds} s"
                    if one.error is None
                    else type(one.error).__name__
                )
                self.stderr.write(f"A database does not answer ({why}): not all is checked.")


def _refuse_inside_transaction(what: str) -> None:
    """Refuse: worker processes see nothing of it, and on SQLite they would wait for its end."""
    try:
        refuse_inside_transaction(what)
    except InsideTransaction as error:
        raise CommandError(str(error)) from error


def _close_connections() -> None:
    """Close what the project has opened at its start, or else no process could be a fork.

    Not for a program that calls this command: a connection of its may hold a lock.
    """
    for connection in connections.all():
        connection.close()
        if hasattr(connection, "close_pool"):
            connection.close_pool()


class Check(threading.Thread):
    """A check in a thread of its own, since some ask a database that may never answer."""

    def __init__(self, check: Callable[[], object]) -> None:
        super().__init__(name="aftercommit-check", daemon=True)
        self._check = check
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Check; keep what is raised for whoever waits."""
        try:
            self._check()
        except BaseException as error:
            self.error = error
        finally:
            connections.close_all()


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``worker`` takes; defaults live in ``WorkerConfig``."""
    parser.add_argument("--queues", type=_names, help="queues, with commas (default: every one)")
    add_process_arguments(parser)


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every kind of worker takes."""
    parser.add_argument(
        "--backend",
        action="append",
        dest="backends",
        metavar="ALIAS",
        help="a backend of TASKS; may be repeated (default: every one of ours)",
    )
    parser.add_argument("--processes", type=int, help="worker processes (default: 1)")
    parser.add_argument("--threads", type=int, help="jobs at once in each process (default: 4)")
    parser.add_argument("--drain", action="store_true", help="run what is due, then end")
    parser.add_argument("--max-jobs", type=int, help="end after so many runs (default: never)")
    parser.add_argument(
        "--grace", type=_seconds, help="seconds that a stop waits for running jobs (default: 30)"
    )
    parser.add_argument(
        "--watchdog",
        type=_seconds,
        help="seconds after which a process without a sign of life is killed and replaced; "
        "0: never (default: the longest lease)",
    )
    parser.add_argument(
        "--fork",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="let processes be forks where that is safe, or never (default: where it is safe)",
    )
    parser.add_argument(
        "--reload",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="start again when code changes (default: with DEBUG)",
    )


def _accept_here_as_well(parser: argparse.ArgumentParser) -> None:
    """Take Django's own options behind the subcommand, too: where everybody writes them."""
    unseen: Any = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    parser.add_argument("-v", "--verbosity", type=int, choices=range(4), **unseen)
    for name in ("--settings", "--pythonpath"):
        parser.add_argument(name, **unseen)
    for name in ("--traceback", "--no-color", "--force-color", "--skip-checks"):
        parser.add_argument(name, action="store_true", **unseen)


def config_from(options: dict[str, Any]) -> WorkerConfig:
    """Build the configuration from what was given on the command line."""
    names = [field.name for field in fields(WorkerConfig)]
    given = {name: options[name] for name in names if options.get(name) is not None}
    if "backends" in given:
        given["backends"] = tuple(given["backends"])
    try:
        return WorkerConfig.from_mapping(given, where="aftercommit worker")
    except ConfigurationError as error:
        raise CommandError(str(error)) from error


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(map(is_queue_name, names)):
        raise argparse.ArgumentTypeError(
            f"expected queues with commas between them, such as default,mail; got {text!r}"
        )
    return names


def _seconds(text: str) -> timedelta:
    try:
        return timedelta(seconds=float(text))
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"expected seconds, got {text!r}") from error
