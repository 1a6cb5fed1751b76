"""Use the installed package as a new project would; see check_wheel.sh."""

from importlib import import_module, metadata, resources
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": Path(__file__).resolve().with_name("wheel.sqlite3"),
            "OPTIONS": {"transaction_mode": "IMMEDIATE"},
        }
    },
    INSTALLED_APPS=["aftercommit"],
    TASKS={"default": {"BACKEND": "aftercommit.DatabaseBackend"}},
    USE_TZ=True,
)
django.setup()
call_command("check", fail_level="WARNING")
call_command("migrate", verbosity=0)

package = import_module("aftercommit")
for name in package.__all__:
    getattr(package, name)
if not resources.files(package).joinpath("py.typed").is_file():
    raise SystemExit("The wheel lacks py.typed: type checkers will not look inside.")
print(f"aftercommit {metadata.version('aftercommit')}: installed, migrated, imported")
