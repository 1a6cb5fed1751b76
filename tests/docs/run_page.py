"""Run the blocks of one page, in a process and a folder of its own.

``python tests/docs/run_page.py PAGE FOLDER``; see ``tests.docs.pages`` for what is run.
"""

import os
import re
import shlex
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.docs.pages import README, Block, blocks  # noqa: E402

SITE = HERE / "site"
SETTINGS = "mysite/settings.py"


def main(page: Path, folder: Path) -> None:
    """Build the project, then run block by block."""
    found = blocks(page)
    build(folder, found)
    sys.path.insert(0, str(folder))
    os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
    prepare()
    namespace = ModuleType("page")
    sys.modules["page"] = namespace
    for block in found:
        if block.is_called:
            call(block)
        elif block.is_run:
            run(block, vars(namespace))
    for block in found:
        if block.language == "diff" and block.file and "no-run" not in block.options:
            run_before(block)


def build(folder: Path, found: list[Block]) -> None:
    """Write the project: a plain one, the settings that README gives, the page's files."""
    shutil.copytree(SITE, folder, dirs_exist_ok=True)
    if not any(block.file == SETTINGS and "no-run" not in block.options for block in found):
        found = [*(block for block in blocks(README) if block.file == SETTINGS), *found]
    for block in found:
        if block.file and (block.language == "diff" or "no-run" not in block.options):
            write(folder / block.file, block)


def write(path: Path, block: Block) -> None:
    """Add a block to a file."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(f"\n{of_this_django(block.after)}")


def prepare() -> None:
    """Set Django up, and the tables of every database."""
    import django  # noqa: PLC0415 - the settings are only there now
    from django.conf import settings  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415

    django.setup()
    for alias in settings.DATABASES:
        call_command("migrate", database=alias, run_syncdb=True, verbosity=0)


def run(block: Block, namespace: dict[str, object]) -> None:
    """Execute a block; a traceback shows the line of the page."""
    code = "\n" * (block.line - 1) + of_this_django(block.code)
    exec(compile(code, str(block.page), "exec"), namespace)  # noqa: S102 - our own pages


def run_before(block: Block) -> None:
    """Execute what a diff comes from: the library that it names must take it."""
    code = "\n" * (block.line - 1) + of_this_django(block.before)
    module = ModuleType(f"before_{block.line}")
    sys.modules[module.__name__] = module  # libraries name a function by its module
    exec(compile(code, str(block.page), "exec"), vars(module))  # noqa: S102 - our own pages


def call(block: Block) -> None:
    """Call the commands of a block, and compare what they say with what the page shows."""
    for part in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
        line, _, shown = part.partition("\n")
        status = re.search(r" # status (\d+)$", line)
        said, found = answer(*shlex.split(line, comments=True)[2:])
        told = ".*".join(re.escape(one).replace("…", ".*") for one in shown.splitlines())
        assert re.search(told, said, re.DOTALL), f"{block}: {line}\n{said}"
        assert found == int(status[1] if status else 0), f"{block}: {line}: {found}\n{said}"


def answer(name: str, *words: str) -> tuple[str, int]:
    """Call a command in this process; return what it says, and its exit status."""
    from django.core.management import CommandError, call_command  # noqa: PLC0415

    said = StringIO()
    status: object = 0
    with redirect_stdout(said), redirect_stderr(said):
        try:
            call_command(name, *words)
        except CommandError as error:
            said.write(str(error))
            status = error.returncode
        except SystemExit as end:
            status = end.code or 0
    return said.getvalue(), int(str(status))


def of_this_django(code: str) -> str:
    """Name the backport where Django has no tasks of its own."""
    import django  # noqa: PLC0415

    return code if django.VERSION >= (6, 0) else code.replace("django.tasks", "django_tasks")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
