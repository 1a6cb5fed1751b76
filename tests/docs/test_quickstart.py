"""The quickstart works as written, on the two databases that it is about."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.conf import settings

import aftercommit
from aftercommit.under_test import VARIABLE
from tests.databases import address_of, name_of_this_run, url_of
from tests.docs.pages import ROOT, Block, blocks
from tests.docs.run_page import SETTINGS, of_this_django

QUICKSTART = ROOT / "docs" / "quickstart.md"
SRC = Path(aftercommit.__file__).parents[1]
# What a test cannot do for its reader: install, and create a database where it likes.
NOT_HERE = {"pip", "createdb"}
# What waits for its reader, or goes on until they end it.
STAYS = ("createsuperuser", "runserver", "--health-port")
NAMES = {"HOST": "PGHOST", "PORT": "PGPORT", "USER": "PGUSER", "PASSWORD": "PGPASSWORD"}


@pytest.mark.skipif(
    settings.DATABASE_KIND not in {"sqlite", "postgres"}, reason="the page has two databases"
)
def test_the_quickstart_works_as_written(tmp_path, database):
    found = blocks(QUICKSTART)
    of_sqlite, of_postgresql = (block for block in found if block.file == SETTINGS)
    chosen = of_sqlite if settings.DATABASE_KIND == "sqlite" else of_postgresql

    for block in [
        chosen if one is of_sqlite else one for one in found if one is not of_postgresql
    ]:
        if block.file:
            add(block, tmp_path, database)
        elif block.language == "console":
            follow(block, tmp_path)


def add(block: Block, folder: Path, database: str) -> None:
    """Add a block to its file."""
    code = of_this_django(block.code).replace('"NAME": "mysite"', f'"NAME": "{database}"')
    with (folder / block.file).open("a") as file:
        file.write(f"\n{code}")


@pytest.fixture
def database(monkeypatch) -> Iterator[str]:
    """Return the name of a database that the test may fill, on PostgreSQL an empty one."""
    name = f"{name_of_this_run()}_quickstart"
    if settings.DATABASE_KIND != "postgres":
        yield name
        return
    for part, value in address_of(url_of("postgres")).items():
        if value:
            monkeypatch.setenv(NAMES[part], value)
    with psycopg.connect(url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def follow(block: Block, folder: Path) -> None:
    """Run the commands of a block, and compare what they say with what the page shows."""
    for part in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        if command.split()[0] not in NOT_HERE and not any(word in command for word in STAYS):
            said = run(command, folder)
            told = ".*".join(re.escape(line).replace("…", ".*") for line in shown.splitlines())
            assert re.search(told, said, re.DOTALL), f"{command}\n{said}"


def run(command: str, folder: Path) -> str:
    """Run a command as a reader would; return all that it says."""
    ours = {"DJANGO_SETTINGS_MODULE", "AFTERCOMMIT_DB", "AFTERCOMMIT_DB_NAME", VARIABLE}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    kept["PYTHONPATH"] = str(SRC)
    kept["PYTHONUNBUFFERED"] = "1"  # lines of both streams in their order, as in a terminal
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    done = subprocess.run(  # noqa: S602 - a page of our own
        command,
        shell=True,
        cwd=folder,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
