"""What the subcommands share that are about many jobs: which ones, how far, and the status."""

import argparse
import json
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError, CommandParser

from aftercommit import jobs
from aftercommit.enqueue.configured import job_aliases
from aftercommit.errors import BadSelection
from aftercommit.jobs import Progress, Selection
from aftercommit.management.subcommands.asking import Asking
from aftercommit.wording import counted

# Exit statuses, beside 0: all done, 1 and 2: a mistake, and those of ``Unready``.
NOTHING_FOUND, SOME_LEFT = 6, 7
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
CRITERIA = {
    "ids": "ids",
    "state": "state",
    "task": "task",
    "queue": "queue",
    "older_than": "enqueued_before",
    "error": "error_contains",
    "tag": "tag",
    "group": "group",
}
RETRY_THEM = "retry those first or as well"
SAY_EVERY = 10_000  # jobs, where there is no live line


def span(text: str) -> timedelta:
    """Return a span such as ``90s``, ``15m``, ``2h`` or ``7d``."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError(
            f"expected a span such as 90s, 15m, 2h or 7d, got {text!r}"
        )
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def filled(text: str) -> str:
    """Return a text that says something: a variable of a script may have been empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError(
            f"expected a text, got {text!r}: an empty one does not mean any or all"
        )
    return text


def add_form(parser: CommandParser) -> None:
    """Declare the database, and the form of what is written."""
    parser.add_argument("--database", metavar="ALIAS", help="(default: all that hold jobs)")
    parser.add_argument("--json", action="store_true", help="write JSON, for programs")


def add_criteria(parser: CommandParser) -> None:
    """Declare what may be said of jobs."""
    add_state(parser)
    parser.add_argument(
        "--task", type=filled, metavar="PATH", help="of this task, such as shop.tasks.send"
    )
    parser.add_argument("--queue", type=filled, metavar="NAME", help="in this queue")
    parser.add_argument(
        "--older-than", type=span, metavar="SPAN", help="enqueued longer ago: 90s, 15m, 2h, 7d"
    )
    parser.add_argument("--tag", type=filled, metavar="TAG", help="with this tag")
    parser.add_argument("--group", type=filled, metavar="ID", help="of this group, by its id")
    parser.add_argument(
        "--error", type=filled, metavar="TEXT", help="with this text in the error of a run"
    )


def add_state(parser: CommandParser) -> None:
    """Declare that states may be said."""
    parser.add_argument(
        "--state", type=filled, action="append", help="in this state; may be repeated"
    )


def given_criteria(options: dict[str, Any]) -> dict[str, Any]:
    """Return what was said of jobs, as the arguments of ``jobs.find``.

    What is empty was said, too, and is refused there: left out, it would mean all jobs.
    """
    found = {asked: options.get(name) for name, asked in CRITERIA.items()}
    found["ids"] = found["ids"] or None  # the parser has an empty list if no ID is written
    return {name: value for name, value in found.items() if value is not None}


def aliases(options: dict[str, Any]) -> list[str]:
    """Return the databases that are meant; raises ``CommandError`` for one without jobs."""
    known, wanted = sorted(job_aliases()), options["database"]
    if wanted is not None and wanted not in known:
        raise CommandError(
            f"No backend of TASKS keeps jobs in the database {wanted!r}; "
            f"known: {', '.join(known)}."
        )
    return known if wanted is None else [wanted]


