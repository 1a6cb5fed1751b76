"""The frame itself: names, addresses, and what is said when a server is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from tests import services
from tests.databases import (
    KINDS,
    URL_VARIABLES,
    address_of,
    django_databases,
    name_of_this_run,
    remove_sqlite_files,
    sqlite_file,
    url_of,
)

NOBODY_LISTENS = "127.0.0.1:1"


def test_a_child_process_reaches_the_same_database():
    code = "from tests.settings import DATABASES as d; print(d['default']['NAME'])"

    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert child.stdout.strip() == settings.DATABASES["default"]["TEST"]["NAME"]


def test_every_run_names_its_databases_differently(monkeypatch):
    names = set()
    for _ in range(10):
        monkeypatch.delenv("AFTERCOMMIT_DB_NAME")
        names.add(name_of_this_run())

    assert len(names) == 10
    assert os.environ["AFTERCOMMIT_DB_NAME"] in names


@pytest.mark.parametrize("kind", KINDS)
def test_the_test_database_bears_the_plain_name(kind):
    databases = django_databases(kind, "a_run")

    assert databases["default"]["NAME"] != databases["other"]["NAME"]
    for database in databases.values():
        assert database["NAME"] == database["TEST"]["NAME"]
        assert "a_run" in database["NAME"]


@pytest.mark.parametrize("kind", URL_VARIABLES)
def test_a_missing_server_is_named_without_its_password(kind, monkeypatch):
    scheme = "postgresql" if kind == "postgres" else "mysql"
    url = f"{scheme}://someone:hidden@{NOBODY_LISTENS}/postgres"
    monkeypatch.setenv(URL_VARIABLES[kind], url)

    with pytest.raises(services.NoServer) as missing:
        services.find(kind)

    assert NOBODY_LISTENS in str(missing.value)
    assert "hidden" not in str(missing.value)


def test_mysql_and_mariadb_are_told_apart_by_their_answer(monkeypatch):
    answered = [kind for kind in ("mariadb", "mysql") if _answers(kind)]
    if not answered:
        pytest.skip("neither MariaDB nor MySQL answered")
    (one, *_) = answered
    other = "mysql" if one == "mariadb" else "mariadb"
    monkeypatch.setenv(URL_VARIABLES[other], url_of(one))

    with pytest.raises(services.NoServer, match=f"is {one}"):
        services.find(other)


def test_what_killed_workers_left_beside_a_file_goes_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    file = sqlite_file("a_run", "default")
    locks = Path(f"{file}-workers")
    locks.mkdir()
    for leftover in (file, Path(f"{file}-wal"), locks / "killed.lock"):
        leftover.touch()
    somebody_elses = sqlite_file("another_run", "default")
    somebody_elses.touch()

    remove_sqlite_files("a_run")

    assert list(tmp_path.iterdir()) == [somebody_elses]


def test_a_server_without_a_port_is_reached_by_its_socket():
    address = address_of("postgresql://postgres:@/postgres?host=/run/a_socket")

    assert address["HOST"] == "/run/a_socket"
    assert address["PORT"] == ""


def _answers(kind: str) -> bool:
    try:
        services.find(kind)
    except services.NoServer:
        return False
    return True
