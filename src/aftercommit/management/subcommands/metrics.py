"""``manage.py aftercommit metrics``: the metrics of the databases as text for Prometheus."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from aftercommit.management.subcommands.base import Subcommand

READABLE = 0o644  # by node-exporter, which runs as another user
SUFFIX = ".prom"  # others are not read


class Metrics(Subcommand):
    """Write them to the standard output, or to a file for node-exporter's textfile collector."""

    name = "metrics"
    help = "write metrics for Prometheus"

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare where to."""
        parser.add_argument(
            "--output",
            type=Path,
            metavar="FILE",
            help="a .prom file that is replaced as a whole (default: the standard output)",
        )

    def run(self, options: dict[str, Any]) -> int:
        """Write; return the status."""
        try:
            # Needs an optional extra.
            from aftercommit.windows.metrics.database import collect  # noqa: PLC0415
            from aftercommit.windows.metrics.families import exposed  # noqa: PLC0415
        except ImportError as error:
            raise CommandError(str(error)) from error
        content, _content_type = exposed(collect)
        if options["output"] is None:
            self.say(content.decode().rstrip("\n"))
        else:
            _replace(options["output"], content)
        return 0


def _replace(file: Path, content: bytes) -> None:
    """Write the file so that a reader sees the old content or the new one, never a part."""
    if file.suffix != SUFFIX:
        raise CommandError(
            f"--output {file}: expected a name that ends with {SUFFIX}.\n"
            "The textfile collector of node-exporter reads no other file."
        )
    try:
        # In the same folder, which must be the same file system; its name is not read.
        number, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    except OSError as error:
        raise CommandError(f"--output {file}: {error}") from error
    try:
        with os.fdopen(number, "wb") as opened:
            opened.write(content)
        Path(name).chmod(READABLE)
        Path(name).replace(file)
    except OSError as error:
        with suppress(OSError):
            Path(name).unlink()
        raise CommandError(f"--output {file}: {error}") from error
