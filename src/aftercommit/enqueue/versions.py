"""Versions of arguments: a queued call of an earlier version is upgraded when it is run."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.registry import option
from aftercommit.errors import ConfigurationError, NotUpgraded
from aftercommit.options.checked import check_counts
from aftercommit.stored import name_and_version, versioned

Arguments = tuple[list[Any], dict[str, Any]]
# Gets the version of the call, its args and its kwargs.
Upgrade = Callable[[int, list[Any], dict[str, Any]], tuple[Sequence[Any], Mapping[str, Any]]]
Upgraded = Callable[[list[Any], dict[str, Any]], Arguments]
MOST_VERSIONS = 999  # a task is registered under the name of each


def upgrade_of(task: Any, task_path: str) -> Upgraded | None:
    """Return what upgrades the arguments of a row with this name; None: they are as they are."""
    newest: int = option(task, "version", 1)
    if newest == 1:  # mostly
        return None
    version = name_and_version(task_path)[1]
    return partial(upgraded, task, version) if version < newest else None


def versions_of(name: str) -> list[str]:
    """Return the names under which calls of each known version are stored; the newest first."""
    newest: int = option(known_task(name), "version", 1)
    return [versioned(name, one) for one in range(newest, 0, -1)]


def upgraded(task: Any, version: int, args: list[Any], kwargs: dict[str, Any]) -> Arguments:
    """Return the arguments of a call of an earlier version as the newest version takes them.

    Raises ``NotUpgraded`` if ``upgrade`` raises, or returns no arguments.
    """
    try:
        made = task.upgrade(version, args, kwargs)
    except Exception as error:
        raise _not_upgraded(task, version, f"raised {type(error).__name__}: {error}") from error
    match made:
        case [list() | tuple() as new_args, Mapping() as new_kwargs]:
            return list(new_args), dict(new_kwargs)
    raise _not_upgraded(
        task,
        version,
        f"returned {type(made).__name__}, and not a list of args and a dict of kwargs",
    )


def _not_upgraded(task: Any, version: int, problem: str) -> NotUpgraded:
    return NotUpgraded(
        task_path=task.module_path, version=version, newest=task.version, problem=problem
    )


def check_version(task: Any) -> None:
    """Check the options of a task about versions; raises ``ConfigurationError``."""
    check_counts(MOST_VERSIONS, version=task.version)
    if task.upgrade is None:
        if task.version > 1:
            raise ConfigurationError(
                f"version={task.version} needs upgrade, a function of (version, args, kwargs) "
                "that returns the args and kwargs of this version: calls of earlier versions may "
                "be queued, and would be run with arguments that the function does not expect."
            )
        return
    if task.version == 1:
        raise ConfigurationError(
            "upgrade is for queued calls of earlier versions, and version 1 has none: add "
            "version=2, or leave upgrade out."
        )
    if not callable(task.upgrade) or iscoroutinefunction(task.upgrade):
        raise ConfigurationError(
            "upgrade: expected a plain function of (version, args, kwargs), got "
            f"{'an async function' if callable(task.upgrade) else type(task.upgrade).__name__}."
        )
