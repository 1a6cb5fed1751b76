"""What the property tests share."""

import pytest
from hypothesis import settings

from aftercommit.enqueue import registry

# A slow machine is no failed property.
settings.register_profile("aftercommit", deadline=None)
settings.load_profile("aftercommit")


@pytest.fixture(autouse=True)
def _declared_for_this_test_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget tasks that a test declares: some are wrong on purpose."""
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))
