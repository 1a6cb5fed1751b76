"""A site on a database of its own, which two versions of the package work upon."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections

import aftercommit
from aftercommit.under_test import VARIABLE
from tests.databases import name_of_this_run
from tests.upgrade.tables import Tables

ROOT = Path(__file__).resolve().parents[2]
TODAY = Path(aftercommit.__file__).parents[1]
# The version before. Raise it with a release, or the test proves an upgrade that nobody makes.
BEFORE = "a6e2fe65cbf0010f196919b9f28d6e32c2160bdb"
LONGEST = 60  # seconds, of one step
LONGER = 900  # of a migration of many jobs, on a machine that has much else to do


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the package of the version before is."""
    if shutil.which("git") is None:
        pytest.skip("without git there is no history with the version before")
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "--format=tar", BEFORE, "src"],
        capture_output=True,
        check=False,
    )
    if packed.returncode:
        why = packed.stderr.decode().strip().partition("\n")[0]
        pytest.skip(f"the version before is not in the history that is here ({why})")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


class Site:
    """The project; each call says whose code it runs."""

    def __init__(self, folder: Path, database: dict[str, Any]) -> None:
        self.folder = folder
        self.lease = 2  # seconds
        self._database = database
        self.tables = Tables(database, alias="tables of the site")
        shutil.copytree(Path(__file__).parent / "site", folder, dirs_exist_ok=True)

    def step(self, code: Path, name: str, *words: str, longest: float = LONGEST) -> Any:
        """Take a step of ``steps.py``; return what it prints."""
        return json.loads(self._run(code, "steps.py", name, *words, longest=longest))

    def manage(self, code: Path, *words: str) -> str:
        """Run a management command; it must succeed. Return what it prints."""
        return self._run(code, "-m", "django", *words)

    def drain(self, code: Path) -> None:
        """Run what is due, messages as well."""
        self.manage(code, "aftercommit", "worker", "--drain", "--relay")

    @contextmanager
    def worker(
        self, code: Path, *, end: signal.Signals = signal.SIGKILL, log: str = "worker.log"
    ) -> Iterator[None]:
        """Run a worker beside the block; at its end all of it gets a signal."""
        words = ("-m", "django", "aftercommit", "worker")
        with self._beside(code, *words, log=log) as process:
            try:
                yield
            finally:
                os.killpg(process.pid, end)

    @contextmanager
    def enqueuer(self, code: Path) -> Iterator[None]:
        """Enqueue jobs beside the block, one after the other; it notes each."""
        with self._beside(code, "steps.py", "go_on_enqueuing", log="enqueuer.log") as process:
            try:
                yield
            finally:
                self.leave("enough")
            assert process.wait(LONGEST) == 0, (self.folder / "enqueuer.log").read_text()

    @contextmanager
    def _beside(self, code: Path, *words: str, log: str) -> Iterator[subprocess.Popen[bytes]]:
        with (self.folder / log).open("w") as output:
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=self.folder,
                env=self._environment(code),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                try:
                    process.wait(LONGEST)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    raise

    @property
    def worker_said(self) -> str:
        """What the last worker beside a block has written so far."""
        return (self.folder / "worker.log").read_text()

    @property
    def notes(self) -> list[str]:
        """What tasks have left so far."""
        file = self.folder / "notes"
        return file.read_text().splitlines() if file.exists() else []

    def leave(self, name: str) -> None:
        """Leave a file that tasks look for."""
        (self.folder / name).touch()

    def _run(self, code: Path, *words: str, longest: float = LONGEST) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self._environment(code),
            capture_output=True,
            text=True,
            check=False,
            timeout=longest,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _environment(self, code: Path) -> dict[str, str]:
        # Of the version before nobody wants to know how much of it was run.
        ours = {"AFTERCOMMIT_DB", "AFTERCOMMIT_DB_NAME", VARIABLE, "COVERAGE_PROCESS_CONFIG"}
        return {
            **{name: value for name, value in os.environ.items() if name not in ours},
            "DJANGO_SETTINGS_MODULE": "settings",
            "PYTHONPATH": os.pathsep.join([str(code), str(self.folder)]),
            "SITE_DATABASE": json.dumps(self._database),
            "SITE_FOLDER": str(self.folder),
            "SITE_LEASE": str(self.lease),
        }


@pytest.fixture
def site(before: Path, tmp_path: Path, django_db_blocker: Any) -> Iterator[Site]:
    """Return a site whose tables the version before has made."""
    name = f"{name_of_this_run()}_upgrade"
    with django_db_blocker.unblock(), fresh_database(name, tmp_path) as database:
        site = Site(tmp_path, database)
        site.manage(before, "migrate")
        site.tables.age()
        yield site
        site.tables.close()


@pytest.fixture
def fresh(tmp_path: Path, django_db_blocker: Any) -> Iterator[Callable[[], Tables]]:
    """Return what makes an empty database, in place of the one that it has made before."""
    name = f"{name_of_this_run()}_tables"
    before = set(connections.settings)
    with django_db_blocker.unblock(), ExitStack() as database:
        numbers = iter(range(1000))

        def make() -> Tables:
            close()
            folder = tmp_path / str(next(numbers))
            folder.mkdir()
            return Tables(database.enter_context(fresh_database(name, folder)))

        def close() -> None:
            for alias in set(connections.settings) - before:
                connections[alias].close()
                del connections[alias]
            database.close()

        yield make
        close()
        for alias in set(connections.settings) - before:
            del connections.settings[alias]


@pytest.fixture
def tables(fresh: Callable[[], Tables]) -> Tables:
    """Return an empty database for the tables, which this process migrates."""
    return fresh()


@pytest.fixture
def used(tables: Tables) -> Tables:
    """Return the tables of version 0.1, with a job in each state."""
    tables.use()
    return tables


@contextmanager
def fresh_database(name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Create a database beside those of the tests; yield its settings."""
    kept = ("ENGINE", "HOST", "PORT", "USER", "PASSWORD", "OPTIONS")
    server = {key: connection.settings_dict[key] for key in kept}
    if settings.DATABASE_KIND == "sqlite":
        yield {**server, "NAME": str(folder / "site.sqlite3")}
        return
    force = " WITH (FORCE)" if settings.DATABASE_KIND == "postgres" else ""
    with connection._nodb_cursor() as cursor:  # as Django creates those of the tests
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        yield {**server, "NAME": name}
    finally:
        with connection._nodb_cursor() as cursor:  # as Django creates those of the tests
            cursor.execute(f"DROP DATABASE {name}{force}")


@pytest.fixture
def today() -> Path:
    """Return where the package of this version is."""
    return TODAY
