"""The guard, switched on for one test."""

import pytest

from aftercommit.guard import install, race_found, uninstall
from aftercommit.guard.reporting import forget_logged


@pytest.fixture
def watch():
    """Return a function that switches the guard on, with its options."""
    forget_logged()
    yield install
    uninstall()


@pytest.fixture
def found():
    """Return the list of what the guard finds, with the mode."""
    findings = []

    def note(finding, mode, **_):
        findings.append((finding, mode))

    race_found.connect(note)
    yield findings
    race_found.disconnect(note)


@pytest.fixture
def send():
    """Return a function that dispatches something that goes nowhere."""
    from aftercommit.guard.dispatches import (  # noqa: PLC0415 - beside what it makes
        Dispatch,
        Later,
        passing,
        someone_is_interested,
    )

    sent = []

    def dispatch(subject="shop.tasks.send_receipt", adapter="celery", **more):
        def leave():
            sent.append(subject)
            return "sent"

        if not someone_is_interested():
            return leave()
        return passing(
            Dispatch(
                adapter=adapter,
                subject=subject,
                **{"send": leave, "prepare": lambda: Later("waits", leave), **more},
            )
        )

    dispatch.sent = sent
    return dispatch
