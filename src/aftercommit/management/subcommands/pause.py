"""``manage.py aftercommit pause``, ``resume``, ``queues``: stop the jobs of a queue for now."""

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from aftercommit import queues
from aftercommit.errors import ConfigurationError, NothingToPause
from aftercommit.management.subcommands.base import Subcommand
from aftercommit.values import TASK


class Pause(Subcommand):
    """Let no worker claim jobs of a queue or a task, or messages for a broker."""

    name = "pause"
    help = "let no worker claim jobs of a queue or a task until it is resumed"
    done = "paused"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare what is named, and the notes."""
        _add_names(parser)
        parser.add_argument("--by", default="", help="who pauses, for others to see")
        parser.add_argument("--why", default="", help="why, for others to see")

    def run(self, options: dict[str, Any]) -> int:
        """Pause or resume; say what has changed."""
        self._kind = "queue" if options["task"] is None else "task"
        try:
            answer = self._change(options)
        except (ConfigurationError, NothingToPause) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            changed = [{"database": using, self._kind: name} for using, name in answer.changed]
            self.say(json.dumps({self.done: changed, "unused": answer.unused}))
            return 0
        for using, name in answer.changed:
            self.say(f"{using}: the {self._kind} {name} is {self.done}.")
        if not answer.changed:
            self.say(f"Nothing has changed: {self._as_it_was}.")
        if answer.unused:
            self.complain("No job is in this queue, and no task is known that enqueues there.")
        return 0

    _as_it_was = "it was paused already"

    def _change(self, options: dict[str, Any]) -> queues.Answer:
        return queues.pause(**_named(options), by=options["by"], why=options["why"])


class Resume(Pause):
    """End a pause."""

    name = "resume"
    help = "let workers claim paused jobs again"
    done = "resumed"
    _as_it_was = "it was not paused"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare what is named."""
        _add_names(parser)

    def _change(self, options: dict[str, Any]) -> queues.Answer:
        return queues.resume(**_named(options))


class Queues(Subcommand):
    """Write the queues that there are, and what is paused."""

    name = "queues"
    help = "list the queues, and what is paused"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the form, and the database."""
        _add_form(parser)

    def run(self, options: dict[str, Any]) -> int:
        """Write a line for each."""
        try:
            found = queues.list(options["database"])
            tasks = [one for one in queues.paused(options["database"]) if one.kind == TASK]
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.say(json.dumps([*map(_as_json, found), *map(_as_json, tasks)]))
            return 0
        for one in found:
            self.say(f"{one.using}: {one.name}{_paused(one)}")
        for task in tasks:
            self.say(f"{task.using}: the task {task.name}, paused {task.details}")
        return 0


def _add_names(parser: CommandParser) -> None:
    parser.add_argument("queue", nargs="?", metavar="QUEUE")
    parser.add_argument("--task", metavar="PATH", help="a task, instead of a queue")
    parser.add_argument("--broker", metavar="NAME", help="the messages for a library, as celery")
    _add_form(parser)


def _add_form(parser: CommandParser) -> None:
    parser.add_argument("--database", metavar="ALIAS", help="(default: all that hold jobs)")
    parser.add_argument("--json", action="store_true", help="write JSON, for programs")


def _named(options: dict[str, Any]) -> dict[str, Any]:
    names = ("queue", "task", "broker")
    return {name: options[name] for name in names} | {"using": options["database"]}


def _paused(one: queues.Queue) -> str:
    return f", paused {one.pause.details}" if one.pause else ""


def _as_json(one: queues.Queue | queues.Paused) -> dict[str, Any]:
    found = one if isinstance(one, queues.Paused) else one.pause
    kind = one.kind if isinstance(one, queues.Paused) else "queue"
    pause = found and {"since": found.since.isoformat(), "by": found.by, "why": found.why}
    return {"database": one.using, kind: one.name, "paused": pause}
