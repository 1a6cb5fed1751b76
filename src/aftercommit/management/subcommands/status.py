"""``manage.py aftercommit status``: how many jobs wait, for how long, and how fast they end."""

import json
from datetime import timedelta
from threading import Event
from typing import Any

from django.core.management.base import CommandParser

from aftercommit.management.subcommands.asking import Asking
from aftercommit.management.subcommands.selected import add_form, aliases
from aftercommit.windows.status import lines, status_of

EVERY = timedelta(seconds=2)
CLEAR = "\x1b[2J\x1b[H"  # of a terminal's screen


class Status(Asking):
    """Write the numbers of each database, once or again and again."""

    name = "status"
    help = "say how many jobs wait, for how long, and how fast they end"
    _stop = Event()  # nothing but Ctrl-C ends --watch

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare how often."""
        parser.add_argument("--watch", action="store_true", help="write it again every 2 s")
        add_form(parser)

    def ask(self, options: dict[str, Any]) -> int:
        """Write it; Ctrl-C ends ``--watch`` in good order."""
        try:
            self._write(options)
            while options["watch"] and not self._stop.wait(EVERY.total_seconds()):
                self._write(options)
        except KeyboardInterrupt:
            if not options["watch"]:
                raise
        return 0

    def _write(self, options: dict[str, Any]) -> None:
        found = [status_of(using) for using in aliases(options)]
        if options["json"]:
            self.say(json.dumps([one.as_json() for one in found]))
            return
        text = "\n".join(line for one in found for line in lines(one))
        clear = CLEAR if options["watch"] and self._command.stdout.isatty() else ""
        self.say(clear + text)
