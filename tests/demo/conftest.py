"""A running demo for the tests: its own database, web server and worker."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "demo"
sys.path.insert(0, str(DEMO))  # as for `python demo/run.py`

from processes import Demo, any_free_port  # noqa: E402
from servers import KINDS, variables_for  # noqa: E402
from visitor import Visitor  # noqa: E402

from aftercommit.under_test import VARIABLE  # noqa: E402


@pytest.fixture(scope="session")
def kind() -> str:
    """Return the database under test, if the demo runs on it."""
    kind = os.environ.get("AFTERCOMMIT_DB", "sqlite")
    if kind not in KINDS:
        pytest.skip(f"the demo runs on {' and '.join(KINDS)}, not on {kind}")
    return kind


@pytest.fixture(scope="session")
def demo(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Run one demo for all tests that only look at it or add to it."""
    data = tmp_path_factory.mktemp("demo")
    name = f"aftercommit_demo_test_{os.getpid()}"
    with variables_for(kind, data=data, name=name, throw_away=True) as variables:
        own = {**variables, VARIABLE: ""}  # not the databases of this test run
        demo = Demo(data=data, database=kind, variables=own, port=any_free_port())
        demo.prepare()
        with demo.running():
            yield demo


@pytest.fixture
def visitor(demo: Demo) -> Iterator[Visitor]:
    """Come to the demo with no cookies."""
    with Visitor(demo.origin) as visitor:
        yield visitor
