"""What the subcommands share that ask the databases of the jobs, and do not wait for them."""

from abc import abstractmethod
from typing import Any

from django.core.management.base import CommandError
from django.db import Error

from aftercommit.enqueue.configured import job_aliases
from aftercommit.errors import ConfigurationError
from aftercommit.management.subcommands.base import Subcommand
from aftercommit.printable import one_line, without_passwords
from aftercommit.worker.config import served_backends


class Asking(Subcommand):
    """Says why a database is not ready as ``worker`` does, with the same exit statuses.

    Whether one is ready is asked only after an error: what works does not pay for it.
    """

    def run(self, options: dict[str, Any]) -> int:
        """Ask; return the exit status."""
        try:
            served_backends(())
            return self.ask(options)
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        except Error as error:
            status = self._answers.refused(_meant(options), waits=False)
            if status:
                return status
            why = one_line(without_passwords(f"{type(error).__name__}: {error}".strip()))
            raise CommandError(f"A database answers, and refused this: {why}") from error

    @abstractmethod
    def ask(self, options: dict[str, Any]) -> int:
        """Do it; return the exit status. A mistake of the caller is a ``CommandError``."""


def _meant(options: dict[str, Any]) -> list[str]:
    known = job_aliases()
    return [one for one in known if options["database"] in (None, one)]
