"""Run the blocks of one page, in a process and a folder of its own.

``python tests/docs/run_page.py PAGE FOLDER``; see ``tests.docs.pages`` for what is run.
"""

import os
import shutil
import sys
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
        if block.is_run:
            run(block, vars(namespace))


def build(folder: Path, found: list[Block]) -> None:
    """Write the project: a plain one, the settings that README gives, the page's files."""
    shutil.copytree(SITE, folder, dirs_exist_ok=True)
    if not any(block.file == SETTINGS and "no-run" not in block.options for block in found):
        found = [*(block for block in blocks(README) if block.file == SETTINGS), *found]
    for block in found:
        if block.file and "no-run" not in block.options:
            write(folder / block.file, block)


def write(path: Path, block: Block) -> None:
    """Add a block to a file."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(f"\n{of_this_django(block.code)}")


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


def of_this_django(code: str) -> str:
    """Name the backport where Django has no tasks of its own."""
    import django  # noqa: PLC0415

    return code if django.VERSION >= (6, 0) else code.replace("django.tasks", "django_tasks")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
