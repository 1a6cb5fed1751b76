"""Run a tier of the tests on the databases that are there, and say what was not run.

``tests/tiers.py`` tells what is in a tier. Everything after our own options is handed to
pytest; where that names files, ``-k`` or ``-m``, these tests run on every database:
``tests/run.py tests/store -k claim``.

A few tests that play with real processes may fail for reasons of the machine. These are
run once more, alone; whoever passes then is told aloud as UNSTEADY.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests import tiers  # noqa: E402
from tests.brokers.addresses import BROKERS, is_there  # noqa: E402
from tests.changes import NoHistory, changed_files  # noqa: E402
from tests.databases import KINDS, URL_VARIABLES  # noqa: E402
from tests.results import NO_TESTS, Result, Run, count, places, report  # noqa: E402
from tests.services import NoServer, Server, find, own_postgres  # noqa: E402
from tests.tiers import CHANGE, FULL, PARTS, TIERS, WATCHING, Part  # noqa: E402

FAILURES = 1  # pytest's exit code: some failed
WITH_PROCESSES = (
    "tests.process.",
    "tests.torture.",
    "tests.demo.",
    "tests.upgrade.",
    "tests.brokers.test_proof",
)  # and real time
MOST_UNSTEADY = 2  # in one run; with more of them something is wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is run, and what is said of the rest."""

    runs: tuple[Run, ...]
    remarks: tuple[str, ...] = ()


def main() -> int:
    """Run everything and return the exit code."""
    options, pytest_options = _parser().parse_known_args()
    with ExitStack() as servers:
        found, missing = find_servers(options.databases, servers)
        missing |= missing_brokers()
        plan = plan_of(options.tier, found, asked=_names_tests(pytest_options), base=options.base)
        for remark in plan.remarks:
            print(remark, flush=True)
        command = _pytest_command(pytest_options, coverage=options.coverage)
        os.environ[tiers.VARIABLE] = options.tier
        with ThreadPoolExecutor(options.at_once) as threads:
            results = list(threads.map(lambda run: run_pytest(run, command), plan.runs))
    return report(results, missing, required=options.require, remarks=plan.remarks)


def plan_of(tier: str, found: list[Server], *, asked: bool, base: str | None = None) -> Plan:
    """Return what to run on these servers; all of it where the tests themselves are asked for."""
    if asked or tier == FULL:
        return Plan(runs=_runs(PARTS[FULL], found))
    watching, remarks = _watching(base) if tier == CHANGE else ((), ())
    runs = _runs((*watching, *PARTS[tier]), found)
    taken = [(run.part, run.server.kind) for run in runs]
    left = tiers.left_out(taken, [server.kind for server in found])
    return Plan(
        runs=runs,
        remarks=(
            *remarks,
            f"NOT IN THE TIER {tier!r} (make test-full has it): long storms, and of the files",
            *(f"    {line}" for line in left),
        ),
    )


def _runs(parts: Iterable[Part], found: list[Server]) -> tuple[Run, ...]:
    servers, any_server = sorted(found, key=_slowest), [find("sqlite")]
    return tuple(
        Run(part=part, server=server)
        for part in parts
        for server in (any_server if part is tiers.PURE else servers)
        if server.kind in part.kinds
    )


def _watching(base: str | None) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """Return the parts that watch what has changed, and how that was found."""
    try:
        changed = changed_files(base)
    except NoHistory as reason:
        return (), (f"What watches a change is not run: {reason}.",)
    wanted = tuple(part for part in WATCHING if part.is_wanted_by(changed))
    named = [f"{part.name} on {', '.join(part.kinds)}" for part in wanted]
    by = "; ".join(named) or "nothing more"
    return wanted, (f"Files that have changed: {len(changed)}, which are watched by: {by}.",)


def _names_tests(pytest_options: list[str]) -> bool:
    """Tell whether the options choose among the tests."""
    return any(
        word.startswith(("-k", "-m", "--deselect", "--ignore"))
        or (not word.startswith("-") and Path(ROOT, word.partition("::")[0]).exists())
        for word in pytest_options
    )


