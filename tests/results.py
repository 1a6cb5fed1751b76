"""What came of the runs of pytest, and the report at the end."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.services import Server
from tests.tiers import PURE, Part

LONGEST_REASON = 300  # characters
NO_TESTS = 5  # pytest's exit code: nothing was selected
LONG = 5  # seconds: what takes less is not worth a line


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One pytest run to come: a part of the tests on one database."""

    part: Part
    server: Server

    @property
    def label(self) -> str:
        """Name it; a database of its own names what it takes nothing from."""
        return self.part.name if self.part is PURE else f"{self.server.kind} {self.part.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one pytest run ended."""

    run: Run
    exit_code: int
    passed: int
    failures: tuple[str, ...]  # what failed and why, a line each
    unsteady: tuple[str, ...]  # what failed at first only
    skipped: int
    seconds: float
    places: Mapping[str, float]  # seconds of the tests of each folder

    @property
    def failed(self) -> int:
        """Return how many failed."""
        return len(self.failures)

    @property
    def good(self) -> bool:
        """Tell whether nothing failed; no test selected is no failure."""
        return self.exit_code in (0, NO_TESTS)


def cases(junit: Path) -> Iterator[ElementTree.Element]:
    """Return the tests that a run has noted."""
    return iter(ElementTree.parse(junit).iter("testcase") if junit.exists() else ())  # noqa: S314  # our own file


def count(junit: Path) -> tuple[int, tuple[str, ...], int]:
    """Return how many tests have passed, what has failed and why, and how many were skipped."""
    passed, failures, skipped = 0, [], 0
    for case in cases(junit):
        fault = next((one for one in case if one.tag in {"failure", "error"}), None)
        if fault is not None:
            why = " ".join(fault.get("message", "").split())[:LONGEST_REASON]
            failures.append(f"{case.get('classname')}::{case.get('name')}: {why}")
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, tuple(failures), skipped


def places(junit: Path) -> Counter[str]:
    """Return the seconds that the tests of each folder took."""
    seconds: Counter[str] = Counter()
    for case in cases(junit):
        _tests, *packages = case.get("classname", "").split(".")
        seconds[packages[0] if len(packages) > 1 else "tests"] += float(case.get("time", 0))
    return seconds


def print_places(results: list[Result]) -> None:
    """Print where the time goes: what takes longest comes first."""
    spent = [
        (seconds, place, result.run.label)
        for result in results
        for place, seconds in result.places.items()
        if seconds >= LONG
    ]
    print("\nwhere the time goes:")
    for seconds, place, label in sorted(spent, reverse=True):
        print(f"{seconds:8.1f} s  {place} ({label})")


def report(
    results: list[Result],
    missing: dict[str, str],
    *,
    required: tuple[str, ...],
    remarks: Iterable[str] = (),
) -> int:
    """Print the closing table and return the exit code."""
    print_places(results)
    print(f"\n{'':24}{'version':12}{'passed':>8}{'failed':>8}{'skipped':>9}{'s':>8}")
    for result in results:
        version = "" if result.run.part is PURE else result.run.server.version
        print(
            f"{result.run.label:24}{version:12}{result.passed:8}{result.failed:8}"
            f"{result.skipped:9}{result.seconds:8.1f}"
        )
    for remark in remarks:
        print(remark)
    for result in results:
        for name in result.failures:
            print(f"FAILED: {result.run.label} {name}")
        for name in result.unsteady:
            print(f"UNSTEADY: {result.run.label} {name}")
    for kind, why in missing.items():
        word = "MISSING" if kind in required else "SKIPPED"
        print(f"{word}: {kind} ({why})")
    passed, failed, skipped = (
        sum(getattr(result, name) for result in results)
        for name in ("passed", "failed", "skipped")
    )
    print(f"total: {passed} passed, {failed} failed, {skipped} skipped")
    if not passed + failed + skipped:
        return NO_TESTS
    all_good = all(result.good for result in results)
    return int(not all_good or any(kind in missing for kind in required))
