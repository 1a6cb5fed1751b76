"""A worker process obeys the orders of parents of other versions."""

import pytest

from aftercommit.options.worker import WorkerConfig
from aftercommit.worker.processes import child
from aftercommit.worker.processes.child import WorkerProcess


@pytest.mark.parametrize("handed", [{}, {"handover": None}, {"handover": {"settings": {}}}])
def test_a_parent_that_hands_nothing_over_is_obeyed(monkeypatch, handed):
    taken = []
    monkeypatch.setattr(child, "_load_project", taken.append)
    monkeypatch.setattr(child, "config_of", lambda given: given)
    monkeypatch.setattr(child.sys, "argv", [])
    monkeypatch.setattr(WorkerProcess, "_handle_signals", lambda self: None)
    monkeypatch.setattr(WorkerProcess, "_work", lambda self, config, orders, prepare: prepare())
    config = WorkerConfig()

    WorkerProcess([{"argv": ["manage.py"], "config": config, **handed}], None, None).run()

    assert taken == [handed.get("handover") or {}]
