"""Django looks for the admin pages of an app here."""

from contextlib import suppress
from importlib import import_module

from aftercommit.errors import MissingBackport

with suppress(MissingBackport):  # a system check explains it
    import_module("aftercommit.windows.admin.groups")
    import_module("aftercommit.windows.admin.jobs")
    import_module("aftercommit.windows.admin.rules")
    import_module("aftercommit.windows.admin.schedules")
