"""The migrations say what the models say."""

import pytest
from django.core.management import call_command


@pytest.mark.django_db
@pytest.mark.parametrize("app", ["aftercommit", "app"])
def test_no_migration_is_missing(app):
    call_command("makemigrations", app, check=True, dry_run=True)