def _slowest(server: Server) -> int:
    """Put first what takes longest, so that nobody waits for it in the end."""
    return ("postgres", "sqlite", "mariadb", "mysql").index(server.kind)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--databases",
        type=_kinds,
        default=KINDS,
        help="comma-separated; default: all that are there",
    )
    parser.add_argument(
        "--require",
        type=_services,
        default=(),
        help="comma-separated, databases and brokers; to miss one of these is a failure",
    )
    parser.add_argument("--tier", choices=TIERS, default=CHANGE, help="see tests/tiers.py")
    parser.add_argument("--base", help="a revision: what has changed since then is watched")
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side; default: 2")
    parser.add_argument("--coverage", action="store_true", help="measure coverage")
    return parser


def _kinds(names: str, known: Iterable[str] = KINDS) -> tuple[str, ...]:
    kinds = tuple(name for name in names.split(",") if name)
    for kind in kinds:
        if kind not in known:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(known)}; got {kind!r}")
    return kinds


def _services(names: str) -> tuple[str, ...]:
    return _kinds(names, (*KINDS, *BROKERS))


def find_servers(kinds: Iterable[str], servers: ExitStack) -> tuple[list[Server], dict[str, str]]:
    """Return the servers that are there, and why each other one is not."""
    found, missing = [], {}
    for kind in kinds:
        try:
            found.append(_find_or_start(kind, servers))
        except NoServer as error:
            missing[kind] = str(error)
    return found, missing


def missing_brokers() -> dict[str, str]:
    """Return the brokers that do not answer; tests that need one are skipped."""
    return {name: "nothing listens there" for name in BROKERS if not is_there(name)}


def _find_or_start(kind: str, servers: ExitStack) -> Server:
    try:
        return find(kind)
    except NoServer as error:
        # An address given by hand is meant: nothing else may stand in for it.
        if kind != "postgres" or os.environ.get(URL_VARIABLES[kind]):
            raise
        print(f"postgres: {error}; starting one", flush=True)
    os.environ[URL_VARIABLES[kind]] = servers.enter_context(own_postgres())
    return find(kind)


def _pytest_command(options: list[str], *, coverage: bool) -> list[str]:
    measured = ["-m", "coverage", "run"] if coverage else []
    color = ["--color=yes"] if sys.stdout.isatty() else []
    return [sys.executable, *measured, "-m", "pytest", *color, *options]


def run_pytest(run: Run, command: list[str]) -> Result:
    """Run pytest, pass its lines on under the run's label, and count."""
    started = time.monotonic()
    unsteady: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory(prefix="aftercommit_run_") as directory:
        counts = Path(directory, "junit.xml")
        command = [*command, f"--part={run.part.name}", "-o", f"cache_dir={directory}/cache"]
        exit_code = _stream([*command, f"--junitxml={counts}"], run)
        passed, failures, skipped = count(counts)
        seconds = places(counts)
        if exit_code == FAILURES and _may_be_unsteady(failures):
            again = _stream([*command, "--last-failed", "--last-failed-no-failures=none"], run)
            if not again:
                exit_code, unsteady, failures = 0, failures, ()
    if not failures and exit_code not in (0, NO_TESTS):
        failures = (f"the run itself, with exit code {exit_code}",)
    return Result(
        run=run,
        exit_code=exit_code,
        passed=passed + len(unsteady),
        failures=failures,
        unsteady=unsteady,
        skipped=skipped,
        seconds=time.monotonic() - started,
        places=seconds,
    )


def _may_be_unsteady(failures: tuple[str, ...]) -> bool:
    few = 0 < len(failures) <= MOST_UNSTEADY
    return few and all(failure.startswith(WITH_PROCESSES) for failure in failures)


def _stream(command: list[str], run: Run) -> int:
    environment = {**os.environ, "AFTERCOMMIT_DB": run.server.kind}
    environment.pop("AFTERCOMMIT_DB_NAME", None)  # each run has its own databases
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        for line in process.stdout or ():
            print(f"{run.label:24} | {line}", end="", flush=True)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
