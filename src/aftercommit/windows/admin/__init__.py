"""Pages in Django's admin; found by it when ``aftercommit`` is in INSTALLED_APPS."""

from contextlib import suppress

from aftercommit.errors import MissingBackport

with suppress(MissingBackport):  # a check says so
    from aftercommit.windows.admin import jobs as jobs
