"""What a command says and does if a test has started its process."""

from collections.abc import Callable

from django.core.management.base import CommandError
from django.db import connections

from aftercommit.errors import ConfigurationError
from aftercommit.under_test import use_test_databases


def say_test_databases(complain: Callable[[str], None]) -> None:
    """Use the databases of the test run that has started this process, if one has, and say so."""
    try:
        aliases = use_test_databases()
    except ConfigurationError as error:
        raise CommandError(str(error)) from error
    if aliases:
        named = [f"{one} is {connections[one].settings_dict['NAME']}" for one in aliases]
        complain(
            f"A test run has started this command: its databases are used ({', '.join(named)})."
        )
