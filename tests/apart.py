"""Runs a module in a process of its own, with a SQLite database of its own."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from typing import Any

from tests.databases import name_of_this_run, remove_sqlite_files

DEADLINE = timedelta(minutes=4)


def seen_by(module: str, *words: str) -> Any:
    """Return what the module prints as JSON."""
    name = f"{name_of_this_run()}_{module.rpartition('.')[2]}"
    environment = {**os.environ, "AFTERCOMMIT_DB": "sqlite", "AFTERCOMMIT_DB_NAME": name}
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE.total_seconds(),
            check=False,
        )
    finally:
        remove_sqlite_files(name)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
