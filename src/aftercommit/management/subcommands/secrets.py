"""``manage.py aftercommit secrets``: make a key, and encrypt queued secrets anew."""

import json
import os
from base64 import urlsafe_b64encode
from typing import Any

from django.core.management.base import CommandParser

from aftercommit import jobs
from aftercommit.management.subcommands.asking import Asking
from aftercommit.management.subcommands.base import accept_here_as_well
from aftercommit.management.subcommands.ruling import add_form
from aftercommit.management.subcommands.selected import aliases
from aftercommit.options.secret_keys import LENGTH
from aftercommit.wording import counted

UNREADABLE = 4  # as of doctor: jobs would fail


class Secrets(Asking):
    """Make a key, or encrypt the secrets of queued jobs with the first key."""

    name = "secrets"
    help = "make a key for secret arguments, or encrypt queued ones anew"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare both."""
        words = parser.add_subparsers(dest="word", required=True, metavar="new-key|reencrypt")
        new = words.add_parser("new-key", help="print a key for OPTIONS['secret_keys']")
        again = words.add_parser(
            "reencrypt", help="encrypt the secrets of queued jobs with the first key"
        )
        add_form(again)
        for each in (new, again):
            accept_here_as_well(each)

    def run(self, options: dict[str, Any]) -> int:
        """Do it; a new key needs no database."""
        if options["word"] == "new-key":
            self.say(urlsafe_b64encode(os.urandom(LENGTH)).decode())
            return 0
        return super().run(options)

    def ask(self, options: dict[str, Any]) -> int:
        """Encrypt anew; say how many, and return ``UNREADABLE`` if some cannot be read."""
        found = {using: jobs.reencrypt(using=using) for using in aliases(options)}
        for using, done in found.items():
            if options["json"]:
                continue
            self.say(f"{using}: {counted(done.changed, 'job')} encrypted with the first key.")
            if done.unreadable:
                self.complain(
                    f"{using}: the secrets of {counted(done.unreadable, 'job')} cannot be "
                    "decrypted with any key of OPTIONS['secret_keys']; they are as they were."
                )
        if options["json"]:
            self.say(json.dumps({using: done._asdict() for using, done in found.items()}))
        return UNREADABLE if any(done.unreadable for done in found.values()) else 0
