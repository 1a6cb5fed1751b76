"""What every subcommand is: its arguments, and what it runs."""

import argparse
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandParser

from aftercommit.management.subcommands.answers import Answers


class Subcommand(ABC):
    """A word after ``manage.py aftercommit``: it translates its options, wires, and runs."""

    name: ClassVar[str]
    help: ClassVar[str] = ""  # nothing: it is not listed

    def __init__(self, command: BaseCommand, answers: Answers) -> None:
        self._command = command
        self._answers = answers

    @abstractmethod
    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options, without those that Django gives to every command."""

    @abstractmethod
    def run(self, options: dict[str, Any]) -> int:
        """Do it; return the exit status. A mistake of the caller is a ``CommandError``."""

    def say(self, text: str) -> None:
        """Write a line to the standard output, which may be another one in a test."""
        self._command.stdout.write(text)

    def complain(self, text: str) -> None:
        """Write a line to the standard error."""
        self._command.stderr.write(text)

    @property
    def from_command_line(self) -> bool:
        """Return whether a shell has started this, not a program by ``call_command()``."""
        return bool(self._command._called_from_command_line)  # type: ignore[attr-defined]


def accept_here_as_well(parser: argparse.ArgumentParser) -> None:
    """Take Django's own options behind the subcommand, too: where everybody writes them."""
    unseen: Any = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    parser.add_argument("-v", "--verbosity", type=int, choices=range(4), **unseen)
    for name in ("--settings", "--pythonpath"):
        parser.add_argument(name, **unseen)
    for name in ("--traceback", "--no-color", "--force-color", "--skip-checks"):
        parser.add_argument(name, action="store_true", **unseen)
