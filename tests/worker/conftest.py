"""What the tests of the rooms share."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from aftercommit.worker.running.atomic import shared
from tests.worker.rig import Rig
from tests.worker.together import Together


@pytest.fixture
def rig(transactional_db: None) -> Iterator[Rig]:
    """Return the rooms of a worker around this thread."""
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture(params=["alone", "in company"])
def alone_and_in_company(
    rig: Rig, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Run atomic jobs in a transaction of their own, and in one shared with others."""
    monkeypatch.setattr(shared, "BUDGET", timedelta(minutes=1))
    monkeypatch.setattr(shared, "LONGEST", timedelta(minutes=1))
    rig.in_company = request.param == "in company"
    yield
    rig.check_company()


@pytest.fixture
def together(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Together:
    """Return jobs that share a transaction, however slow the machine is."""
    monkeypatch.setattr(shared, "BUDGET", timedelta(minutes=1))
    monkeypatch.setattr(shared, "LONGEST", timedelta(minutes=1))
    return Together(rig)
