"""Checks of the settings: whether tasks that want to read from a replica can."""

from typing import Any

from django.core.checks import CheckMessage, Warning
from django.db import connections, router

from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.registry import declared_tasks, option
from aftercommit.options.reads import replicas_in
from aftercommit.reads import ReplicaRouter

ALIAS = "Name an alias of DATABASES; until then the task reads from the primary."
FIRST = 'Let DATABASE_ROUTERS begin with "aftercommit.ReplicaRouter".'


def check_reads(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of ``read_from`` without the router that obeys it, or of unknown aliases."""
    wanted = {
        f"read_from of the task {task.module_path}": option(task, "read_from")
        for task in declared_tasks()
    }
    for one in our_backends():
        wanted[f"OPTIONS['read_from'] of the backend {one.alias!r}"] = one.config.read_from
    named = {where: aliases for where, one in wanted.items() if (aliases := replicas_in(one))}
    if not named:
        return []
    where = next(iter(named))
    found = [
        _warning(f"{where} names the database alias {alias!r}, which does not exist.", ALIAS)
        for where, aliases in named.items()
        for alias in aliases
        if alias not in connections.settings
    ]
    if not any(isinstance(one, ReplicaRouter) for one in router.routers):
        found.append(_warning(f"{where} names a replica, and no router obeys it.", FIRST))
    elif not isinstance(router.routers[0], ReplicaRouter):
        found.append(
            _warning(f"{where} names a replica, and another router is asked first.", FIRST)
        )
    return found


def _warning(what: str, hint: str) -> CheckMessage:
    return Warning(what, hint=hint, id="aftercommit.W020")
