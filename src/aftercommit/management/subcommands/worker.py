"""``manage.py aftercommit worker`` and ``relay``: run the jobs of this project."""

import atexit
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from django.apps import apps
from django.conf import settings
from django.core.checks import Tags
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from django.utils.autoreload import (
    DJANGO_AUTORELOAD_ENV,
    BaseReloader,
    autoreload_started,
    run_with_reloader,
)

from aftercommit import log
from aftercommit.enqueue.transactions import refuse_inside_transaction
from aftercommit.errors import ConfigurationError, InsideTransaction
from aftercommit.management.subcommands.answers import TO_ANSWER, Check
from aftercommit.management.subcommands.base import Subcommand
from aftercommit.management.subcommands.worker_options import (
    add_process_arguments,
    add_worker_arguments,
    config_from,
)
from aftercommit.options.worker import NO_MESSAGES, RELAY_ONLY, RELAY_TOO, WorkerConfig
from aftercommit.process import stop_on_signals
from aftercommit.relay.outbox import relaying
from aftercommit.store.readiness import Unready
from aftercommit.windows.health import Health
from aftercommit.wording import counted
from aftercommit.worker.config import Served, served
from aftercommit.worker.paused_jobs import PausedJobs, paused_jobs
from aftercommit.worker.processes.orphans import Orphans
from aftercommit.worker.processes.silence import longest_silence
from aftercommit.worker.processes.status_line import status_line
from aftercommit.worker.processes.supervisor import Supervisor


