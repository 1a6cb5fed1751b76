"""``manage.py queue_health``: what is in the queue, as Django Async printed it."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from aftercommit.django_async.estimates import (
    estimate_queue_completion,
    estimate_rough_queue_completion,
)
from aftercommit.django_async.health import health

PRECISE = "precise"
ALGORITHMS = {"rough": estimate_rough_queue_completion, PRECISE: estimate_queue_completion}


class Command(BaseCommand):
    """Translate the command line, print."""

    help = "Print information about the queue as JSON. It reads the whole table."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the option that Django Async gave this command."""
        parser.add_argument(
            *("-a", "--algorithm"),
            choices=list(ALGORITHMS),
            default=PRECISE,
            help=f"how the time left is estimated (default: {PRECISE})",
        )

    def handle(self, **options: Any) -> None:
        """Print it."""
        algorithm = options["algorithm"] or PRECISE
        self.stdout.write(json.dumps(health(ALGORITHMS[algorithm])))
