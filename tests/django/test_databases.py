"""The frame itself: two real databases, which other processes reach as well."""

import os
import subprocess
import sys

import pytest
from django.db import connections

from tests.app.models import Account
from tests.databases import ALIASES

EXPECTED_VENDOR = {
    "sqlite": "sqlite",
    "postgres": "postgresql",
    "mariadb": "mysql",
    "mysql": "mysql",
}

both_databases = pytest.mark.django_db(transaction=True, databases=ALIASES)


@both_databases
def test_both_aliases_are_databases_of_the_wanted_kind(vendor):
    vendors = {connections[alias].vendor for alias in ALIASES}

    assert vendors == {vendor} == {EXPECTED_VENDOR[os.environ["AFTERCOMMIT_DB"]]}


@both_databases
def test_the_aliases_are_two_databases():
    Account.objects.using("other").create(balance=1)

    assert not Account.objects.using("default").exists()


@both_databases
@pytest.mark.parametrize("alias", ALIASES)
def test_another_process_sees_what_was_committed(alias):
    Account.objects.using(alias).create(balance=42)

    child = subprocess.run(
        [sys.executable, "-c", PRINT_BALANCE, alias],
        capture_output=True,
        text=True,
        check=True,
    )

    assert child.stdout.strip() == "42"


PRINT_BALANCE = """
import sys

import django

django.setup()

from tests.app.models import Account

print(Account.objects.using(sys.argv[1]).get())
"""
