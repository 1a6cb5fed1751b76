"""django-tenants: real tenants with schemas of their own, in a database of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection, connections

import aftercommit
from aftercommit.under_test import VARIABLE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]

SITE = Path(__file__).parent / "tenants_site"
LONGEST = 240  # seconds, of a site on a machine that has much else to do


@pytest.fixture
def site(tmp_path):
    """Return a function that runs tasks of the site and tells what is there afterwards."""
    if connection.vendor != "postgresql":
        pytest.skip("django-tenants needs PostgreSQL")
    pytest.importorskip("django_tenants")
    shutil.copytree(SITE, tmp_path, dirs_exist_ok=True)
    name = f"{connection.settings_dict['NAME']}_tenants"
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name}")
        cursor.execute(f"CREATE DATABASE {name}")
    parts = ("USER", "PASSWORD", "HOST", "PORT")
    database = {part: connection.settings_dict[part] for part in parts} | {"NAME": name}

    def run(names, texts):
        done = subprocess.run(
            [sys.executable, "run.py", ",".join(names), ",".join(texts)],
            cwd=tmp_path,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "settings",
                VARIABLE: "",
                "SITE_DATABASE": json.dumps(database),
                "PYTHONPATH": f"{Path(aftercommit.__file__).parents[1]}:{tmp_path}",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    yield run
    connections.close_all()
    with connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_each_job_runs_in_the_schema_of_its_tenant_and_none_in_that_of_the_one_before(site):
    texts = ("{schema} {name} fails", "{schema} {name}", "same")
    found = site(["plain", "atomic", "coroutine", "unique", "leaves", "batched"], texts)

    mixed = found["errors"].get("aftercommit.integrations.tenants.MixedTenants", 0)
    acme, globex = found["acme"], found["globex"]
    assert [one for one in acme if not one.startswith(("acme", "same"))] == []
    # The task that changes the schema by hand has left its own there; nothing else is there.
    strangers = {"acme leaves", "acme leaves fails"}
    assert {one for one in globex if not one.startswith(("globex", "same"))} == strangers
    batched = [one for one in [*acme, *globex] if "batched" in one]
    own = [one for one in acme if "batched" not in one and one != "same"]
    # That of "unique" is one job for each tenant, though they were called alike.
    assert own == sorted(
        f"acme {name}{end}"
        for name, ends in {
            "plain": ("", " fails"),
            "atomic": ("",),  # the other one is rolled back
            "coroutine": ("", " fails"),
            "unique": ("", " fails"),
        }.items()
        for end in ends
    )
    assert found["errors"]["builtins.ValueError"] == 3 * 2
    assert len(batched) + mixed >= 4
    assert found["states"]["succeeded"] + found["states"]["failed"] == 6 * 3 * 2
    assert found["afterwards"] == "public"
