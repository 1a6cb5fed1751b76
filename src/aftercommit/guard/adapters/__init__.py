"""How the dispatches of each library are noticed: a module for each, ``install(on_import)``.

They call ``dispatches.passing`` and know neither the guard nor its settings.
"""

from collections.abc import Iterable
from importlib import import_module

from aftercommit.guard.adapters.names import ADAPTERS, MODULES
from aftercommit.guard.patches import OnImport

_on_import = OnImport()


def notice(adapters: Iterable[str] = tuple(ADAPTERS)) -> None:
    """Notice the dispatches of these adapters from now on; twice does no harm."""
    for module in dict.fromkeys(MODULES[name] for name in adapters if name in MODULES):
        import_module(module).install(_on_import)


def stop_noticing() -> None:
    """Wait for no more imports."""
    _on_import.forget()
