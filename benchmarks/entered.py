"""Count the files and functions of this package that one plain job enters.

    python -m benchmarks.entered

Runs one job in a worker of this process, on SQLite, with a profile function in every thread.
"Its way" is what a worker enters with a job and an idle worker does not.
"""

import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

Entered = set[tuple[str, str]]  # (file, function)


def main() -> None:
    """Count and print."""
    os.environ |= {
        "BENCH_DATABASE": "sqlite",
        "BENCH_DSN": f"sqlite:///{tempfile.mkdtemp()}/jobs.sqlite3",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "AFTERCOMMIT_DB": "sqlite",
    }
    import django  # noqa: PLC0415 - reads the environment

    django.setup()
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connections  # noqa: PLC0415

    connections["default"].settings_dict["NAME"] = f"{tempfile.mkdtemp()}/jobs.sqlite3"
    call_command("migrate", database="default", verbosity=0)
    from tests.app.tasks import add  # noqa: PLC0415

    work()  # what is imported and built once
    idle = entered(work)
    enqueued = entered(lambda: add.enqueue(1, 2))
    busy = entered(work)
    show("enqueue()", enqueued)
    show("a worker that runs one plain job", busy)
    show("its way: what an idle worker does not enter", busy - idle)
    for file in sorted({file for file, _function in busy - idle}):
        print("   ", file)


def work() -> None:
    """Let a worker of one thread drain the queue."""
    from aftercommit.options.worker import WorkerConfig  # noqa: PLC0415
    from aftercommit.worker.quota import RunQuota  # noqa: PLC0415
    from aftercommit.worker.worker import Worker  # noqa: PLC0415

    Worker(WorkerConfig(drain=True, threads=1, backends=("default",)), quota=RunQuota(None)).run()


def entered(step: Callable[[], object]) -> Entered:
    """Return the functions of the package that a step enters, in all threads it starts."""
    found: Entered = set()
    source = str(Path(sys.modules["aftercommit"].__file__ or "").parent)

    def note(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(source):
            found.add((code.co_filename.removeprefix(source + "/"), code.co_qualname))

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        step()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return found


def show(what: str, found: Entered) -> None:
    """Print how many there are."""
    print(f"{what}: {len({file for file, _function in found})} files, {len(found)} functions")


if __name__ == "__main__":
    main()
