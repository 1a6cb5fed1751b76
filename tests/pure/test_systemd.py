"""Type=notify: what systemd hears of a worker, on a real socket."""

import os
import socket

import pytest

from aftercommit.windows.health import notify
from aftercommit.windows.health.notify import Notifier
from tests.pure.test_report import LONG, process, worker


@pytest.fixture
def clock(monkeypatch):
    """Return the clock, which a test moves."""
    clock = [1000.0]
    monkeypatch.setattr(notify, "now", lambda: clock[0])
    return clock


@pytest.fixture(params=["a file", "an abstract name"])
def systemd(request, monkeypatch, tmp_path):
    """Return a socket on which systemd listens."""
    name = f"{tmp_path}/notify"
    shown = name if request.param == "a file" else f"@{name}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(name if shown == name else f"\0{name}")
    listener.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", shown)
    monkeypatch.setenv("WATCHDOG_USEC", "20000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    yield listener
    listener.close()


def heard(listener):
    """Return the words that have arrived."""
    words = []
    while True:
        try:
            words += listener.recv(4096).decode().split("\n")
        except BlockingIOError:
            return words


def test_it_is_told_of_readiness_once_and_pinged_at_half_of_the_time(systemd, clock):
    notifier = Notifier()
    notifier.tell(worker(process(ready=False, missing_for=1.0)))
    assert heard(systemd) == [
        "STATUS=worker process 7 has not started yet for 1 s",
        "WATCHDOG=1",
    ]
    notifier.tell(worker(process()))
    assert heard(systemd) == ["READY=1", "STATUS=claims jobs"]
    clock[0] += 9.9
    notifier.tell(worker(process()))
    assert heard(systemd) == []
    clock[0] += 0.2
    notifier.tell(worker(process()))
    assert heard(systemd) == ["WATCHDOG=1"]


def test_a_stop_is_told_once_and_pinged_until_its_end(systemd, clock):
    notifier = Notifier()
    notifier.tell(worker(process()))
    heard(systemd)
    clock[0] += 11
    for _time in range(2):
        notifier.tell(worker(process(), stopping=True))

    assert heard(systemd) == [
        "STOPPING=1",
        "STATUS=the worker stops: it claims no more jobs",
        "WATCHDOG=1",
    ]


def test_a_worker_that_only_a_new_one_can_help_is_not_pinged(systemd, clock):
    notifier = Notifier()
    notifier.tell(worker(process()))
    heard(systemd)
    clock[0] += 11
    notifier.tell(worker(process(stuck_for=LONG, problems=("it hangs",))))

    assert heard(systemd) == ["STATUS=worker process 7: it hangs"]
    notifier.tell(worker(process()))
    assert heard(systemd) == ["STATUS=claims jobs", "WATCHDOG=1"]


def test_a_reason_stays_one_line_and_sets_no_other_word(systemd, clock):
    Notifier().tell(worker(process(problems=("away\nMAINPID=1\n" + "x" * 999,))))

    status, ping = heard(systemd)
    assert status.startswith("STATUS=worker process 7: away")
    assert len(status) < 400
    assert ping == "WATCHDOG=1"


@pytest.mark.parametrize(
    ("microseconds", "pid"), [("", ""), ("no", ""), ("20000000", "1"), ("20000000", "x")]
)
def test_without_a_watchdog_for_this_process_nothing_is_pinged(
    systemd, clock, monkeypatch, microseconds, pid
):
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    Notifier().tell(worker(process()))

    assert heard(systemd) == ["READY=1", "STATUS=claims jobs"]


def test_programs_that_tasks_start_do_not_speak_for_the_worker(systemd):
    Notifier()

    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)


def test_a_systemd_that_does_not_listen_is_told_later(systemd, clock, monkeypatch):
    notifier = Notifier()
    with monkeypatch.context() as away:
        away.setattr(notifier, "_address", "/nowhere/at/all")
        notifier.tell(worker(process()))
    assert heard(systemd) == []

    notifier.tell(worker(process()))
    assert "READY=1" in heard(systemd)


def test_without_systemd_nothing_is_sent(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    sent = []
    monkeypatch.setattr(notify.socket, "socket", sent.append)

    Notifier().tell(worker(process()))

    assert sent == []
