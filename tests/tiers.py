"""Which tests run when.

    quick    what needs no other process: for the oldest Python and Django
    change   ``make test`` and ``.ci/run``: what each change must pass
    full     ``make test-full``, every night and before a release: everything, everywhere

Beside the tier ``change`` runs what watches the files that a change touches (``WATCHING``).

A new folder belongs to the tier ``full`` until a part below names it.
"""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.databases import KINDS

TESTS = Path(__file__).parent
QUICK, CHANGE, FULL = TIERS = ("quick", "change", "full")
VARIABLE = "AFTERCOMMIT_TIER"  # how the tests of a run know their tier

MARKS = ("mutant", "proof", "long")  # pyproject.toml says what they mean
MARKED_FILES = {"test_mutants.py": "mutant", "test_proof*.py": "proof"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the tests that one run of pytest takes, on each of its databases."""

    name: str
    kinds: tuple[str, ...] = KINDS
    places: tuple[str, ...] = ("*",)  # patterns of files below tests/; * stands for / as well
    besides: tuple[str, ...] = ()  # those of ``places`` that it does not take
    without: tuple[str, ...] = ()  # marks of tests that it does not take
    # Measured, other processes are slower; the little that one part starts reaches most lines.
    measures_children: bool = False
    watches: tuple[str, ...] = ()  # how the files begin whose change asks for it

    def takes(self, file: str, marks: Collection[str] = ()) -> bool:
        """Tell whether a test is in this part: its file below tests/, and its marks."""
        return (
            _matches(file, self.places)
            and not _matches(file, self.besides)
            and not set(marks) & set(self.without)
        )

    def is_wanted_by(self, changed: Iterable[str]) -> bool:
        """Tell whether one of these files is watched."""
        return any(file.startswith(self.watches) for file in changed)


def _matches(file: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(file, pattern) for pattern in patterns)


NEEDS_NO_DATABASE = ("test_*.py", "pure/*", "lint/*")
ROOMS = ("store/*", "worker/*", "django/*", "guard/*")

PURE = Part(name="pure", kinds=("sqlite",), places=NEEDS_NO_DATABASE)
ALL = Part(name="all", besides=NEEDS_NO_DATABASE, measures_children=True)

ALONE = "guard/test_alone.py"  # has a database of its own
BROKEN_OFF = "upgrade/test_broken_off.py"  # migrates as often as there are changes
_rooms = {"name": "rooms", "places": ROOMS, "without": MARKS, "besides": (ALONE,)}
_contract = {"name": "contract", "places": ("contract/*",), "without": MARKS}
# What takes longest comes first, so that nobody waits for it in the end.
PARTS = {
    QUICK: (
        Part(**_rooms),
        Part(**_contract, kinds=("sqlite",)),
        PURE,
    ),
    CHANGE: (
        Part(
            name="processes",
            kinds=("postgres",),
            places=("process/*", "upgrade/*"),
            besides=(BROKEN_OFF,),
            without=MARKS,
        ),
        Part(
            name="brokers",
            kinds=("postgres",),
            places=("brokers/*", "torture/*"),
            without=MARKS,
        ),
        Part(**_rooms),
        Part(**_contract, kinds=("postgres",)),
        Part(
            name="faults",
            kinds=("sqlite",),
            places=(
                *("process/test_sqlite_faults.py", "upgrade/*", "docs/*"),
                *("process/test_command.py", "process/test_flush_queue.py", ALONE),
            ),
            besides=("docs/test_tutorials.py", BROKEN_OFF),
            measures_children=True,
        ),
        Part(
            name="faults",
            kinds=("mariadb", "mysql"),
            places=("process/test_mysql_faults.py", "upgrade/*"),
            besides=(BROKEN_OFF,),
        ),
        PURE,
    ),
    FULL: (ALL, PURE),
}

# On one database, so that a change that touches everything keeps to the budget.
WATCHING = (
    Part(
        name="worker mutants",
        kinds=("postgres",),
        places=tuple(f"{room}/test_mutants.py" for room in ("process", "torture", "worker")),
        watches=(
            "src/aftercommit/worker/",
            *(f"tests/{room}/" for room in ("process", "torture", "worker")),
        ),
    ),
    Part(
        name="proofs",
        kinds=("postgres",),
        places=("brokers/test_proof*.py",),
        watches=(
            "src/aftercommit/relay/",
            "src/aftercommit/importing/",
            "src/aftercommit/store/inbox",
            "tests/brokers/",
        ),
    ),
    Part(
        name="store mutants",
        kinds=("postgres",),
        places=("store/test_mutants.py",),
        watches=(
            *(f"src/aftercommit/{room}" for room in ("store/", "models", "migrations/")),
            "tests/store/",
        ),
    ),
    Part(
        name="migrations",
        kinds=("mariadb",),  # where each change commits by itself
        places=(BROKEN_OFF,),
        watches=("src/aftercommit/migrations/", "tests/upgrade/"),
    ),
    Part(
        name="demo",
        kinds=("sqlite",),
        places=("demo/*",),
        without=("long",),
        watches=("demo/", "tests/demo/"),
    ),
    Part(
        name="tutorials",  # a dozen commands each
        kinds=("sqlite",),
        places=("docs/test_tutorials.py",),
        watches=(
            "docs/tutorials/",
            "tests/docs/",
            "src/aftercommit/mail/",
            "src/aftercommit/testing/",
        ),
    ),
    Part(
        name="dashboard",
        kinds=("sqlite",),
        places=("dashboard/*",),
        watches=(
            "src/aftercommit/dashboard/",
            "src/aftercommit/static/",
            "src/aftercommit/templates/aftercommit/",
            "tests/dashboard/",
        ),
    ),
)


def part_named(name: str, kind: str) -> Part:
    """Return the part of this name that runs on this database."""
    parts = [part for tier in PARTS.values() for part in tier]
    return next(p for p in (*parts, *WATCHING) if p.name == name and kind in p.kinds)


def names() -> list[str]:
    """Return the names of all parts."""
    parts = [part for tier in PARTS.values() for part in tier]
    return sorted({part.name for part in (*parts, *WATCHING)})


def marks_of_file(name: str) -> list[str]:
    """Return the marks that all tests of a file bear for its name."""
    return [mark for pattern, mark in MARKED_FILES.items() if fnmatchcase(name, pattern)]


def measures_children(name: str | None, kind: str) -> bool:
    """Tell whether coverage follows into other processes; by pytest alone it does."""
    full = os.environ.get(VARIABLE, FULL) == FULL
    return full or name is None or part_named(name, kind).measures_children


def size(*, change: int, full: int) -> int:
    """Return how much of a fault there is to be; pytest alone does as much as the full tier."""
    return full if os.environ.get(VARIABLE, FULL) == FULL else change


def left_out(parts: Iterable[tuple[Part, str]], kinds: Iterable[str]) -> list[str]:
    """Say which files these parts do not run, on which of these databases."""
    parts, kinds = list(parts), list(kinds)
    files: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        file = path.relative_to(TESTS).as_posix()
        if not PURE.takes(file):
            takers = {k for part, k in parts if part.takes(file, marks_of_file(path.name))}
            files[file.partition("/")[0]].append(tuple(k for k in kinds if k not in takers))
    return [
        f"{folder}: {missing.count(some)} of {len(missing)} files on {', '.join(some)}"
        for folder, missing in files.items()
        for some in sorted(set(missing))
        if some
    ]
