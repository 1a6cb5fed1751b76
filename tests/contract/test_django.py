"""Django's own tests of ``django.tasks`` pass over our backend, but for ``LEFT_OUT``."""

import os
import unittest

import pytest

from tests.contract import djangos
from tests.contract.sources import NotFetched

try:
    MODULES = djangos.modules()
except NotFetched as reason:
    if os.environ.get("CI_REQUIRE_INDEX"):
        raise
    pytest.skip(f"Django's tests of its tasks cannot be had: {reason}", allow_module_level=True)

FEWEST = 66  # of Django 6.0; 6.1 has more


def _cases():
    for module in MODULES:
        for case in vars(module).values():
            own = isinstance(case, type) and case.__module__ == module.__name__
            if own and issubclass(case, unittest.TestCase):
                yield case


FOUND = {
    f"{case.__name__}.{name}": (case, name)
    for case in _cases()
    for name in unittest.defaultTestLoader.getTestCaseNames(case)
}
for _full_name in djangos.LEFT_OUT.keys() & FOUND.keys():
    setattr(*FOUND[_full_name], None)
globals().update({case.__name__: case for case, _name in FOUND.values()})


def test_what_is_left_out_is_there_and_most_of_it_is_run():
    assert djangos.LEFT_OUT.keys() <= FOUND.keys()
    assert len(FOUND) - len(djangos.LEFT_OUT) >= FEWEST
