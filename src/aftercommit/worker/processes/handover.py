"""What a new Python would not know: settings and databases that were changed after the start.

A test runner replaces the names of databases, tests override settings, programs add databases
while they run. A fork has all of this; a new Python loads the settings module again, and would
serve another database.
"""

import base64
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

from django.apps import apps
from django.conf import UserSettingsHolder, settings
from django.core.signals import setting_changed
from django.db import connections

from aftercommit.errors import ConfigurationError

Message = dict[str, Any]
DATABASES = "DATABASES"
SHARED_MEMORY = "mode=memory"  # in the name that Django gives test databases

_settings_at_start: dict[str, object] = {}
_databases_at_start: dict[str, dict[str, object]] = {}


def remember() -> None:
    """Note the settings and databases as the project has loaded them; opens no connection."""
    _settings_at_start.update(_settings())
    _databases_at_start.update({alias: _copy(one) for alias, one in _databases()})


def handover() -> Message:
    """Return what has changed since, for a new Python that trusts this process.

    Raises ``ConfigurationError`` for a value that cannot be handed over.
    """
    if not _settings_at_start:
        return {}
    now = _settings()
    changed = {
        name: _packed(name, value)
        for name, value in now.items()
        if name != DATABASES and value is not _settings_at_start.get(name)
    }
    databases: dict[str, str | None] = {}
    for alias, found in _databases():
        before = _databases_at_start.get(alias, {})
        if new := {key: value for key, value in found.items() if not _equal(before, key, value)}:
            databases[alias] = _packed(f"DATABASES[{alias!r}]", new)
    gone = _databases_at_start.keys() - set(connections)
    databases |= dict.fromkeys(gone)
    deleted = sorted(_settings_at_start.keys() - now.keys() - {DATABASES})
    return {"settings": changed, "deleted": deleted, "databases": databases}


def take_over(message: Message) -> None:
    """Change the settings and databases of this process to those of its parent."""
    for name, packed in message.get("settings", {}).items():
        setattr(settings, name, _unpacked(packed))
    for name in message.get("deleted", ()):
        delattr(settings, name)
    known = settings.DATABASES
    for alias, packed in message.get("databases", {}).items():
        if packed is None:
            known.pop(alias, None)
        else:
            known.setdefault(alias, {}).update(_unpacked(packed))
    if apps.ready:  # a program that configures its settings has called us
        _forget_caches(message)


def _forget_caches(message: Message) -> None:
    if message.get("databases"):
        connections.close_all()
    if names := message.get("settings"):
        import django.test.signals  # noqa: F401, PLC0415 - it knows what Django keeps of settings

        for name in names:
            setting_changed.send(None, setting=name, value=getattr(settings, name), enter=True)


def refuse_memory(aliases: set[str]) -> None:
    """Raise ``ConfigurationError`` if a database is in the memory of this process.

    ``aliases`` are those that are served. Another one counts if all connections share it: no
    production has that, and a task would find it empty.
    """
    for connection in connections.all():
        name = str(connection.settings_dict["NAME"])
        if connection.vendor != "sqlite" or not _is_in_memory(connection):
            continue
        if connection.alias in aliases or SHARED_MEMORY in name:
            raise ConfigurationError(
                f"Worker processes cannot be started: the database {connection.alias!r} is "
                f"SQLite in the memory of this process ({name}).\n"
                "Another process would find an empty database; nothing was run.\n"
                "Fix: in tests, call_command('flush_queue') runs jobs in this process, or give "
                f"DATABASES[{connection.alias!r}]['TEST']['NAME'] a file; elsewhere, use a file."
            )


def _is_in_memory(connection: Any) -> bool:
    return bool(connection.is_in_memory_db())


def _settings() -> dict[str, object]:
    """Return the raw values: of the module, and of whatever overrides them."""
    layers: list[Any] = [settings._wrapped]  # type: ignore[misc]
    while isinstance(layers[-1], UserSettingsHolder):
        layers.append(layers[-1].default_settings)
    found: dict[str, object] = {}
    for layer in reversed(layers):
        found |= {name: value for name, value in vars(layer).items() if name.isupper()}
        for name in getattr(layer, "_deleted", ()):
            found.pop(name, None)
    return found


def _databases() -> Iterator[tuple[str, Mapping[str, object]]]:
    for connection in connections.all():  # this thread may have replaced the dict of one
        yield connection.alias, connection.settings_dict


def _copy(database: Mapping[str, object]) -> dict[str, object]:
    return {
        key: dict(value) if isinstance(value, dict) else value for key, value in database.items()
    }


def _equal(before: Mapping[str, object], key: str, value: object) -> bool:
    try:
        return key in before and bool(before[key] == value)
    except Exception:  # of an __eq__() of the project
        return False


def _packed(name: str, value: object) -> str:
    try:
        return base64.b64encode(pickle.dumps(value)).decode()
    except Exception as error:
        raise ConfigurationError(
            f"Worker processes cannot be started: {name} was changed after the start of this "
            f"program, and its value cannot be handed to a new Python ({error}).\n"
            "They would run with the value of the settings module, perhaps on another "
            "database; nothing was run.\n"
            "Fix: use a value that can be pickled, for example an object of a class at the top "
            "level of a module."
        ) from error


def _unpacked(packed: str) -> Any:
    return pickle.loads(base64.b64decode(packed))  # noqa: S301 - the parent has packed it