class Change(Asking):
    """A subcommand that changes what it finds."""

    done: str  # what has become of the jobs
    states: tuple[str, ...]  # in which it changes jobs

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare which jobs, and how."""
        parser.add_argument("ids", nargs="*", type=UUID, metavar="ID", help="these jobs")
        add_criteria(parser)
        parser.add_argument("--all", action="store_true", help="whatever else is true of them")
        self.add_change(parser)

    def add_change(self, parser: CommandParser) -> None:
        """Declare what every change takes."""
        parser.add_argument("--dry-run", action="store_true", help="only say how many there are")
        add_form(parser)

    def ask(self, options: dict[str, Any]) -> int:
        """Change them, one database after the other."""
        found = self.selections(options)
        if options["dry_run"]:
            return self._count(found, options)
        totals = {using: self._one(one, using, options) for using, one in found.items()}
        if options["json"]:
            self.say(json.dumps({using: _as_json(one) for using, one in totals.items()}))
        if not any(one.found for one in totals.values()):
            return NOTHING_FOUND
        return SOME_LEFT if any(one.left for one in totals.values()) else 0

    def selections(self, options: dict[str, Any]) -> dict[str, Selection]:
        """Return the selection of each database."""
        given = given_criteria(options)
        if not given and not options["all"]:
            raise CommandError(
                "Say which jobs are meant, for example by --queue or an ID, or --all."
            )
        return self.find(options, {**self.usual(), **given})

    def find(self, options: dict[str, Any], given: dict[str, Any]) -> dict[str, Selection]:
        """Return what ``jobs.find`` makes of this; a mistake is a ``CommandError``."""
        for one in options["state"] or ():
            if one not in self.states:
                raise CommandError(
                    f"--state: expected one of {', '.join(self.states)}, got {one!r}."
                )
        try:
            return {using: jobs.find(**given, using=using) for using in aliases(options)}
        except BadSelection as error:
            raise CommandError(str(error)) from error

    def usual(self) -> dict[str, Any]:
        """Return the criteria that hold if nothing else is said."""
        return {}

    @abstractmethod
    def change(
        self, found: Selection, options: dict[str, Any], progress: Callable[[Progress], object]
    ) -> Progress:
        """Do it."""

    def _one(self, found: Selection, using: str, options: dict[str, Any]) -> Progress:
        last = Progress()

        def note(progress: Progress) -> None:
            nonlocal last
            last = progress
            show(progress)

        with self._following(using, quiet=options["json"]) as show:
            try:
                last = self.change(found, options, note)
            except BadSelection as error:
                raise CommandError(str(error)) from error
            except KeyboardInterrupt:
                self.complain(f"{using}: stopped. {self._text(last)}; these stay so.")
                raise
        if not options["json"]:
            self.say(f"{using}: {self._text(last)}.")
        return last

    def _count(self, found: dict[str, Selection], options: dict[str, Any]) -> int:
        totals = {using: one.count() for using, one in found.items()}
        if options["json"]:
            said = {using: _as_json(Progress(), found=one) for using, one in totals.items()}
            self.say(json.dumps({using: one | {"dry_run": True} for using, one in said.items()}))
        else:
            for using, number in totals.items():
                self.say(f"{using}: {counted(number, 'job')} would be {self.done}.")
        return 0 if any(totals.values()) else NOTHING_FOUND

    def _text(self, done: Progress) -> str:
        parts = [f"{counted(done.changed, 'job')} {self.done}"]
        verb = "is" if done.asked == 1 else "are"
        parts += [f"{done.asked:,} of them {verb} asked to stop"] * bool(done.asked)
        parts += [f"{done.left:,} left as they are"] * bool(done.left)
        parts += [f"{done.clashed:,} of these share a unique key"] * bool(done.clashed)
        parts += [
            f"{done.unmet:,} of these need jobs that have not succeeded, {RETRY_THEM}"
        ] * bool(done.unmet)
        parts += [f"{done.refused:,} of these were refused by an archive"] * bool(done.refused)
        return ", ".join(parts)

    @contextmanager
    def _following(self, using: str, *, quiet: bool) -> Iterator[Callable[[Progress], object]]:
        """Yield what shows how far it is: a live line with rich, else a line now and then."""
        stderr = self._command.stderr
        try:
            from rich.console import Console  # noqa: PLC0415 - an optional extra
        except ImportError:
            Console = None  # type: ignore[assignment,misc]
        if quiet or Console is None or not stderr.isatty():
            yield self._in_lines(using, quiet=quiet)
            return
        with Console(stderr=True).status(f"{using} …") as status:
            yield lambda done: status.update(f"{using}: {self._text(done)} …")

    def _in_lines(self, using: str, *, quiet: bool) -> Callable[[Progress], object]:
        said = 0

        def say(done: Progress) -> None:
            nonlocal said
            if not quiet and done.found - said >= SAY_EVERY:
                said = done.found
                self.complain(f"{using}: {self._text(done)} …")

        return say


def _as_json(done: Progress, **more: int) -> dict[str, Any]:
    names = ("found", "changed", "left", "asked", "clashed", "unmet", "refused")
    position = None if done.position is None else str(done.position)
    return {name: getattr(done, name) for name in names} | {"position": position} | more
