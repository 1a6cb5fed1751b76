"""Read a page: its blocks of code, its links, its headings, its tables.

What the tests do with a block depends on how it begins:

- ``python``: executed, all blocks of a page in one namespace, in a small project.
- ``python`` whose first line is ``# shop/tasks.py``: added to that file of the project.
- ``python no-run``: compiled only.
- ``diff`` whose first line is ``` # shop/tasks.py```: what it leads to is added to that file of
  the project; what it comes from is executed by itself, or only compiled if it says ``no-run``.
- ``console``: the commands after ``$`` must exist and take the options they are given.
- ``console run``: each ``python manage.py …`` is called as well, and says what the block shows
  (``…`` stands for anything). ``# status 8`` behind it is the exit status, if that is not 0.
- an HTML comment ``<!-- check`` … ``-->``: executed like a block, shown to nobody.

Imports neither pytest nor Django: the process that runs a page reads it, too.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"

BLOCK = re.compile(
    r"^```(?P<fence>[^\n]*)\n(?P<code>.*?)^```$|^<!-- check\n(?P<check>.*?)^-->$",
    re.MULTILINE | re.DOTALL,
)
FILE = re.compile(r"# (?P<path>[\w/]+\.py)\n")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
TEST = re.compile(r"(tests/[\w/]+\.py)::(test_\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of a page."""

    page: Path
    line: int  # of its first line of code
    language: str  # python, console, check …
    options: tuple[str, ...]
    code: str

    @property
    def file(self) -> str | None:
        """The file of the project that the block is a part of."""
        if self.language not in {"python", "diff"}:
            return None
        found = FILE.match(self.after)
        return found["path"] if found else None

    @property
    def before(self) -> str:
        """The code that a diff comes from."""
        return self._without("+")

    @property
    def after(self) -> str:
        """The code that a diff leads to; of any other block, the code."""
        return self._without("-") if self.language == "diff" else self.code

    def _without(self, sign: str) -> str:
        kept = [line for line in self.code.splitlines() if not line.startswith(sign)]
        return "".join(f"{line[1:]}\n" for line in kept)

    @property
    def is_run(self) -> bool:
        """Whether the block is executed in the namespace of its page."""
        python = self.language == "python" and "no-run" not in self.options
        return self.language == "check" or self.is_called or (python and self.file is None)

    @property
    def is_called(self) -> bool:
        """Whether its commands are called, and their output compared."""
        return self.language == "console" and "run" in self.options

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def pages() -> tuple[Path, ...]:
    """Return every page: those in the root, and those of the documentation."""
    return (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")))


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    return list(_blocks(page, page.read_text()))


def _blocks(page: Path, text: str) -> Iterator[Block]:
    for found in BLOCK.finditer(text):
        language, *options = (found["fence"] or "text").split() or ["text"]
        if found["check"] is not None:
            language, options = "check", []
        yield Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 2,
            language=language,
            options=tuple(options),
            code=found["code"] if found["check"] is None else found["check"],
        )


def prose(page: Path) -> str:
    """Return a page without its blocks."""
    return BLOCK.sub("", page.read_text())


def links(page: Path) -> list[str]:
    """Return where the links of a page lead."""
    return LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """Return the names by which links reach the headings of a page."""
    return {_anchor(heading) for heading in HEADING.findall(prose(page))}


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def headings(page: Path) -> list[str]:
    """Return the headings of a page, without the marks of code."""
    return [heading.replace("`", "") for heading in HEADING.findall(prose(page))]


def tables(page: Path, section: str) -> list[list[str]]:
    """Return the rows of the tables under a heading, without their heads."""
    _before, found, after = prose(page).partition(f"\n{section}\n")
    if not found:
        raise LookupError(f"{page.name} has no heading {section!r}")
    level = section.partition(" ")[0]
    body = re.split(rf"^#{{1,{len(level)}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]
    return list(_rows(body.splitlines()))


def _rows(lines: list[str]) -> Iterator[list[str]]:
    for number, line in enumerate(lines):
        rule = re.match(r"\|( *:?-+:? *\|)+$", line)
        head = number + 1 < len(lines) and re.match(r"\|( *:?-+:? *\|)+$", lines[number + 1])
        if line.startswith("|") and not rule and not head:
            cells = re.split(r"(?<!\\)\|", line.strip("|"))
            yield [cell.replace("\\|", "|").strip() for cell in cells]


def names(page: Path, section: str) -> list[str]:
    """Return the code in the first cells of the tables under a heading."""
    return [name for row in tables(page, section) for name in CODE.findall(row[0])]


def named_tests() -> dict[tuple[str, str], list[Path]]:
    """Return the tests that pages name, as file and function, with those pages."""
    found: dict[tuple[str, str], list[Path]] = {}
    for page in pages():
        for file, test in TEST.findall(page.read_text()):
            found.setdefault((file, test), []).append(page)
    return found


@cache
def project() -> dict:
    """Return the [project] table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def extras() -> dict[str, list[str]]:
    """Return the extras of the package."""
    return project()["optional-dependencies"]
