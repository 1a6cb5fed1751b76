"""What the parent concludes from the way in which a process has ended."""

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from aftercommit.worker.processes import launch, memory
from aftercommit.worker.processes.launch import Child


def ended(monkeypatch, code: int, *, oom_kills: int = 0) -> Child:
    """Return a process that has ended so, while the kernel killed so many."""
    process: Any = SimpleNamespace(returncode=code)
    nothing: Any = None
    child = Child(process=process, channel=nothing, board=nothing, oom_kills=5)
    monkeypatch.setattr(launch, "oom_kills", lambda: 5 + oom_kills)
    return child


@pytest.mark.parametrize(
    ("code", "death"),
    [
        (0, "exit status 0"),
        (3, "exit status 3"),
        (-signal.SIGSEGV, "signal SIGSEGV"),
        (-signal.SIGRTMIN - 1, f"signal {signal.SIGRTMIN + 1}"),
    ],
)
def test_what_a_process_does_itself_is_its_own_death(monkeypatch, code, death):
    child = ended(monkeypatch, code)

    assert (child.death, child.own_death) == (death, death)


def test_a_kill_comes_from_outside(monkeypatch):
    child = ended(monkeypatch, -signal.SIGKILL)

    assert (child.death, child.own_death) == ("signal SIGKILL", None)


def test_unless_the_kernel_has_killed_for_want_of_memory(monkeypatch):
    child = ended(monkeypatch, -signal.SIGKILL, oom_kills=1)

    assert child.own_death == "signal SIGKILL, because memory ran out"


def test_the_own_control_group_counts_before_the_machine(monkeypatch, tmp_path):
    (tmp_path / "cgroup").write_text("12:pids:/x\n0::/system.slice/worker.service\n")
    (tmp_path / "vmstat").write_text("pgfault 7\noom_kill 9\n")
    monkeypatch.setattr(memory, "OWN_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "MACHINE", tmp_path / "vmstat")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)

    assert memory.oom_kills() == 9

    group = tmp_path / "system.slice" / "worker.service"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("oom 1\noom_kill 2\n")

    assert memory.oom_kills() == 2


def test_where_nobody_counts_there_are_none(monkeypatch, tmp_path):
    for name in ("OWN_CGROUP", "MACHINE"):
        monkeypatch.setattr(memory, name, tmp_path / "not there")

    assert memory.oom_kills() == 0