class Worker(Subcommand):
    """Run jobs until told to stop."""

    name = "worker"
    help = "run jobs until told to stop"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare what a worker takes."""
        add_worker_arguments(parser)
        parser.add_argument(
            "--relay",
            action="store_const",
            const=RELAY_TOO,
            help="publish messages for brokers as well (OPTIONS['relay'])",
        )

    def run(self, options: dict[str, Any]) -> int:
        """Work; return the status."""
        config = config_from(options)
        self._health_address = options["health_port"]
        config = replace(config, tells_counts=self._health_address is not None)
        if not self.from_command_line:
            _refuse_inside_transaction(f"aftercommit {self.name}")
        reload = settings.DEBUG if options["reload"] is None else options["reload"]
        finite = config.drain or config.max_jobs is not None
        if reload and not finite:
            return self._follow_code(config)
        return self._work(config)

    def _follow_code(self, config: WorkerConfig) -> int:
        """Work in a process that Django starts again when code changes; return the status.

        Both processes call this. What is wrong at the start ends the first one; what becomes
        wrong by a change of the code is said by the other one, which waits for the next change.
        """
        if os.environ.get(DJANGO_AUTORELOAD_ENV) != "true":
            status = self._refused_at_start(config)
            if status:
                return status
        autoreload_started.connect(_watch_apps, dispatch_uid="aftercommit.worker")
        run_with_reloader(lambda: self._work_until_code_changes(config))
        return 0

    def _refused_at_start(self, config: WorkerConfig) -> int:
        """Say why no job could be run, whatever databases that are away answer later."""
        aliases = [one.using for one in _served(config)]
        found = [one for one in self._answers.refusals(aliases).values() if one is not None]
        refusals = [one for one in found if one.why is not Unready.AWAY]
        for one in refusals:
            self.complain(one.sentence)
        return min((one.why.value for one in refusals), default=0)

    def _work_until_code_changes(self, config: WorkerConfig) -> None:
        """Work; a mistake is a sentence, as without the reloader, and no end of it."""
        try:
            status = self._work(config, reloads=True)
        except CommandError as error:
            self.complain(str(error))
            status = 1
        if status:
            self.complain("No job is run here before the code changes; Ctrl-C ends this worker.")

    def _work(self, config: WorkerConfig, *, reloads: bool = False) -> int:
        log.show_log()
        log.write_log()
        serving = _served(config)
        try:
            orphans = Orphans(serving, may_fork=config.fork)
            health = Health(self._health_address)
            supervisor = Supervisor(
                config,
                died=orphans,
                longest_silence=longest_silence(config, serving),
                told=health.tell,
                counted=health.count,
            )
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        aliases = [one.using for one in serving]
        if reloads:
            atexit.register(supervisor.end_children)
        with stop_on_signals(supervisor.stop) as received:  # a deploy may end what has just begun
            refused = self._look_ahead(aliases, config, enough=lambda: supervisor.stopping)
            if refused:
                return refused
            hint = (
                f"{counted(config.processes, 'process', 'processes')}, "
                f"{counted(config.threads, 'thread')} each. Ctrl-C stops."
            )
            if self.from_command_line:
                _close_connections()
            with (
                health.served(may_fork=config.fork),
                status_line(
                    aliases,
                    supervisor.progress,
                    self._command.stdout,
                    hint=hint,
                    may_fork=config.fork,
                ),
            ):
                status = supervisor.run()
            orphans.settle()
            if config.drain or config.max_jobs is not None:
                status = self._said_what_is_left(status, orphans, supervisor, serving)
        if signal.SIGINT in received and not self.from_command_line:
            raise KeyboardInterrupt  # the caller was interrupted, too
        return status

    def _said_what_is_left(
        self, status: int, orphans: Orphans, supervisor: Supervisor, serving: list[Served]
    ) -> int:
        """Say it; return the exit status of a worker that has run what was due."""
        status = status or self._unfinished(orphans, supervisor.worker_ids)
        self._say_paused(serving)
        return status

    def _say_paused(self, serving: list[Served]) -> None:
        """Say which due jobs are left because of a pause."""
        left: list[PausedJobs] = []
        check = Check(lambda: left.extend(paused_jobs(serving)))
        check.join(TO_ANSWER.total_seconds())
        for one in left:
            self.complain(str(one))

    def _unfinished(self, orphans: Orphans, worker_ids: set[UUID]) -> int:
        """Return 1, and say so, if jobs of ours are still running in a table, or may be."""
        left: dict[str, int] = {}
        check = Check(lambda: left.update(orphans.left(worker_ids)))
        check.join(TO_ANSWER.total_seconds())
        if check.is_alive() or check.error is not None:
            self.complain("A database does not answer: whether all outcomes are written is open.")
            return 1
        for using, number in left.items():
            self.complain(
                f"Database {using!r}: the outcomes of {counted(number, 'job')} that this worker "
                "has claimed are not written. In the table they are still running, and run again "
                "when their leases end."
            )
        return int(bool(left))

    def _remind_of_messages(self, config: WorkerConfig) -> None:
        """Say if somebody else has to publish what this project keeps for its brokers."""
        names = sorted({name for backend in relaying() for name in backend.config.libraries})
        if names and config.relay == NO_MESSAGES:
            self.complain(
                f"Messages for {', '.join(names)} are not published by this worker: run "
                "'manage.py aftercommit relay' beside it, or give it --relay."
            )

    def _look_ahead(
        self, aliases: list[str], config: WorkerConfig, *, enough: Callable[[], bool]
    ) -> int:
        """Say at the start what would go wrong later; return the exit status if it is no use."""
        finite = config.drain or config.max_jobs is not None
        refused = self._answers.refused(aliases, waits=not finite, enough=enough)
        if refused:
            return refused
        # Not the command's own check(), which waits for an answer in a thread as well.
        check = partial(BaseCommand.check, self._command, tags=[Tags.database])
        checks = [Check(partial(check, databases=[one])) for one in aliases]
        self._answers.wait_for(checks, enough=enough)
        self._remind_of_messages(config)
        return 0


class Relay(Worker):
    """Publish messages for brokers, nothing else."""

    name = "relay"
    help = "publish messages for brokers, nothing else"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare what a worker takes, without the queues."""
        parser.set_defaults(relay=RELAY_ONLY, queues=None)
        add_process_arguments(parser)


def _served(config: WorkerConfig) -> list[Served]:
    """Return what to serve; a mistake in settings, options or modules with tasks is said here."""
    try:
        return served(config)
    except ConfigurationError as error:
        raise CommandError(str(error)) from error


def _watch_apps(sender: BaseReloader, **_more: object) -> None:
    """Watch also modules that cannot be imported: Django sees no change of those."""
    for app in apps.get_app_configs():
        if "site-packages" not in app.path:
            sender.watch_dir(app.path, "*.py")


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
