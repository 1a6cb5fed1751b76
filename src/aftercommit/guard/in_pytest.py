"""The guard of one run of pytest: switched on by an option, with a summary at the end."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from aftercommit.errors import ConfigurationError
from aftercommit.guard import baseline
from aftercommit.guard.conf import LOG, RAISE, GuardOptions, configured
from aftercommit.guard.findings import Finding
from aftercommit.guard.setup import install_options, uninstall
from aftercommit.guard.signals import race_found
from aftercommit.wording import counted

Row = tuple[str, str, str, int, list[str]]  # place, rule, subject, times, transactions
ROWS = "aftercommit_guard"  # what a process of pytest-xdist sends
CAUGHT = "aftercommit_guard_caught"
MOST = 3  # transactions that are shown of one place
DONE = {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}


class Watching:
    """A plugin of pytest; it is registered only if the option is given."""

    def __init__(self, config: pytest.Config, mode: str, file: str | None) -> None:
        if file and config.getoption("numprocesses", default=None):
            raise pytest.UsageError(
                "--aftercommit-guard-baseline: each process of pytest-xdist finds a part, and "
                "one would overwrite the other. Nothing was run.\n"
                "Fix: leave out -n for this run."
            )
        # In a process of pytest-xdist: what it tells the one that has started it.
        self._output: dict[str, Any] | None = getattr(config, "workeroutput", None)
        self._of_processes: list[Row] = []
        self._mode = mode
        self._file = Path(file) if file else None
        self._has_run = self._is_written = False
        self.findings: list[Finding] = []
        self._raised = 0  # since the last report of a test
        self._caught = 0  # of them, those in tests that passed

    def pytest_runtestloop(self) -> None:
        """Watch while tests run. Django is set up by then."""
        try:
            install_options(self._options())
        except ConfigurationError as error:
            raise pytest.UsageError(str(error)) from error
        race_found.connect(self._note, weak=False, dispatch_uid="aftercommit.guard.pytest")

    def pytest_runtest_call(self) -> None:
        """Note that a test ran."""
        self._has_run = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what was raised in a test that passed: then the error has met an ``except``."""
        if report.passed:
            self._caught += self._raised
        self._raised = 0

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Watch no more; write the baseline, if it is asked for and the run came to its end."""
        race_found.disconnect(dispatch_uid="aftercommit.guard.pytest")
        uninstall()
        if self._output is not None:
            self._output[ROWS] = _rows(self.findings)
            self._output[CAUGHT] = self._caught
        broken_off = exitstatus not in DONE or session.shouldfail or session.shouldstop
        if self._file is not None and self._has_run and not broken_off:
            baseline.write(self.findings, self._file)
            self._is_written = True

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a process of pytest-xdist has found; one that crashed tells nothing."""
        output = getattr(node, "workeroutput", {})
        self._caught += output.get(CAUGHT, 0)
        for row in output.get(ROWS, ()):
            place, rule, subject, times, opened = row
            self._of_processes.append((place, rule, subject, times, opened))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """List the places, the most frequent first, and say what became of the baseline."""
        rows = _together([*_rows(self.findings), *self._of_processes])
        if not rows and self._file is None:
            return
        terminalreporter.section("sent inside open transactions")
        for line in _lines(rows):
            terminalreporter.write_line(line)
        if self._caught:
            terminalreporter.write_line(
                f"{self._caught} of them were raised in tests that passed all the same: an "
                "`except` in the code or in the test has caught DispatchInTransaction."
            )
        if self._file is not None:
            terminalreporter.write_line(
                f"Written to {self._file}."
                if self._is_written
                else f"{self._file} is not written: no test ran, or the run was broken off."
            )

    def _options(self) -> GuardOptions:
        """Return those of the settings, in the mode of this run."""
        options = replace(configured(), mode=self._mode)
        if self._file is None:
            return options
        # It is to hold all places: none is accepted before, none keeps the rest from running.
        adapters = {name: LOG if own == RAISE else own for name, own in options.adapters.items()}
        return replace(options, baseline=None, adapters=MappingProxyType(adapters))

    def _note(self, finding: Finding, mode: str, **_: Any) -> None:
        self.findings.append(finding)
        self._raised += mode == RAISE


def _rows(findings: Iterable[Finding]) -> list[Row]:
    """Return a row for each place; of plain values, as pytest-xdist sends no others."""
    each: Iterator[Row] = (
        (str(one.place), one.rule, one.subject, 1, [str(of) for of in one.transactions])
        for one in findings
    )
    return _together(each)


def _together(rows: Iterable[Row]) -> list[Row]:
    """Return one row for each place, the most frequent first."""
    found: dict[tuple[str, str, str], tuple[int, dict[str, None]]] = {}
    for place, rule, subject, times, opened in rows:
        before, known = found.get((place, rule, subject), (0, {}))
        found[place, rule, subject] = before + times, known | dict.fromkeys(opened)
    counted_rows = ((*key, times, list(opened)) for key, (times, opened) in found.items())
    return sorted(counted_rows, key=lambda row: -row[3])


def _lines(rows: Iterable[Row]) -> Iterator[str]:
    for place, rule, subject, times, opened in rows:
        yield f"{place}: {rule} {subject} ({counted(times, 'time')})"
        yield from (f"    {one}" for one in opened[:MOST])
        if opened[MOST:]:
            yield f"    … and at {counted(len(opened) - MOST, 'other place')}"
