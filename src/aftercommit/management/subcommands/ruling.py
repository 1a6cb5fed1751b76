"""What the commands share that set something for a queue, a task or a broker at run time."""

import json
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from aftercommit import queues
from aftercommit.enqueue.configured import job_aliases
from aftercommit.errors import NothingToLimit, NothingToPause
from aftercommit.management.subcommands.asking import Asking
from aftercommit.management.subcommands.selected import NOTHING_FOUND


class Ruling(Asking):
    """Changes what is set for what is named, and says what was not so before."""

    done: ClassVar[str]  # "paused"
    as_it_was: ClassVar[str]  # "it was paused already"
    undoes: ClassVar[bool] = False  # takes away what another command has set

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare what is named."""
        parser.add_argument("queue", nargs="?", metavar="QUEUE")
        parser.add_argument("--task", metavar="PATH", help="a task, instead of a queue")
        parser.add_argument(
            "--broker", metavar="NAME", help="the messages for a library, as celery"
        )
        add_form(parser)
        parser.add_argument(
            "--dry-run", action="store_true", help="only say what it would change"
        )

    def ask(self, options: dict[str, Any]) -> int:
        """Change it; say what has changed."""
        dry = options["dry_run"]
        kind = "queue" if options["task"] is None else "task"
        try:
            with rolled_back(dry):
                answer = self.change(options)
        except (NothingToPause, NothingToLimit) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            changed = [{"database": using, kind: name} for using, name in answer.changed]
            said = {self.done: changed, "unused": answer.unused}
            self.say(json.dumps({**said, "dry_run": True} if dry else said))
            return self._status(answer)
        for using, name in answer.changed:
            verb = "would be" if dry else "is"
            self.say(f"{using}: the {kind} {name} {verb} {self.in_words(options)}.")
        if not answer.changed:
            self.say(f"Nothing {'would change' if dry else 'has changed'}: {self.as_it_was}.")
        if answer.unused:
            self.complain("No job is in this queue, and no task is known that enqueues there.")
        return self._status(answer)

    def _status(self, answer: queues.Answer) -> int:
        """Say of a command that takes something away that nobody uses the name."""
        return NOTHING_FOUND if self.undoes and answer.unused else 0

    def in_words(self, options: dict[str, Any]) -> str:
        """Return what is done, for people."""
        return self.done

    @abstractmethod
    def change(self, options: dict[str, Any]) -> queues.Answer:
        """Do it."""


@contextmanager
def rolled_back(dry: bool) -> Iterator[None]:
    """Do what is inside in transactions that are rolled back, if it is a dry run."""
    aliases = job_aliases() if dry else []
    with ExitStack() as stack:
        for using in aliases:
            stack.enter_context(transaction.atomic(using=using))
        yield
        for using in aliases:
            transaction.set_rollback(True, using=using)


def add_form(parser: CommandParser) -> None:
    """Declare the database, and the form of what is written."""
    parser.add_argument("--database", metavar="ALIAS", help="(default: all that hold jobs)")
    parser.add_argument("--json", action="store_true", help="write JSON, for programs")


def named(options: dict[str, Any]) -> dict[str, Any]:
    """Return what is named, as the functions of ``aftercommit.queues`` take it."""
    names = ("queue", "task", "broker")
    return {name: options[name] for name in names} | {"using": options["database"]}
