"""Whether the kernel kills processes because memory has run out."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
MACHINE = Path("/proc/vmstat")


def oom_kills() -> int:
    """Return how many processes were killed for it: here, or on the whole machine.

    Of the own control group if the kernel counts that, since others on the machine may run
    out of a memory of their own.
    """
    for file in (*_events_of_own_group(), MACHINE):
        with contextlib.suppress(OSError, ValueError):
            lines = dict(line.split() for line in file.read_text().splitlines())
            return int(lines["oom_kill"]) if "oom_kill" in lines else 0
    return 0


def _events_of_own_group() -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for line in OWN_CGROUP.read_text().splitlines():
            if line.startswith("0::/"):
                yield CGROUPS / line.removeprefix("0::/") / "memory.events"
