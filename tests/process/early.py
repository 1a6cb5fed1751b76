"""A project whose tasks' module uses the database when it is imported, as some do."""

import os

from django.db import connections

from tests.app.models import Effect

Effect.objects.exists()

if os.environ.get("AFTERCOMMIT_TEST_MUTANT") == "preload":  # which closes nothing then
    connections.close_all = lambda: None
