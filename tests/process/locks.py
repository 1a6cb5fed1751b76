"""Loaded by a worker: notes each time that a driver says a database is locked.

It looks where every error of a driver passes, COMMIT and BEGIN as well, whoever catches it.
"""

import os
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.utils import DatabaseErrorWrapper

from aftercommit.store.sqlite.store import SQLiteStore
from tests.app.notes import note

leave = DatabaseErrorWrapper.__exit__


def watched(wrapper: Any, kind: Any, error: Any, traceback: Any) -> None:
    """Note it and go on."""
    if error is not None and "locked" in str(error):
        note("locked", error=str(error))
    leave(wrapper, kind, error, traceback)


@contextmanager
def plain_begin(store: Any) -> Any:
    """Begin without saying that something will be written: a mutant."""
    store.connection.ensure_connection()
    store.connection.transaction_mode = "DEFERRED"
    with transaction.atomic(using=store.alias):
        yield


DatabaseErrorWrapper.__exit__ = watched
if os.environ.get("AFTERCOMMIT_TEST_MUTANT") == "plain begin":
    SQLiteStore._write = plain_begin
