"""The console script ``aftercommit``: ``lint`` by itself, everything else through manage.py."""

import os
import sys
from collections.abc import Sequence

from aftercommit.lint.cli import main as lint


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``aftercommit lint …``; return its exit code.

    Other commands need the project's settings, so they are Django's: without any, the
    answer says so.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["lint"]:
        return lint(words[1:])
    if words[:1] == ["guard"] and os.environ.get("DJANGO_SETTINGS_MODULE"):
        return _manage("aftercommit_guard", words[1:])
    if words[:1] == ["--help"] or words[:1] == ["-h"]:
        print("aftercommit lint [PATH ...]   see aftercommit lint --help")
        print("aftercommit guard report      needs DJANGO_SETTINGS_MODULE")
        print("All other commands need your settings: python manage.py aftercommit --help")
        return 0
    named = f" {words[0]}" if words else ""
    print(
        f"aftercommit{named}: only lint runs without Django's settings.\n"
        f"Run python manage.py aftercommit{named} in your project.",
        file=sys.stderr,
    )
    return 2


def _manage(command: str, words: Sequence[str]) -> int:
    from django.core.management import execute_from_command_line  # noqa: PLC0415 - not for lint

    sys.path.insert(0, os.getcwd())  # as manage.py stands in the project
    execute_from_command_line(["aftercommit", command, *words])
    return 0
