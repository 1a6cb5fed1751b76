"""Checks of the table for ``check --deploy``: whether waiting jobs can be run by this code."""

from collections.abc import Collection
from typing import Any

from django.core.checks import CheckMessage, Warning
from django.db import Error

from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.missing_keys import missing_keys
from aftercommit.enqueue.sealing import opened, put_back
from aftercommit.enqueue.signature import check_call
from aftercommit.enqueue.undeclared import newer, undeclared
from aftercommit.enqueue.versions import upgrade_of
from aftercommit.errors import SecretsUnreadable
from aftercommit.printable import without_passwords
from aftercommit.stored import loaded_secrets, name_and_version, without_version

MOST_NAMED = 10


def check_queued_names(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of jobs whose task nobody declares; a database that does not answer says nothing."""
    backends = our_backends()
    modules = [one for backend in backends for one in backend.config.task_modules]
    found: list[CheckMessage] = []
    for alias in dict.fromkeys(backend.using for backend in backends):
        store = next(backend.store for backend in backends if backend.using == alias)
        try:
            unknown = undeclared(store.queued_names(), modules)
        except Error:
            continue
        versions = newer(unknown)
        if versions:
            found.append(_of_versions(alias, list(versions.values())))
        unknown = [one for one in unknown if one not in versions]
        if unknown:
            found.append(_warning(alias, unknown))
    return found


def check_queued_versions(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of queued calls of earlier versions that the code here cannot upgrade.

    One call of each version of each task is upgraded, and thrown away.
    """
    found: list[CheckMessage] = []
    for backend in {one.using: one for one in our_backends()}.values():
        try:
            for name in sorted(backend.store.queued_names()):
                if problem := _problem_of(backend, name):
                    found.append(_not_upgraded(backend.using, name, problem))
        except Error:
            continue
    return found


def check_queued_secrets(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of waiting jobs whose secrets cannot be decrypted here."""
    found: list[CheckMessage] = []
    for backend in {one.using: one for one in our_backends()}.values():
        try:
            missing = missing_keys(backend.store)
        except Error:
            continue
        if missing:
            found.append(_without_key(backend.using, missing))
    return found


def _without_key(alias: str, missing: Collection[str]) -> CheckMessage:
    return Warning(
        f"Jobs wait in database {alias!r} whose secrets are encrypted with keys that "
        f"OPTIONS['secret_keys'] does not have: {', '.join(missing)}. They would fail.",
        hint="Put the keys back, behind the first one, until 'aftercommit secrets reencrypt' is "
        "done.",
        id="aftercommit.W019",
    )


def _problem_of(backend: DatabaseBackend, name: str) -> str:
    """Return why an earlier version cannot be upgraded, or nothing."""
    upgrade = upgrade_of(task := known_task(name), name)
    job = None if upgrade is None else backend.store.one_queued(name)
    if upgrade is None or job is None:
        return ""
    call, text = (job.args, job.kwargs), loaded_secrets(job.payload)
    try:
        if text is not None:
            put_back(call, opened(text, backend.config.secret_keys, job.id))
    except SecretsUnreadable:
        return ""  # which another check says
    try:
        args, kwargs = upgrade(*call)
        check_call(task, args, kwargs)
    except Exception as error:
        if text is not None:  # what it says may contain them
            return type(error).__name__
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return ""


def _not_upgraded(alias: str, name: str, problem: str) -> CheckMessage:
    return Warning(
        f"A queued call of version {name_and_version(name)[1]} of {without_version(name)} in "
        f"database {alias!r} cannot be upgraded, and would fail: {without_passwords(problem)}",
        hint="Correct upgrade() of the task before this code is deployed.",
        id="aftercommit.W018",
    )


def _of_versions(alias: str, versions: list[str]) -> CheckMessage:
    return Warning(
        f"Jobs wait in database {alias!r} for newer code than this: "
        f"{', '.join(versions[:MOST_NAMED])}. They stay where they are until a worker has it.",
        hint="Do not go back to this code before these jobs have run, or deploy workers with the "
        "newer code beside it.",
        id="aftercommit.W017",
    )


def _warning(alias: str, unknown: list[str]) -> CheckMessage:
    names = ", ".join(map(repr, unknown[:MOST_NAMED]))
    more = "" if len(unknown) <= MOST_NAMED else f" and {len(unknown) - MOST_NAMED} more"
    return Warning(
        f"Jobs wait in database {alias!r} for tasks that nothing here declares: {names}{more}. "
        "They stay where they are until a worker knows the task.",
        hint="If a function was moved or renamed, give its task the old path in aliases=(...). "
        "Otherwise cancel the jobs.",
        id="aftercommit.W015",
    )
